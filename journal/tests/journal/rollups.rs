//! Rollups: whatever happened to the rows on their way, the cells say what the rows say, in both stores.

use crate::{
    harness::{PATIENCE, Place, eventually, open_embedded, open_patiently, options},
    postgres::Cluster,
    records::{MARCH, extremes, plain},
};
use mcpmeter_journal::{
    Cell, Dimension, Keeper, Options, Reader, Retention, Rollup, RollupQuery, Span, Subject, Sums,
};
use mcpmeter_observer::{CallId, CallRecord, Status, Text, Timestamp};
use rusqlite::Connection;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// From the middle of one bucket, over two midnights, to the middle of another.
const RANGE_US: i64 = 50 * 3_600_000_000 + 123_456_789;

/// Calls spread over [`RANGE_US`]: dense in some buckets, absent from others; every value also absent.
pub(crate) fn traffic(seed: u64, count: u64) -> Vec<Box<CallRecord>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut name = |of: &str, many: u32| -> Option<Text> {
        let number = random.u32(0..=many);
        (number > 0).then(|| if number == 1 { "".into() } else { format!("{of} {number}").into() })
    };
    let names: Vec<_> = (0..count)
        .map(|_| (name("tool", 5), name("organization", 2), name("user", 6), name("key", 3)))
        .collect();
    let record = |(number, (tool_name, organization_id, user_id, api_key_id))| {
        let number: u64 = number;
        let crowded = random.bool();
        let at = if crowded {
            random.i64(0..7) * 7_200_000_000 + random.i64(0..9_000_000)
        } else {
            random.i64(0..RANGE_US)
        };
        let created_at = Timestamp(MARCH.0 + 60_000_000 + at);
        Box::new(CallRecord {
            id: CallId::new(created_at, u128::from(seed * 100_000 + number) << 64),
            created_at,
            completed_at: created_at,
            duration_us: (800.0 / random.f64().max(1e-5).powf(1.3)) as u64,
            mcp_server_instance_id: format!("instance {}", random.u8(0..3)).into(),
            tool_name,
            organization_id,
            user_id,
            api_key_id,
            status: Status::ALL[random.usize(0..Status::ALL.len())],
            input_bytes: random.u64(0..10_000),
            output_bytes: random.u64(0..1_000_000),
            cpu_ms: random.bool().then(|| random.f64() * 100.0),
            ..*plain(number)
        })
    };
    (0..).zip(names).map(record).collect()
}

fn everything(subject: Subject, span: Span) -> RollupQuery {
    RollupQuery {
        subject,
        span,
        since: Timestamp(MARCH.0 - 86_400_000_000),
        until: Timestamp(MARCH.0 + RANGE_US + 86_400_000_000),
        only: Vec::new(),
        by_time: true,
        by: subject.dimensions().to_vec(),
        latency: true,
        present: false,
    }
}

fn value(record: &CallRecord, dimension: Dimension) -> Option<String> {
    let text = match dimension {
        Dimension::Instance => Some(&record.mcp_server_instance_id),
        Dimension::Tool => record.tool_name.as_ref(),
        Dimension::Organization => record.organization_id.as_ref(),
        Dimension::User => record.user_id.as_ref(),
        Dimension::Key => record.api_key_id.as_ref(),
    };
    text.map(|text| text.to_string())
}

/// What a cell has to say: number by number, from the records themselves.
#[derive(Debug, Default, PartialEq)]
struct Told {
    by_status: BTreeMap<String, u64>,
    sums: [u64; 4],
    /// To the microsecond: stores may add up in any order.
    times_us: [i64; 2],
    latency: BTreeMap<i16, u64>,
}

type Label = (Option<Timestamp>, Vec<Option<String>>);

fn naive(records: &[Box<CallRecord>], query: &RollupQuery) -> BTreeMap<Label, Told> {
    let mut cells: BTreeMap<Label, (Told, [f64; 2])> = BTreeMap::new();
    for record in records {
        let values = query.by.iter().map(|dimension| value(record, *dimension)).collect();
        let bucket = query.by_time.then(|| query.span.start_of(record.created_at));
        let (told, times) = cells.entry((bucket, values)).or_default();
        *told.by_status.entry(record.status.to_string()).or_default() += 1;
        let cpu_calls = u64::from(record.cpu_ms.is_some());
        for (sum, more) in told.sums.iter_mut().zip([1, record.input_bytes, record.output_bytes, cpu_calls]) {
            *sum += more;
        }
        times[0] += record.cpu_ms.unwrap_or_default();
        times[1] += record.duration_us as f64 / 1_000.0;
        *told.latency.entry(record.latency_bucket()).or_default() += 1;
    }
    let finish = |(label, (told, times)): (Label, (Told, [f64; 2]))| {
        (label, Told { times_us: times.map(|ms| (ms * 1_000.0).round() as i64), ..told })
    };
    cells.into_iter().map(finish).collect()
}

fn told(rollup: &Rollup) -> BTreeMap<Label, Told> {
    let tell = |Cell { bucket_start, values, sums }: &Cell| {
        let statuses = Status::ALL.iter().map(|status| (status.to_string(), sums.with_status(*status)));
        let told = Told {
            by_status: statuses.filter(|(_, calls)| *calls > 0).collect(),
            sums: [sums.calls, sums.input_bytes, sums.output_bytes, sums.cpu_calls],
            times_us: [sums.cpu_ms, sums.duration_ms].map(|ms| (ms * 1_000.0).round() as i64),
            latency: sums.latency.buckets().iter().copied().collect(),
        };
        ((*bucket_start, values.clone()), told)
    };
    let cells: BTreeMap<_, _> = rollup.cells.iter().map(tell).collect();
    assert_eq!(cells.len(), rollup.cells.len(), "a cell came twice");
    cells
}

/// Every table, alone and with what is not rolled up yet, says what the records say. If marks are left, the
/// tables alone may lag behind.
pub(crate) async fn assert_right(reader: &Reader, records: &[Box<CallRecord>], all_rolled_up: bool) {
    for (subject, span) in Subject::ALL.into_iter().flat_map(|subject| Span::ALL.map(|span| (subject, span)))
    {
        assert_table_right(reader, records, all_rolled_up, subject, span).await;
    }
}

pub(crate) async fn assert_table_right(
    reader: &Reader,
    records: &[Box<CallRecord>],
    all_rolled_up: bool,
    subject: Subject,
    span: Span,
) {
    for present in if all_rolled_up { vec![false, true] } else { vec![true] } {
        let query = RollupQuery { present, ..everything(subject, span) };
        let rollup = reader.rollup(&query).await.unwrap();
        let (is, should) = (told(&rollup), naive(records, &query));
        for (label, expected) in &should {
            assert_eq!(is.get(label), Some(expected), "{subject:?} {span:?} {present} {label:?}");
        }
        assert_eq!(is.len(), should.len(), "{subject:?} {span:?} {present}");
        if all_rolled_up {
            assert!(rollup.rolled_up_to > query.until, "{:?}", rollup.rolled_up_to);
        }
    }
}

/// The same without the 5 minutes of users, which go with their rows.
pub(crate) async fn assert_what_stays_right(
    reader: &Reader,
    records: &[Box<CallRecord>],
    all_rolled_up: bool,
) {
    for (subject, span) in Subject::ALL.into_iter().flat_map(|subject| Span::ALL.map(|span| (subject, span)))
    {
        if (subject, span) != (Subject::Usage, Span::FiveMinutes) {
            assert_table_right(reader, records, all_rolled_up, subject, span).await;
        }
    }
}

pub(crate) fn postgres_reader(place: &Place) -> Reader {
    Reader::postgres(&place.url.parse().unwrap()).unwrap()
}

/// A second proxy at the same PostgreSQL, of which only the keeper is used.
pub(crate) fn keeper_of(place: &Place, name: &str) -> Keeper {
    open_patiently(&options(&place.directory.path().join(name), Some(&place.url))).keeper
}

/// Records on their way through an outbox of that name, until they are stored.
pub(crate) async fn ship(place: &Place, name: &str, records: &[Box<CallRecord>]) {
    let opened = open_patiently(&options(&place.directory.path().join(name), Some(&place.url)));
    let running = crate::harness::Running::start(opened);
    records.iter().for_each(|record| running.journal.accept(record.clone()));
    running.close().await;
}

const MARKS: &str = "select count(*) from mcpmeter.rollup_dirty";

#[tokio::test(flavor = "multi_thread")]
async fn cells_in_postgresql_say_what_the_rows_say_also_late_and_twice() {
    let place = Place::new(Cluster::shared());
    let (reader, mut keeper) = (postgres_reader(&place), keeper_of(&place, "keeper.db"));
    let mut records = traffic(1, 1_500);
    let late = records.split_off(1_200);
    ship(&place, "a.db", &records).await;
    assert!(place.count(MARKS) > 100);
    assert_right(&reader, &records, false).await;
    keeper.roll_up().await;
    assert_eq!(place.count(MARKS), 0);
    assert_right(&reader, &records, true).await;

    // Late, by another proxy.
    ship(&place, "b.db", &late).await;
    records.extend(late);
    assert_right(&reader, &records, false).await;
    keeper.roll_up().await;
    assert_right(&reader, &records, true).await;

    // The same again, as from a backup that was put back.
    ship(&place, "c.db", &records[1_100..1_250]).await;
    assert_eq!(place.stored(), (1_500, 1_500));
    keeper.roll_up().await;
    assert_right(&reader, &records, true).await;

    // A round without marks changes nothing; neither does one over everything.
    place.cluster.query(
        &place.url,
        "insert into mcpmeter.rollup_dirty (bucket_start, spool_id)
         select distinct bucket_start, gen_random_uuid() from mcpmeter.rollup_5min_tool",
    );
    keeper.roll_up().await;
    assert_right(&reader, &records, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_in_the_embedded_store_say_what_the_rows_say_also_late_and_twice() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("embedded.db");
    let mut opened = open_embedded(&file);
    let reader = Reader::sqlite(&file).unwrap();
    let all = traffic(2, 1_500);
    // In order, late, and again.
    for (batch, records) in [(0..1_200, 0..1_200), (1_200..1_500, 0..1_500), (1_100..1_500, 0..1_500)] {
        all[batch].iter().for_each(|record| opened.journal.accept(record.clone()));
        tokio::task::block_in_place(|| assert!(opened.writer.flush()));
        assert_right(&reader, &all[records.clone()], false).await;
        opened.keeper.roll_up().await;
        assert_right(&reader, &all[records], true).await;
    }
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_keepers_that_die_at_any_moment_end_up_with_the_right_cells() {
    let place = Arc::new(Place::new(Cluster::shared()));
    let mut proxies = tokio::task::JoinSet::new();
    let mut records = Vec::new();
    for number in 0..3 {
        let traffic = traffic(10 + number, 900);
        records.extend(traffic.clone());
        let place = Arc::clone(&place);
        proxies.spawn(async move {
            let name = format!("{number}.db");
            for part in traffic.chunks(150) {
                ship(&place, &name, part).await;
            }
        });
    }
    eventually("the schema", || {
        place.cluster.query(&place.url, "select to_regclass('mcpmeter.rollup_dirty') is not null") == "t"
    })
    .await;
    let killed = kill_leaders_until_shipped(&place, &mut proxies).await;
    assert!(killed > 0, "no leader was killed in the middle");
    let reader = postgres_reader(&place);
    assert_right(&reader, &records, false).await;
    let mut keeper = keeper_of(&place, "last.db");
    let began = std::time::Instant::now();
    while place.count(MARKS) > 0 {
        assert!(began.elapsed() < PATIENCE);
        keeper.roll_up().await;
    }
    assert_right(&reader, &records, true).await;
}

/// Keepers at work while proxies ship; their connections are cut, and they themselves are dropped, again and
/// again. Says how many leaders had begun to write when they were cut off.
async fn kill_leaders_until_shipped(place: &Place, proxies: &mut tokio::task::JoinSet<()>) -> u64 {
    let mut killed = 0;
    for round in 0_u64.. {
        let mut keepers = tokio::task::JoinSet::new();
        for number in 0..2 {
            let mut keeper = keeper_of(place, &format!("keeper {round} {number}.db"));
            keepers.spawn(async move { keeper.roll_up().await });
        }
        let _ = tokio::time::timeout(Duration::from_millis(3 + round % 40), keepers.join_next()).await;
        if round % 2 == 0 {
            // The leader holds the advisory lock, and has a transaction number once it has written.
            killed += place.count(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity join pg_locks using (pid)
                 where locktype = 'advisory' and granted and backend_xid is not null
                   and datname = current_database() and query not like '%ensure_partitions%'",
            );
        }
        keepers.abort_all();
        while keepers.join_next().await.is_some() {}
        while let Some(done) = proxies.try_join_next() {
            done.unwrap();
        }
        if proxies.is_empty() && killed > 0 || round > 500 {
            break;
        }
    }
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_outlive_their_rows_and_rows_that_come_later_still_are_added() {
    let place = Place::new(Cluster::shared());
    let (reader, mut keeper) = (postgres_reader(&place), keeper_of(&place, "keeper.db"));
    let mut records = traffic(3, 1_000);
    let late = records.split_off(700);
    ship(&place, "a.db", &records).await;
    keeper.roll_up().await;
    place.cluster.query(&place.url, "drop table mcpmeter.mcp_server_request_log_20260301");
    assert_right(&reader, &records, true).await;
    let day = |record: &CallRecord| Span::Day.start_of(record.created_at);
    assert!(late.iter().filter(|record| day(record) == MARCH).count() > 100);
    for part in late.chunks(150) {
        // Each time the day comes back as a new partition, whose rows are all there is of it.
        ship(&place, "a.db", part).await;
        records.extend(part.iter().cloned());
        assert_what_stays_right(&reader, &records, false).await;
        keeper.roll_up().await;
        assert_what_stays_right(&reader, &records, true).await;
        place.cluster.query(&place.url, "drop table mcpmeter.mcp_server_request_log_20260301");
        assert_what_stays_right(&reader, &records, true).await;
    }
    let usage = "select count(*) from mcpmeter.rollup_5min_usage where kept_at is not null";
    assert_eq!(place.count(usage), 0, "short cells of whole days are not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_in_the_embedded_store_outlive_their_rows_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("embedded.db");
    let all = traffic(7, 1_000);
    let embedded = open_embedded(&file);
    all[..800].iter().for_each(|record| embedded.journal.accept(record.clone()));
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();
    // From now on, all rows are too old.
    let retention = Retention { days: 1, ..Retention::default() };
    let mut embedded = open_patiently(&Options { retention, ..options(&file, None) });
    let (reader, count) = (Reader::sqlite(&file).unwrap(), Connection::open(&file).unwrap());
    let count = |sql: &str| count.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    embedded.keeper.retain().await;
    assert_eq!(count("select count(*) from mcp_server_request_log"), 800, "not yet rolled up");
    for known in [800, 900, 1_000] {
        all[known - 100..known]
            .iter()
            .filter(|_| known > 800)
            .for_each(|r| embedded.journal.accept(r.clone()));
        tokio::task::block_in_place(|| assert!(embedded.writer.flush()));
        embedded.keeper.roll_up().await;
        assert_what_stays_right(&reader, &all[..known], true).await;
        embedded.keeper.retain().await;
        assert_eq!(count("select count(*) from mcp_server_request_log"), 0);
        assert_what_stays_right(&reader, &all[..known], true).await;
    }
    // The last hours have not been passed yet.
    let (short, cells) =
        (count("select count(*) from rollup_5min_usage"), count("select count(*) from rollup_5min_tool"));
    assert!(short < cells / 2, "{short} of {cells}");
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_are_within_five_percent_of_percentile_cont() {
    let place = Place::new(Cluster::shared());
    let records = traffic(4, 4_000);
    ship(&place, "a.db", &records).await;
    keeper_of(&place, "keeper.db").roll_up().await;
    let reader = postgres_reader(&place);
    for (span, unit) in [(Span::Hour, "hour"), (Span::Day, "day")] {
        let query = RollupQuery { by: vec![Dimension::Instance], ..everything(Subject::Tool, span) };
        let cells = reader.rollup(&query).await.unwrap().cells;
        assert!(cells.len() > 5);
        let mut exact = BTreeMap::new();
        let told = place.cluster.query(
            &place.url,
            &format!(
                "select extract(epoch from date_trunc('{unit}', created_at, 'UTC'))::bigint, mcp_server_instance_id,
                        array_to_string(percentile_cont(array[0, 0.5, 0.9, 0.95, 0.99, 1])
                                        within group (order by duration_ms), ' ')
                 from mcpmeter.mcp_server_request_log group by 1, 2"
            ),
        );
        for line in told.lines() {
            let parts: Vec<_> = line.split('|').collect();
            let percentiles: Vec<f64> = parts[2].split(' ').map(|part| part.parse().unwrap()).collect();
            exact.insert((parts[0].parse::<i64>().unwrap() * 1_000_000, parts[1].to_owned()), percentiles);
        }
        assert_eq!(exact.len(), cells.len());
        for Cell { bucket_start, values, sums } in cells {
            let exact = &exact[&(bucket_start.unwrap().0, values[0].clone().unwrap())];
            for (fraction, exact) in [0.0, 0.5, 0.9, 0.95, 0.99, 1.0].into_iter().zip(exact) {
                let told = sums.latency.percentile_ms(fraction).unwrap();
                assert!((told - exact).abs() <= 0.05 * exact, "{span:?} {fraction}: {told} for {exact}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_answer_alike_and_two_resolutions_agree() {
    let place = Place::new(Cluster::shared());
    let file = place.directory.path().join("embedded.db");
    let mut embedded = open_embedded(&file);
    let mut records = traffic(5, 1_000);
    records.extend(extremes(6));
    ship(&place, "a.db", &records).await;
    records.iter().for_each(|record| embedded.journal.accept(record.clone()));
    tokio::task::block_in_place(|| assert!(embedded.writer.flush()));
    let [postgres, sqlite] = [postgres_reader(&place), Reader::sqlite(&file).unwrap()];
    let mut keeper = keeper_of(&place, "keeper.db");
    for rolled_up in [false, true] {
        if rolled_up {
            keeper.roll_up().await;
            embedded.keeper.roll_up().await;
        }
        for subject in Subject::ALL {
            assert_alike(&[&postgres, &sqlite], subject).await;
        }
    }
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();
}

async fn assert_alike(readers: &[&Reader; 2], subject: Subject) {
    let first = subject.dimensions()[0];
    let name = if subject == Subject::Tool { "instance 1" } else { "organization 2" };
    let whole =
        RollupQuery { by: Vec::new(), by_time: false, present: true, ..everything(subject, Span::Day) };
    let questions = [
        whole.clone(),
        RollupQuery { by: vec![first], ..whole.clone() },
        RollupQuery { only: vec![(first, Some(name.to_owned()))], by_time: true, ..whole.clone() },
        RollupQuery { only: vec![(subject.dimensions()[1], None)], ..whole.clone() },
        RollupQuery { only: vec![(subject.dimensions()[1], Some(String::new()))], ..whole.clone() },
        RollupQuery { latency: false, by: subject.dimensions().to_vec(), ..whole.clone() },
    ];
    for question in questions {
        let mut totals = Vec::new();
        for span in Span::ALL {
            let query = RollupQuery { span, ..question.clone() };
            let [postgres, sqlite] =
                [readers[0].rollup(&query).await.unwrap(), readers[1].rollup(&query).await.unwrap()];
            assert!(!postgres.cells.is_empty(), "{query:?}");
            assert_eq!(rounded(&postgres), rounded(&sqlite), "{query:?}");
            assert_eq!(postgres.rolled_up_to, sqlite.rolled_up_to);
            let total = postgres.cells.iter().fold(Sums::default(), |mut sum, cell| {
                sum.merge(&cell.sums);
                sum
            });
            totals.push((total.calls, total.failures(), total.output_bytes, total.latency));
        }
        assert!(totals.windows(2).all(|pair| pair[0] == pair[1]), "{question:?}");
    }
}

/// Fractions to nine digits, as the order of adding up is anybody's.
fn rounded(rollup: &Rollup) -> Vec<String> {
    let cell = |cell: &Cell| {
        let (mut sums, label) = (cell.sums.clone(), (&cell.bucket_start, &cell.values));
        let times = [sums.cpu_ms, sums.duration_ms].map(|ms| format!("{ms:.9e}"));
        (sums.cpu_ms, sums.duration_ms) = (0.0, 0.0);
        format!("{label:?} {times:?} {sums:?}")
    };
    rollup.cells.iter().map(cell).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_filled_before_there_were_rollups_gets_them() {
    let place = Place::new(Cluster::shared());
    let file = place.directory.path().join("embedded.db");
    let records = traffic(6, 400);
    let embedded = open_embedded(&file);
    ship(&place, "a.db", &records).await;
    records.iter().for_each(|record| embedded.journal.accept(record.clone()));
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();
    place.cluster.query(
        &place.url,
        "drop table mcpmeter.rollup_dirty; delete from mcpmeter.schema_version where version > 1",
    );
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("delete from rollup_dirty; delete from meta where key = 'rollups'").unwrap();
    drop(connection);

    place.cluster.query(&place.url, include_str!("../../../schema.sql"));
    keeper_of(&place, "keeper.db").roll_up().await;
    assert_right(&postgres_reader(&place), &records, true).await;
    let mut embedded = open_embedded(&file);
    embedded.keeper.roll_up().await;
    assert_right(&Reader::sqlite(&file).unwrap(), &records, true).await;
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_of_this_moment_is_read_from_its_rows() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("embedded.db");
    let mut opened = open_embedded(&file);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp(i64::try_from(now.as_micros()).unwrap());
    opened.journal.accept(Box::new(CallRecord { created_at: now, ..*plain(1) }));
    tokio::task::block_in_place(|| assert!(opened.writer.flush()));
    let reader = Reader::sqlite(&file).unwrap();
    let until = Timestamp(now.0 + 1);
    let query = RollupQuery { since: now, until, present: true, ..everything(Subject::Tool, Span::Hour) };
    if Span::FiveMinutes.end_of(now).0 - now.0 > 30_000_000 {
        opened.keeper.roll_up().await;
        let tables_alone = RollupQuery { present: false, ..query.clone() };
        assert!(reader.rollup(&tables_alone).await.unwrap().cells.is_empty());
        let rollup = reader.rollup(&query).await.unwrap();
        assert_eq!(rollup.rolled_up_to, Span::FiveMinutes.start_of(now));
    }
    assert_eq!(reader.rollup(&query).await.unwrap().cells[0].sums.calls, 1);
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}
