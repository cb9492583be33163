//! What becomes of old rows: smaller, then gone, and nobody waits for it.

use crate::{
    harness::{Place, Running, eventually, open_patiently, options},
    postgres::Cluster,
    records::{MARCH, extremes, full, plain, unicode},
};
use mcpmeter_journal::{Keeper, Options, Reader, Retention, RollupQuery, Span, Subject};
use mcpmeter_observer::{CallId, CallRecord, Timestamp};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls};

const LOG: &str = "mcpmeter.mcp_server_request_log";

/// The journal of a place at work, with this retention.
fn run(place: &Place, retention: Retention) -> (Running, Keeper) {
    let options = Options { retention, ..options(&place.file(), Some(&place.url)) };
    Running::start_and_keep(open_patiently(&options))
}

async fn store(running: &Running, records: impl IntoIterator<Item = Box<CallRecord>>) {
    let before = running.journal.accounts().finished;
    let mut count = 0;
    for record in records {
        running.journal.accept(record);
        count += 1;
    }
    eventually("they are stored", || running.journal.accounts().stored == before + count).await;
}

fn has(place: &Place, table: &str) -> bool {
    place.cluster.query(&place.url, &format!("select to_regclass('{LOG}_{table}') is not null")) == "t"
}

/// Everything in every column of every row.
fn contents(place: &Place) -> String {
    place.cluster.query(
        &place.url,
        &format!("select count(*), md5(string_agg(r::text, '|' order by created_at, id)) from {LOG} r"),
    )
}

/// A connection for somebody else.
async fn stranger(place: &Place) -> Client {
    let (client, connection) = tokio_postgres::connect(&place.url, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    client
}

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

/// A call of this very moment.
fn present(number: u64) -> Box<CallRecord> {
    let created_at = now();
    Box::new(CallRecord {
        id: CallId::new(created_at, u128::from(number) << 64),
        created_at,
        ..*plain(number)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_too_old_are_dropped_and_a_late_call_is_stored_until_the_next_round() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention { days: 30, ..Retention::default() });
    // Two days of March, and today.
    store(&running, [plain(0), plain(1), plain(86_400_000), present(1)]).await;
    keeper.retain().await;
    assert!(has(&place, "20260301"), "rows that are not rolled up stay");
    keeper.roll_up().await;
    keeper.retain().await;
    assert!(!has(&place, "20260301") && !has(&place, "20260302"));
    assert_eq!(place.stored(), (1, 1));
    assert_eq!(
        place.count("select sum(calls) from mcpmeter.rollup_day_tool where bucket_start < '2026-04-01'"),
        3
    );

    store(&running, [plain(7)]).await;
    assert_eq!(place.stored(), (2, 2));
    keeper.roll_up().await;
    keeper.retain().await;
    assert_eq!(place.stored(), (1, 1));
    assert_eq!(
        place.count("select sum(calls) from mcpmeter.rollup_day_tool where bucket_start < '2026-04-01'"),
        4
    );
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_report_delays_the_dropping_and_never_the_recording() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention { days: 30, ..Retention::default() });
    store(&running, (0..10).map(plain)).await;
    keeper.roll_up().await;
    let report = stranger(&place).await;
    report.batch_execute(&format!("begin; select count(*) from {LOG}")).await.unwrap();
    for number in 0..8 {
        let began = Instant::now();
        keeper.retain().await;
        assert!(began.elapsed() < Duration::from_secs(10));
        store(&running, [present(number)]).await;
    }
    assert!(has(&place, "20260301"));
    report.batch_execute("commit").await.unwrap();
    keeper.retain().await;
    assert!(!has(&place, "20260301"));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_day_has_the_same_rows_takes_late_ones_and_is_smaller() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention { compress_after_days: 1, ..Retention::default() });
    let records = (0..3_000).map(|number| if number % 2 == 0 { full(number) } else { unicode(number) });
    let [mut greatest, least] = extremes(5_000);
    greatest.created_at = Timestamp(greatest.created_at.0 + 1);
    store(&running, records.chain([greatest, least])).await;
    keeper.roll_up().await;
    let size = format!("select pg_total_relation_size('{LOG}_20260301')");
    let (before, bytes) = (contents(&place), place.count(&size));
    keeper.retain().await;
    assert_eq!(contents(&place), before);
    assert!(place.count(&size) * 10 < bytes * 8, "{} of {bytes}", place.count(&size));
    assert!(!has(&place, "20260301_new") && !has(&place, "20260301_old"));

    let table = format!("select '{LOG}_20260301'::regclass::oid");
    let compressed = place.count(&table);
    store(&running, [plain(9_000)]).await;
    keeper.retain().await;
    assert_eq!(place.count(&table), compressed, "a day is compressed once");
    assert_eq!(place.stored(), (3_003, 3_003));
    assert_eq!(place.count(&format!("select count(*) from {LOG}_20260301")), 3_003);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressing_goes_on_where_it_was_killed_and_loses_no_row_that_came_meanwhile() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention { compress_after_days: 1, ..Retention::default() });
    store(&running, (0..100).map(plain)).await;
    let step = || place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
    // Killed while building: nothing is there.
    let half = stranger(&place).await;
    half.batch_execute("begin; select mcpmeter.compress_next(1)").await.unwrap();
    drop(half);
    eventually("that is undone", || step() == "built mcp_server_request_log_20260301").await;
    // Killed after it was built; rows come; killed after the exchange.
    store(&running, (100..110).map(plain)).await;
    assert_eq!(step(), "exchanged mcp_server_request_log_20260301");
    store(&running, (110..120).map(plain)).await;
    keeper.roll_up().await;
    keeper.retain().await;
    assert_eq!(place.stored(), (120, 120));
    assert!(!has(&place, "20260301_new") && !has(&place, "20260301_old"));
    // The rollup of before the last step lacked those ten; it has been told.
    keeper.roll_up().await;
    assert_eq!(place.count("select sum(calls) from mcpmeter.rollup_day_tool"), 120);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressing_that_is_switched_off_half_way_is_finished_and_goes_no_further() {
    for steps in [1, 2] {
        let place = Place::new(Cluster::shared());
        let (running, mut keeper) = run(&place, Retention { compress_after_days: 1, ..Retention::default() });
        store(&running, (0..100).map(plain).chain([plain(86_400_000)])).await;
        for number in 0..steps {
            place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
            store(&running, [plain(1_000 + number)]).await;
        }
        keeper.roll_up().await;
        running.close().await;

        let (running, mut keeper) = run(&place, Retention::default());
        keeper.retain().await;
        assert!(!has(&place, "20260301_new") && !has(&place, "20260301_old"), "after {steps} steps");
        assert_eq!(place.stored(), (101 + steps, 101 + steps));
        assert_eq!(place.count(&format!("select count(*) from {LOG}_20260301")), 100 + steps);
        keeper.roll_up().await;
        assert_eq!(place.count("select sum(calls) from mcpmeter.rollup_day_tool"), 101 + steps);
        let compressed = "select count(*) from pg_class where obj_description(oid) like '%, compressed'";
        assert_eq!(place.count(compressed), 1, "the next day is left alone");
        running.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_somebody_drops_or_takes_away_while_it_is_compressed_stops_nobody() {
    for (what, left) in
        [("drop table", false), ("alter table mcpmeter.mcp_server_request_log detach partition", true)]
    {
        let place = Place::new(Cluster::shared());
        let (running, mut keeper) = run(&place, Retention { compress_after_days: 1, ..Retention::default() });
        store(&running, [plain(0), plain(86_400_000)]).await;
        keeper.roll_up().await;
        let step = || place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
        assert_eq!(step(), "built mcp_server_request_log_20260301");
        place.cluster.query(&place.url, &format!("{what} {LOG}_20260301"));
        keeper.retain().await;
        assert_eq!(has(&place, "20260301_new"), left);
        let compressed = format!("select obj_description('{LOG}_20260302'::regclass) like '%, compressed'");
        assert_eq!(place.cluster.query(&place.url, &compressed), "t");
        assert_eq!(place.stored(), (1, 1));
        running.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_somebody_else_made_are_left_alone_whatever_they_are_called() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention { compress_after_days: 1, ..Retention::default() });
    store(&running, (0..10).map(plain)).await;
    place.cluster.query(
        &place.url,
        &format!(
            "alter table {LOG} detach partition {LOG}_20260301;
             alter table {LOG}_20260301 rename to mcp_server_request_log_20260301_old;
             create table {LOG}_20260302_old as select * from {LOG}_20260301_old;
             create table {LOG}_20260302_new as select * from {LOG}_20260301_old;
             select mcpmeter.ensure_partitions('2026-03-02', '2026-03-02')"
        ),
    );
    let step = || place.cluster.query(&place.url, "select mcpmeter.compress_next(0)");
    assert_eq!(step(), "");
    keeper.retain().await;
    for table in ["20260301_old", "20260302_old", "20260302_new"] {
        assert_eq!(place.count(&format!("select count(*) from {LOG}_{table}")), 10, "{table}");
    }
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_call_that_comes_while_its_day_is_dropped_finds_a_partition() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention::default());
    store(&running, [plain(0)]).await;
    let mut dropping = stranger(&place).await;
    let dropping = dropping.transaction().await.unwrap();
    dropping.batch_execute(&format!("lock table {LOG} in access exclusive mode")).await.unwrap();
    running.journal.accept(plain(1));
    // It has seen that the partition is there.
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and query like 'copy %'";
    eventually("it is about to be stored", || place.count(waiting) == 1).await;
    dropping.batch_execute("select mcpmeter.drop_day('2026-03-01 00:00:00+00')").await.unwrap();
    dropping.commit().await.unwrap();
    eventually("it is stored", || running.journal.accounts().stored == 2).await;
    assert_eq!(place.stored(), (1, 1));
    assert_eq!(place.count(&format!("select count(*) from {LOG}_20260301")), 1);
    keeper.retain().await;
    assert_eq!(running.journal.health().default_partition_rows, 0);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_report_delays_the_compressing_and_never_the_recording() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention { compress_after_days: 1, ..Retention::default() });
    store(&running, (0..10).map(plain)).await;
    let report = stranger(&place).await;
    report.batch_execute(&format!("begin; select count(*) from {LOG}")).await.unwrap();
    for number in 10..18 {
        keeper.retain().await;
        store(&running, [plain(number)]).await;
    }
    assert!(has(&place, "20260301_new") && !has(&place, "20260301_old"), "built, not exchanged");
    report.batch_execute("commit").await.unwrap();
    keeper.retain().await;
    assert!(!has(&place, "20260301_new") && !has(&place, "20260301_old"));
    assert_eq!(place.stored(), (18, 18));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keepers_at_once_do_it_once() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention { compress_after_days: 1, ..Retention::default() });
    store(&running, (0..20).map(|number| plain(number * 86_400_000 / 4))).await;
    let before = contents(&place);
    let mut others: Vec<_> = Vec::new();
    for _ in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let retention = Retention { compress_after_days: 1, ..Retention::default() };
        let file = directory.path().join("journal.db");
        let opened = open_patiently(&Options { retention, ..options(&file, Some(&place.url)) });
        others.push((opened, directory));
    }
    let rounds = others.iter_mut().map(|(opened, _)| opened.keeper.retain());
    let (mut rounds, own) = (rounds.collect::<Vec<_>>(), keeper.retain());
    let (Some(third), Some(second), Some(first)) = (rounds.pop(), rounds.pop(), rounds.pop()) else {
        panic!()
    };
    tokio::join!(own, first, second, third);
    // Whoever came second left it to the first.
    keeper.retain().await;
    assert_eq!(contents(&place), before);
    let left = "select count(*) from pg_class where relname ~ '_(new|old)$' and relnamespace = 'mcpmeter'::regnamespace";
    assert_eq!(place.count(left), 0);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_in_the_default_partition_is_noticed_and_can_be_moved_out() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = run(&place, Retention::default());
    store(&running, [plain(0)]).await;
    keeper.retain().await;
    assert_eq!(running.journal.health().default_partition_rows, 0);
    place.cluster.query(
        &place.url,
        &format!(
            "create temporary table t as select * from {LOG};
             update t set created_at = created_at + interval '100 days'; insert into {LOG} select * from t;
             update t set created_at = created_at + interval '1 day'; insert into {LOG} select * from t"
        ),
    );
    let before = contents(&place);
    keeper.retain().await;
    assert_eq!(running.journal.health().default_partition_rows, 2);
    assert_eq!(place.count("select mcpmeter.empty_default_partition()"), 2);
    keeper.retain().await;
    assert_eq!(running.journal.health().default_partition_rows, 0);
    assert_eq!(contents(&place), before);
    assert!(has(&place, "20260609") && has(&place, "20260610"));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_made_ahead_without_any_traffic() {
    let place = Place::new(Arc::clone(&Cluster::shared()));
    let (running, mut keeper) = run(&place, Retention::default());
    eventually("the tables are there", || running.journal.health().postgres.unwrap().ok).await;
    let names = format!(
        "select string_agg(inhrelid::regclass::text, ', ') from pg_inherits
         where inhparent = '{LOG}'::regclass and inhrelid::regclass::text not like '%default'"
    );
    let all = place.cluster.query(&place.url, &names);
    place.cluster.query(&place.url, &format!("drop table {all}"));
    keeper.retain().await;
    assert!(place.cluster.query(&place.url, &names).split(", ").count() >= 8);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_owner_may_delete() {
    let place = Place::new(Cluster::shared());
    let (running, _) = run(&place, Retention::default());
    eventually("the tables are there", || running.journal.health().postgres.unwrap().ok).await;
    let everybody = "select string_agg(proname, ' ' order by proname)
                     from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) as entry
                     where pronamespace = 'mcpmeter'::regnamespace and entry.grantee = 0
                       and proname in ('default_partition_rows', 'empty_default_partition', 'lock_expired_day',
                                       'drop_day', 'compress_next')";
    assert_eq!(place.cluster.query(&place.url, everybody), "default_partition_rows");
    running.close().await;
}

/// Calls in a store of its own, closed again.
fn embedded(
    place: &Place,
    records: impl Iterator<Item = Box<CallRecord>>,
    retention: Retention,
) -> mcpmeter_journal::Opened {
    let opened = open_patiently(&Options { retention, ..options(&place.file(), None) });
    for record in records {
        opened.journal.accept(record);
    }
    assert!(opened.writer.flush());
    opened
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_store_loses_what_is_too_old_and_its_rollups_stay() {
    let place = Place::new(Cluster::shared());
    let retention = Retention { days: 30, ..Retention::default() };
    let mut opened = embedded(&place, (0..2_000).map(|n| plain(n * 1_000)).chain([present(1)]), retention);
    opened.keeper.retain().await;
    assert_eq!(place.in_file("mcp_server_request_log"), 2_001, "rows that are not rolled up stay");
    opened.keeper.roll_up().await;
    opened.keeper.retain().await;
    assert_eq!(place.in_file("mcp_server_request_log"), 1);
    let file = rusqlite::Connection::open(place.file()).unwrap();
    let calls = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(calls("select sum(calls) from rollup_day_tool"), 2_000);
    opened.writer.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_store_loses_its_oldest_rows_beyond_its_size_and_gives_the_space_back() {
    const MAX: u64 = 4 << 20;
    let place = Place::new(Cluster::shared());
    let retention = Retention { sqlite_max_bytes: MAX, ..Retention::default() };
    let mut opened = embedded(&place, (0..20_000).map(|n| plain(n * 1_000)), retention);
    opened.keeper.roll_up().await;
    // The writer goes on meanwhile.
    opened.keeper.retain().await;
    opened.journal.accept(present(1));
    assert!(opened.writer.flush());
    let file = rusqlite::Connection::open(place.file()).unwrap();
    let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
    let pages = number("pragma page_count") - number("pragma freelist_count");
    let left = place.in_file("mcp_server_request_log");
    assert!(pages * 8_192 <= MAX && left > 1_000, "{pages} pages, {left} rows");
    let oldest = number("select min(created_at) from mcp_server_request_log");
    assert_eq!(
        number("select max(created_at) from mcp_server_request_log") / 1_000_000_000,
        now().0.unsigned_abs() / 1_000_000_000
    );
    assert!(oldest > 1_772_323_200_000_000, "the oldest went");
    opened.writer.close().unwrap();
    let bytes = std::fs::metadata(place.file()).unwrap().len();
    assert!(bytes < MAX + (2 << 20), "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_comes_for_a_bucket_of_the_sqlite_store_that_is_half_deleted_is_counted_once() {
    const CALLS: u64 = 6_000;
    let place = Place::new(Cluster::shared());
    let retention = Retention { days: 30, ..Retention::default() };
    // All in the same 5 minutes.
    let mut opened = embedded(&place, (0..CALLS).map(plain), retention);
    opened.keeper.roll_up().await;
    tokio::select! {
        () = opened.keeper.retain() => panic!("it was deleted at once"),
        () = eventually("it is half deleted", || place.in_file("mcp_server_request_log") < CALLS) => {}
    }
    for number in [CALLS, CALLS + 1] {
        opened.journal.accept(plain(number));
    }
    assert!(opened.writer.flush());
    assert!(place.in_file("mcp_server_request_log") > 1_000, "its rows are still there");
    let file = rusqlite::Connection::open(place.file()).unwrap();
    let counted = |table: &str| {
        let sum = format!("select sum(calls) from rollup_{table}");
        file.query_row(&sum, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let reader = Reader::sqlite(&place.file()).unwrap();
    assert_eq!(calls_of_march(&reader).await, CALLS + 2, "before it is rolled up again");
    // Half deleted, and then not at all.
    for left in [1, 0] {
        opened.keeper.roll_up().await;
        for table in ["5min_tool", "hour_tool", "day_tool", "day_usage"] {
            assert_eq!(counted(table), CALLS + 2, "{table}");
        }
        assert_eq!(calls_of_march(&reader).await, CALLS + 2);
        opened.keeper.retain().await;
        opened.keeper.retain().await;
        assert_eq!(place.in_file("mcp_server_request_log"), 0, "{left}");
    }
    opened.writer.close().unwrap();
}

/// All calls of March 2026 as the reader tells them, those that are not rolled up included.
async fn calls_of_march(reader: &Reader) -> u64 {
    let query = RollupQuery {
        subject: Subject::Tool,
        span: Span::Day,
        since: MARCH,
        until: Timestamp(MARCH.0 + 31 * 86_400_000_000),
        only: Vec::new(),
        by_time: false,
        by: Vec::new(),
        latency: false,
        present: true,
    };
    reader.rollup(&query).await.unwrap().cells.iter().map(|cell| cell.sums.calls).sum()
}
