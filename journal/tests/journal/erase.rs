//! Erasing a person: nothing of theirs is left anywhere, nothing of anybody else's is touched, and the totals say what
//! the rows say.

use crate::{
    harness::{Place, eventually, open_embedded, open_patiently, options},
    postgres::Cluster,
    records::{MARCH, full, plain},
    rollups::{assert_right, keeper_of, postgres_reader, ship, traffic},
};
use mcpmeter_journal::{
    CallFilter, EraseError, EraseReport, Erasure, Manner, Opened, Options, Places, Reader, Retention, Whose,
    erase,
};
use mcpmeter_observer::{CallId, CallRecord, Text, Timestamp};
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const LOG: &str = "mcpmeter.mcp_server_request_log";
/// Whose calls are erased: names that stand nowhere by chance.
const ANN: &str = "ann-5b1f0c";
const ANNS_ORG: &str = "org-of-ann-77e2";

fn removal() -> Erasure {
    Erasure::new(Whose::User(ANN.to_owned()), Manner::Remove)
}

fn anonymising() -> Erasure {
    Erasure::new(Whose::User(ANN.to_owned()), Manner::Anonymise)
}

fn in_file(file: &Path) -> Places {
    Places { file: Some(file.to_owned()), ..Places::default() }
}

fn in_both(place: &Place) -> Places {
    Places { file: Some(place.file()), postgres: Some(place.url.parse().unwrap()), ..Places::default() }
}

/// Traffic of many, in which every user whose name ends with 2 is Ann, who shares all but her name with the others.
fn traffic_with_ann(seed: u64, count: u64) -> Vec<Box<CallRecord>> {
    let mut records = traffic(seed, count);
    for record in &mut records {
        if record.user_id.as_deref() == Some("user 2") {
            record.user_id = Some(ANN.into());
            record.client_ip = Some(format!("address of {ANN}").into());
            record.error_message = Some(format!("no such file: /home/{ANN}").into());
            record.organization_id = record.organization_id.take().map(|_| ANNS_ORG.into());
        }
    }
    records
}

fn is_anns(record: &CallRecord) -> bool {
    record.user_id.as_deref() == Some(ANN)
}

fn without_ann(records: &[Box<CallRecord>]) -> Vec<Box<CallRecord>> {
    records.iter().filter(|record| !is_anns(record)).cloned().collect()
}

/// The records with Ann's under another name, as far as rollups know them.
fn renamed(records: &[Box<CallRecord>], name: &str) -> Vec<Box<CallRecord>> {
    let rename = |record: &CallRecord| {
        if !is_anns(record) {
            return Box::new(record.clone());
        }
        let user_id = Some(Text::from(name));
        Box::new(CallRecord { user_id, organization_id: None, api_key_id: None, ..record.clone() })
    };
    records.iter().map(|record| rename(record)).collect()
}

/// Every row as JSON, by its id.
async fn rows(reader: &Reader) -> BTreeMap<String, serde_json::Value> {
    let rows = reader.calls(&CallFilter::default(), None, 1_000_000).await.unwrap();
    let key = |row: serde_json::Value| (row["id"].as_str().unwrap().to_owned(), row);
    rows.iter().map(|row| key(serde_json::to_value(row).unwrap())).collect()
}

/// How many rows the report has of a table.
fn of(report: &EraseReport, table: &str) -> u64 {
    report.rows.iter().filter(|((_, name), _)| name == table).map(|(_, rows)| rows).sum()
}

/// Whether the bytes stand anywhere in the file or its log.
fn bytes_in(file: &Path, text: &str) -> bool {
    let has = |path: PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    has(file.to_owned()) || has(file.with_extension("db-wal"))
}

fn accept(opened: &Opened, records: &[Box<CallRecord>]) {
    records.iter().for_each(|record| opened.journal.accept(record.clone()));
    tokio::task::block_in_place(|| assert!(opened.writer.flush()));
}

fn close(opened: Opened) {
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_calls_are_gone_from_a_store_to_the_last_byte_and_from_its_rollups() {
    for is_running in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        let records = traffic_with_ann(1, 1_500);
        let mut opened = open_embedded(&file);
        accept(&opened, &records);
        opened.keeper.roll_up().await;
        // Some buckets are marked, and some cells are not made yet.
        let late = traffic_with_ann(2, 100);
        accept(&opened, &late);
        let records: Vec<_> = records.into_iter().chain(late).collect();
        let mut running = Some(opened);
        if !is_running {
            close(running.take().unwrap());
        }
        let reader = Reader::sqlite(&file).unwrap();
        let (before, kept) = (rows(&reader).await, without_ann(&records));
        assert!(bytes_in(&file, ANN));

        let counted =
            erase(&Erasure::new(Whose::User(ANN.to_owned()), Manner::Count), &in_file(&file)).await.unwrap();
        let report = erase(&removal(), &in_file(&file)).await.unwrap();
        let gone = (records.len() - kept.len()) as u64;
        assert!(gone > 150 && of(&report, "rollup_hour_usage") > 10, "{report:?}");
        assert_eq!(of(&report, "mcp_server_request_log"), gone);
        assert_eq!((counted.rows, &report.left), (report.rows.clone(), &Vec::new()));
        assert_eq!(report.notes.len(), usize::from(is_running), "{:?}", report.notes);
        for name in [ANN, ANNS_ORG] {
            assert!(!bytes_in(&file, name), "{name}, running: {is_running}");
        }
        let after = rows(&reader).await;
        assert_eq!(after.len(), kept.len());
        assert!(after.iter().all(|(id, row)| before.get(id) == Some(row)), "others are as they were");
        assert_right(&reader, &kept, false).await;
        assert_eq!(erase(&removal(), &in_file(&file)).await.unwrap().total(), 0);

        let mut opened = running.unwrap_or_else(|| open_embedded(&file));
        opened.keeper.roll_up().await;
        assert_right(&reader, &kept, true).await;
        assert!(opened.journal.accounts().balance());
        close(opened);
        assert!(!bytes_in(&file, ANN));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymised_calls_count_as_before_under_a_name_that_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let mut records = traffic_with_ann(3, 1_200);
    // One that has a value in every column.
    records.push(Box::new(CallRecord { user_id: Some(ANN.into()), ..*full(777_777) }));
    let mut opened = open_embedded(&file);
    accept(&opened, &records);
    opened.keeper.roll_up().await;
    let reader = Reader::sqlite(&file).unwrap();
    let before = rows(&reader).await;

    let erasure = anonymising();
    let name = erasure.name().unwrap().to_owned();
    let report = erase(&erasure, &in_file(&file)).await.unwrap();
    assert_eq!(
        of(&report, "mcp_server_request_log"),
        records.iter().filter(|record| is_anns(record)).count() as u64
    );
    assert_eq!(report.left, []);
    let expected = renamed(&records, &name);
    // The tables themselves are right at once, and after the keeper has made them anew.
    assert_right(&reader, &expected, false).await;
    opened.keeper.roll_up().await;
    assert_right(&reader, &expected, true).await;
    for text in
        [ANN, ANNS_ORG, "agent 777777", "session 777777", "trace 777777", "message 777777", "ip 777777"]
    {
        assert!(!bytes_in(&file, text), "{text}");
    }
    let after = rows(&reader).await;
    assert_eq!(after.len(), before.len());
    let (theirs, others): (Vec<_>, Vec<_>) = after.values().partition(|row| row["user_id"] == name.as_str());
    assert!(
        others.iter().all(|row| before.get(row["id"].as_str().unwrap()) == Some(*row)),
        "others are as they were"
    );
    assert!(theirs.iter().all(|row| !before.contains_key(row["id"].as_str().unwrap())), "ids are new");
    let rich = theirs.iter().find(|row| row["tool_name"] == "tool 777777").unwrap();
    assert_eq!(
        (&rich["error_code"], &rich["memory_bytes"], &rich["match"]),
        (&"code 777777".into(), &15.into(), &"fifo".into())
    );
    assert!(
        rich["client_ip"].is_null() && rich["error_detail"].is_null() && rich["rpc_id"].is_null(),
        "{rich:#}"
    );
    assert_eq!(erase(&anonymising(), &in_file(&file)).await.unwrap().total(), 0);
    close(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_in_an_organisation_is_erased_at_once() {
    for manner in [Manner::Remove, Manner::Anonymise] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        let records = traffic(5, 800);
        let mut opened = open_embedded(&file);
        accept(&opened, &records);
        opened.keeper.roll_up().await;
        let erasure = Erasure::new(Whose::Organization("organization 2".to_owned()), manner);
        let report = erase(&erasure, &in_file(&file)).await.unwrap();
        let is_theirs = |record: &CallRecord| record.organization_id.as_deref() == Some("organization 2");
        assert_eq!(
            of(&report, "mcp_server_request_log"),
            records.iter().filter(|record| is_theirs(record)).count() as u64
        );
        let mut expected = records.clone();
        match erasure.name() {
            None => expected.retain(|record| !is_theirs(record)),
            Some(name) => {
                for record in expected.iter_mut().filter(|record| is_theirs(record)) {
                    (record.user_id, record.organization_id) = (Some(name.into()), None);
                    record.api_key_id = None;
                }
            }
        }
        let reader = Reader::sqlite(&file).unwrap();
        assert_right(&reader, &expected, false).await;
        opened.keeper.roll_up().await;
        assert_right(&reader, &expected, true).await;
        close(opened);
        assert!(!bytes_in(&file, "organization 2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_cells_whose_rows_are_gone_are_erased_and_added_up_too() {
    for manner in [Manner::Remove, Manner::Anonymise] {
        let place = Place::new(Cluster::shared());
        let embedded = place.directory.path().join("embedded.db");
        let retention = Retention { days: 30, ..Retention::default() };
        let mut opened = open_patiently(&Options { retention, ..options(&embedded, None) });
        let records = traffic_with_ann(7, 250);
        accept(&opened, &records);
        ship(&place, "a.db", &records).await;
        let file = place.directory.path().join("keeper.db");
        let mut keeper = open_patiently(&Options { retention, ..options(&file, Some(&place.url)) }).keeper;
        for keeper in [&mut opened.keeper, &mut keeper] {
            keeper.roll_up().await;
            keeper.retain().await;
        }
        assert_eq!(place.stored(), (0, 0), "all rows have reached their age");
        let erasure = Erasure::new(Whose::User(ANN.to_owned()), manner);
        let places = Places { postgres: Some(place.url.parse().unwrap()), ..in_file(&embedded) };
        let report = erase(&erasure, &places).await.unwrap();
        assert!(
            of(&report, "rollup_hour_usage") > 10 && of(&report, "mcp_server_request_log") == 0,
            "{report:?}"
        );
        let expected = match erasure.name() {
            Some(name) => renamed(&records, name),
            None => without_ann(&records),
        };
        for reader in [postgres_reader(&place), Reader::sqlite(&embedded).unwrap()] {
            assert_usage(&reader, &expected).await;
        }
        // A late call makes the keeper add up again what there is.
        let late = plain(123);
        accept(&opened, std::slice::from_ref(&late));
        ship(&place, "b.db", std::slice::from_ref(&late)).await;
        opened.keeper.roll_up().await;
        keeper.roll_up().await;
        let expected: Vec<_> = expected.into_iter().chain([late]).collect();
        for reader in [postgres_reader(&place), Reader::sqlite(&embedded).unwrap()] {
            assert_usage(&reader, &expected).await;
        }
        assert_eq!(erase(&erasure, &places).await.unwrap().total(), 0);
        close(opened);
        assert!(!bytes_in(&embedded, ANN));
    }
}

/// Usage per hour and day; that per 5 minutes goes with its rows. Tools, whose kept cells name nobody, keep Ann's calls.
async fn assert_usage(reader: &Reader, records: &[Box<CallRecord>]) {
    use crate::rollups::assert_table_right;
    use mcpmeter_journal::{Span, Subject};
    for span in [Span::Hour, Span::Day] {
        assert_table_right(reader, records, false, Subject::Usage, span).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_calls_are_gone_from_every_table_in_postgresql() {
    let place = Place::new(Cluster::shared());
    let records = traffic_with_ann(11, 3_000);
    let retention = Retention { compress_after_days: 1, ..Retention::default() };
    ship(&place, "a.db", &records).await;
    let file = place.directory.path().join("keeper.db");
    let mut keeper = open_patiently(&Options { retention, ..options(&file, Some(&place.url)) }).keeper;
    keeper.roll_up().await;
    let step = || place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
    // The first day is compressed, the second one is exchanged and not tidied up, the third is built and not exchanged.
    let steps = [(); 6].map(|()| step());
    assert_eq!(steps[2], "finished mcp_server_request_log_20260301");
    assert_eq!(steps[4], "exchanged mcp_server_request_log_20260302");
    assert_eq!(steps[5], "finished mcp_server_request_log_20260302");
    make_half_compressed(&place);
    // Rows in the default partition, and a day that was taken away.
    place.cluster.query(
        &place.url,
        &format!(
            "create temporary table t as select * from {LOG} limit 500;
             update t set created_at = created_at + interval '100 days', user_id = '{ANN}' where user_id is not null;
             delete from t where user_id is distinct from '{ANN}'; insert into {LOG} select * from t;
             create table {LOG}_20200101 as select * from t"
        ),
    );
    let stray = place.count(&format!("select count(*) from {LOG}_default"));
    assert!(stray > 100);
    let others = format!(
        "select count(*), md5(string_agg(r::text, '|' order by created_at, id)) from {LOG} r
         where user_id is distinct from '{ANN}'"
    );
    let before = place.cluster.query(&place.url, &others);
    let cursors = place
        .cluster
        .query(&place.url, "update mcpmeter.outbox_cursor set moved_at = now() - interval '31 days'");
    assert_eq!(cursors, "");

    let places = Places { postgres: Some(place.url.parse().unwrap()), ..Places::default() };
    let report = erase(&removal(), &places).await.unwrap();
    assert_eq!(report.left, []);
    assert_eq!(of(&report, "mcp_server_request_log_default"), stray);
    assert_eq!(of(&report, "mcp_server_request_log_20200101"), stray);
    let kept = without_ann(&records);
    assert_eq!(of(&report, "mcp_server_request_log"), (records.len() - kept.len()) as u64);
    assert!(of(&report, "mcp_server_request_log_20260303_old") > 0, "{report:?}");
    assert_nothing_in_postgres(&place);
    assert_eq!(place.cluster.query(&place.url, &others), before, "others are as they were");
    assert_right(&postgres_reader(&place), &kept, false).await;
    assert_eq!(erase(&removal(), &places).await.unwrap().total(), 0);

    // What was begun is finished, and brings nothing back.
    keeper.retain().await;
    keeper.roll_up().await;
    assert_eq!(place.stored().0, kept.len() as u64);
    assert_nothing_in_postgres(&place);
    assert_right(&postgres_reader(&place), &kept, true).await;
}

/// As after the exchange of the third day, with the former table still there.
fn make_half_compressed(place: &Place) {
    let built = place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
    assert_eq!(built, "built mcp_server_request_log_20260303");
    let exchanged = place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
    assert_eq!(exchanged, "exchanged mcp_server_request_log_20260303");
}

/// Neither in a row nor in a cell nor in statistics, of any table.
fn assert_nothing_in_postgres(place: &Place) {
    let tables = place.cluster.query(
        &place.url,
        "select relname from pg_class where relnamespace = 'mcpmeter'::regnamespace and relkind = 'r'",
    );
    assert!(tables.lines().count() > 10);
    for table in tables.lines() {
        for text in [ANN, ANNS_ORG] {
            let count = format!("select count(*) from mcpmeter.{table} as r where r::text like '%{text}%'");
            assert_eq!(place.count(&count), 0, "{text} in {table}");
        }
    }
    let statistics = format!(
        "select count(*) from pg_stats where most_common_vals::text like '%{ANN}%' or histogram_bounds::text like '%{ANN}%'"
    );
    assert_eq!(place.count(&statistics), 0, "in statistics");
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymised_calls_in_postgresql_keep_one_id_while_their_day_is_being_compressed() {
    let place = Place::new(Cluster::shared());
    let records = traffic_with_ann(13, 1_500);
    ship(&place, "a.db", &records).await;
    let mut keeper = keeper_of(&place, "keeper.db");
    keeper.roll_up().await;
    let step = || place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
    assert_eq!([step(), step()][1], "exchanged mcp_server_request_log_20260301");
    assert_eq!(place.cluster.query(&place.url, "analyze mcpmeter.mcp_server_request_log"), "");
    let erasure = anonymising();
    let name = erasure.name().unwrap().to_owned();
    let places =
        Places { postgres: Some(place.url.parse().unwrap()), elsewhere_done: true, ..Places::default() };
    let report = erase(&erasure, &places).await.unwrap();
    assert_eq!(report.left, []);
    assert_nothing_in_postgres(&place);
    let expected = renamed(&records, &name);
    assert_right(&postgres_reader(&place), &expected, false).await;
    assert_eq!(step(), "finished mcp_server_request_log_20260301");
    assert_eq!(place.stored(), (1_500, 1_500), "no row came twice");
    keeper.roll_up().await;
    assert_right(&postgres_reader(&place), &expected, true).await;
    let theirs =
        format!("select count(*) from {LOG} where user_id = '{name}' and substr(id::text, 15, 1) = '7'");
    assert_eq!(place.count(&theirs), records.iter().filter(|record| is_anns(record)).count() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_in_the_outbox_never_reach_postgresql_and_the_accounts_balance() {
    for manner in [Manner::Remove, Manner::Anonymise] {
        let place = Place::new(Cluster::shared());
        place.run().close().await;
        let records = traffic_with_ann(17, 600);
        place.leave_in_outbox(records.clone());
        let connection = Connection::open(place.file()).unwrap();
        // One that nobody can read, and that has her name in it; and somebody else's.
        let rubbish = "insert into outbox (format, record) values (1, ?1)";
        for text in [format!("\u{7f}{ANN}"), "\u{7f}bob".to_owned()] {
            connection.execute(rubbish, [text.as_bytes()]).unwrap();
        }
        drop(connection);
        let erasure = Erasure::new(Whose::User(ANN.to_owned()), manner);
        let report = erase(&erasure, &in_both(&place)).await.unwrap();
        let kept = without_ann(&records);
        let anns = (records.len() - kept.len()) as u64;
        assert_eq!((of(&report, "outbox"), of(&report, "mcp_server_request_log")), (anns + 1, 0));
        assert_eq!(report.left, []);
        assert!(!bytes_in(&place.file(), ANN));
        assert_eq!(erase(&erasure, &in_both(&place)).await.unwrap().total(), 0);

        let running = place.run();
        let journal = running.journal.clone();
        eventually("all are shipped", || journal.accounts().outbox == 0 && journal.accounts().queued == 0)
            .await;
        running.close().await;
        let accounts = journal.accounts();
        // What was removed counts as stored; what nobody could read and nobody has erased is lost, as ever.
        assert_eq!((accounts.stored, accounts.lost_total(), accounts.balance()), (601, 1, true));
        let expected = match erasure.name() {
            Some(name) => renamed(&records, name),
            None => kept,
        };
        assert_eq!(place.stored(), (expected.len() as u64, expected.len() as u64));
        assert_eq!((place.in_file("outbox"), place.in_file("quarantine")), (0, 1));
        assert_nothing_in_postgres(&place);
        assert_right(&postgres_reader(&place), &expected, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_the_quarantine_are_erased_with_the_reason_why_they_are_there() {
    for manner in [Manner::Remove, Manner::Anonymise] {
        let place = Place::new(Cluster::shared());
        place.leave_in_outbox((0..6).map(|number| {
            let user_id = Some(Text::from(if number % 2 == 0 { ANN } else { "bob" }));
            Box::new(CallRecord { user_id, user_agent: Some("nul \0".into()), ..*plain(number) })
        }));
        place.run().close().await;
        let connection = Connection::open(place.file()).unwrap();
        connection
            .execute(&format!("update quarantine set reason = 'row of {ANN}' where seq = 1"), [])
            .unwrap();
        let others =
            "select group_concat(seq || reason || hex(record)) from quarantine where seq in (2, 4, 6)";
        let read = || -> String { connection.query_row(others, [], |row| row.get(0)).unwrap() };
        let before = read();
        let erasure = Erasure::new(Whose::User(ANN.to_owned()), manner);
        let report = erase(&erasure, &in_both(&place)).await.unwrap();
        assert_eq!(of(&report, "quarantine"), 3);
        assert_eq!(place.in_file("quarantine"), if manner == Manner::Remove { 3 } else { 6 });
        assert_eq!(read(), before);
        drop(connection);
        assert!(!bytes_in(&place.file(), ANN));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_accepted_before_is_left_while_a_proxy_goes_on_storing() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    let journal = running.journal.clone();
    let call = |number: u64| {
        let user = if number.is_multiple_of(5) { ANN } else { "bob" };
        Box::new(CallRecord { user_id: Some(user.into()), ..*plain(number) })
    };
    (0..20_000).for_each(|number| journal.accept(call(number)));
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let others = journal.clone();
    let traffic = std::thread::spawn(move || {
        let mut number = 100_000;
        // A thousand calls a second.
        while stopped.recv_timeout(Duration::from_millis(1)).is_err() {
            others.accept(Box::new(CallRecord { user_id: Some("bob".into()), ..*plain(number) }));
            number += 1;
        }
        number - 100_000
    });
    let report = erase(&removal(), &in_both(&place)).await.unwrap();
    assert_eq!(report.left, []);
    assert!(of(&report, "outbox") + of(&report, "mcp_server_request_log") >= 4_000, "{report:?}");
    assert_eq!(place.count(&format!("select count(*) from {LOG} where user_id = '{ANN}'")), 0);
    stop.send(()).unwrap();
    let more = tokio::task::block_in_place(|| traffic.join().unwrap());
    running.close().await;
    let accounts = journal.accounts();
    assert_eq!(
        (accounts.stored, accounts.outbox, accounts.lost_total()),
        (20_000 + more, 0, 0),
        "{accounts:?}"
    );
    assert_eq!(place.stored(), (16_000 + more, 16_000 + more));
    assert_nothing_in_postgres(&place);
    assert!(!bytes_in(&place.file(), ANN));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_said() {
    let place = Place::new(Cluster::shared());
    ship(&place, "elsewhere.db", &[full(1)]).await;
    place.run().close().await;
    let aside = place.directory.path().join("journal.db.corrupt-20260301T000000.000000Z");
    fs::write(&aside, "damaged").unwrap();
    let report = erase(&removal(), &in_both(&place)).await.unwrap();
    let left: Vec<_> = report.left.iter().map(|left| left.text.as_str()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(
        left[0].contains("set aside") && left[1].contains("another proxy has stored calls here"),
        "{left:?}"
    );
    fs::remove_file(aside).unwrap();
    let done = Places { elsewhere_done: true, ..in_both(&place) };
    assert_eq!(erase(&removal(), &done).await.unwrap().left, []);

    // A role that only stores.
    place.cluster.query(
        &place.url,
        "create role storing login; grant usage on schema mcpmeter to storing;
         grant select, insert on all tables in schema mcpmeter to storing",
    );
    let postgres = Some(place.url.replace("postgres@", "storing@").parse().unwrap());
    let refused = erase(&removal(), &Places { postgres, ..Places::default() }).await.unwrap_err();
    assert!(matches!(refused, EraseError::Denied(_)), "{refused:?}");
    place.cluster.query(&place.url, "drop owned by storing; drop role storing");
    let nowhere = Some("postgres://postgres@127.0.0.1:1/x".parse().unwrap());
    let refused =
        erase(&removal(), &Places { postgres: nowhere, ..in_file(&place.file()) }).await.unwrap_err();
    assert!(refused.is_unreachable(), "{refused:?}");
    let other = place.directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("create table t (x)").unwrap();
    let refused = erase(&removal(), &in_file(&other)).await.unwrap_err();
    assert!(matches!(refused, EraseError::OtherVersion { .. }), "{refused:?}");
    assert!(!place.directory.path().join("other.db.lock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_partitions_is_erased_from_too() {
    let place = Place::new(Cluster::shared());
    place.run().close().await;
    place.cluster.query(
        &place.url,
        &format!(
            "create table mcpmeter.plain (like {LOG} including all); drop table {LOG};
             alter table mcpmeter.plain rename to mcp_server_request_log"
        ),
    );
    let records = traffic_with_ann(19, 300);
    ship(&place, "a.db", &records).await;
    let done = Places { elsewhere_done: true, ..in_both(&place) };
    let report = erase(&removal(), &done).await.unwrap();
    let kept = without_ann(&records);
    assert_eq!(of(&report, "mcp_server_request_log"), (records.len() - kept.len()) as u64);
    assert_eq!(place.stored().0, kept.len() as u64);
    assert_nothing_in_postgres(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_came_late_for_a_bucket_that_is_leaving_still_count_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let mut opened = open_embedded(&file);
    let at = |number: u64, user: &str| {
        let created_at = Timestamp(MARCH.0 + i64::try_from(number).unwrap());
        let id = CallId::new(created_at, u128::from(number) << 64);
        Box::new(CallRecord { id, created_at, user_id: Some(user.into()), ..*plain(number) })
    };
    accept(&opened, &[at(1, ANN), at(2, "bob")]);
    opened.keeper.roll_up().await;
    // As retention leaves it when the process dies between two pieces.
    let connection = Connection::open(&file).unwrap();
    for table in ["5min_tool", "5min_usage"] {
        connection.execute(&format!("update rollup_{table} set kept_at = 1"), []).unwrap();
    }
    connection.execute("insert into rollup_leaving values (?1)", [MARCH.0]).unwrap();
    accept(&opened, &[at(3, ANN), at(4, "bob")]);
    let erasure = anonymising();
    erase(&erasure, &in_file(&file)).await.unwrap();
    opened.keeper.roll_up().await;
    let cells = |name: &str| -> i64 {
        let sum = "select sum(calls) from rollup_5min_usage where user_id = ?1";
        connection.query_row(sum, [name], |row| row.get(0)).unwrap()
    };
    assert_eq!([cells(erasure.name().unwrap()), cells("bob")], [2, 2]);
    let late =
        "select count(*) from rollup_late as late join mcp_server_request_log as log using (created_at, id)";
    assert_eq!(connection.query_row(late, [], |row| row.get::<_, i64>(0)), Ok(2));
    close(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_cannot_be_written_over_now_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let opened = open_embedded(&file);
    accept(&opened, &traffic_with_ann(23, 50));
    let other = Connection::open(&file).unwrap();
    other.execute("insert into meta (key, value) values ('large', zeroblob(70 << 20))", []).unwrap();
    other.execute_batch("pragma wal_checkpoint(truncate); begin").unwrap();
    let read =
        || other.query_row("select count(*) from mcp_server_request_log", [], |row| row.get::<_, i64>(0));
    assert_eq!(read(), Ok(50));
    let report = erase(&removal(), &in_file(&file)).await.unwrap();
    let left: Vec<_> = report.left.iter().map(|left| left.text.as_str()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].contains("in use and large") && left[1].contains("log could not be cut"), "{left:?}");
    assert!(bytes_in(&file, ANN));
    other.execute_batch("rollback").unwrap();
    close(opened);
    let report = erase(&removal(), &in_file(&file)).await.unwrap();
    assert_eq!((report.total(), report.left), (0, Vec::new()));
    assert!(!bytes_in(&file, ANN));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_just_being_copied_is_waited_for_and_no_other_is_begun() {
    let place = Place::new(Cluster::shared());
    let records = traffic_with_ann(29, 400);
    ship(&place, "a.db", &records).await;
    let (client, connection) = tokio_postgres::connect(&place.url, tokio_postgres::NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    client.batch_execute("begin; select mcpmeter.compress_next(1)").await.unwrap();
    let places =
        Places { postgres: Some(place.url.parse().unwrap()), elsewhere_done: true, ..Places::default() };
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                   and database = (select oid from pg_database where datname = current_database())";
    let copying = async {
        eventually("it waits", || place.count(waiting) == 1).await;
        client.batch_execute("commit").await.unwrap();
    };
    let erasure = removal();
    let (report, ()) = tokio::join!(erase(&erasure, &places), copying);
    let report = report.unwrap();
    assert!(of(&report, "mcp_server_request_log_20260301_new") > 0, "{report:?}");
    assert_nothing_in_postgres(&place);
    // Afterwards it goes on.
    let step = place.cluster.query(&place.url, "select mcpmeter.compress_next(1)");
    assert_eq!(step, "exchanged mcp_server_request_log_20260301");
    assert_eq!(place.stored().0, without_ann(&records).len() as u64);
}
