//! What processes used: kept in either store, once, and never at the cost of a call.

use crate::{
    harness::{Place, Running, eventually, open_embedded, open_patiently, options},
    postgres::{Cluster, Stop},
    records::plain,
};
use mcpmeter_journal::{Opened, Options, ProcessSample, Reader, Retention, StoredSample};
use mcpmeter_observer::Timestamp;
use rusqlite::Connection;
use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Nobody listens on the discard port: the outbox only fills.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:9/none";
const DAY_US: i64 = 86_400_000_000;
const ALWAYS: [Timestamp; 2] = [Timestamp(0), Timestamp(i64::MAX)];

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn sample(instance: &str, at: i64) -> ProcessSample {
    ProcessSample {
        instance_id: instance.to_owned(),
        at: Timestamp(at),
        cpu_seconds_total: 1.5,
        resident_bytes: u64::MAX,
        processes: 3,
        restarts: 2,
        uptime_seconds: 60.25,
        unattributed_cpu_seconds: 0.125,
    }
}

/// One as it comes back: more bytes than a column holds are as many as it does.
fn kept(instance: &str, at: i64) -> ProcessSample {
    ProcessSample { resident_bytes: i64::MAX as u64, ..sample(instance, at) }
}

async fn read(reader: &Reader, instance: Option<&str>, [from, to]: [Timestamp; 2]) -> Vec<ProcessSample> {
    let stored = reader.process_samples(instance, from, to).await.unwrap();
    stored.into_iter().map(|StoredSample { sample, .. }| sample).collect()
}

/// Whatever the store: of one instance, of all, from an instant and before another, in their order.
async fn all_questions_are_answered(reader: &Reader, now: i64) {
    let [a, b] = ["a", "b ü"].map(|name| move |at: i64| kept(name, now + at));
    assert_eq!(read(reader, Some("a"), ALWAYS).await, [a(0), a(60), a(120)]);
    assert_eq!(read(reader, None, ALWAYS).await, [a(0), b(0), a(60), a(120)]);
    let middle = [now + 60, now + 120].map(Timestamp);
    assert_eq!(read(reader, None, middle).await, [a(60)]);
    assert_eq!(read(reader, Some("c"), ALWAYS).await, []);
}

fn three_minutes(now: i64) -> Vec<ProcessSample> {
    vec![sample("a", now), sample("b ü", now), sample("a", now + 60), sample("a", now + 120)]
}

fn in_file(file: &Path, table: &str) -> i64 {
    let connection = Connection::open(file).unwrap();
    connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_keeps_samples_once_and_gives_them_back() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let now = now();
    for _ in 0..2 {
        let Opened { journal, writer, .. } = open_embedded(&file);
        journal.sample(three_minutes(now));
        assert!(tokio::task::block_in_place(|| writer.flush()));
        all_questions_are_answered(&Reader::sqlite(&file).unwrap(), now).await;
        // Without a flush, too.
        journal.sample(vec![sample("a", now + 120)]);
        tokio::task::block_in_place(|| writer.close()).unwrap();
        assert_eq!(journal.lost_samples(), 0);
    }
    assert_eq!(in_file(&file, "process_sample_outbox"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_wait_for_postgresql_and_are_there_once_when_it_is_back() {
    let place = Place::new(Arc::new(Cluster::new()));
    let running = place.run();
    let now = now();
    let [first, rest] = [three_minutes(now)[..1].to_vec(), three_minutes(now)[1..].to_vec()];
    running.journal.sample(first);
    let there = "select count(*) from mcpmeter.mcp_process_sample";
    eventually("PostgreSQL has its tables", || running.journal.health().postgres.unwrap().ok).await;
    eventually("the first is told", || place.count(there) == 1).await;
    place.cluster.stop(Stop::Immediate);
    running.journal.sample(rest);
    eventually("the others wait", || place.in_file("process_sample_outbox") >= 3).await;
    // The next process finds them, and tells one again that PostgreSQL has already.
    running.abandon().await;
    let running = place.run();
    running.journal.sample(vec![sample("a", now)]);
    place.cluster.start();
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.in_file("process_sample_outbox"), 0);
    assert_eq!((place.count(there), place.in_file("mcp_process_sample")), (4, 0));
    assert_eq!(journal.lost_samples(), 0);
    all_questions_are_answered(&Reader::postgres(&place.url.parse().unwrap()).unwrap(), now).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_waits_for_all_samples_as_it_does_for_calls() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    let many = (0..2_500).map(|number| sample("a", number)).collect();
    running.journal.sample(many);
    running.close().await;
    assert_eq!(place.count("select count(*) from mcpmeter.mcp_process_sample"), 2_500);
    assert_eq!(place.in_file("process_sample_outbox"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_proxies_that_serve_one_instance_have_samples_of_their_own() {
    let cluster = Cluster::shared();
    let places = [Place::new(Arc::clone(&cluster)), Place::new(cluster)];
    let url = &places[0].url;
    let now = now();
    for place in &places {
        let running = Running::start(open_patiently(&options(&place.file(), Some(url))));
        running.journal.sample(vec![sample("a", now)]);
        running.close().await;
    }
    let reader = Reader::postgres(&url.parse().unwrap()).unwrap();
    let stored = reader.process_samples(Some("a"), ALWAYS[0], ALWAYS[1]).await.unwrap();
    assert_eq!(stored.len(), 2);
    assert_ne!(stored[0].spool_id, stored[1].spool_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_a_sample_for_ever_does_not_hold_up_the_others_nor_the_calls() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    eventually("PostgreSQL has its tables", || running.journal.health().postgres.unwrap().ok).await;
    place
        .cluster
        .query(&place.url, "alter table mcpmeter.mcp_process_sample add check (instance_id <> 'unwanted')");
    running.journal.sample(vec![sample("unwanted", now())]);
    eventually("it is dropped", || running.journal.lost_samples() == 1).await;
    running.journal.sample(vec![sample("a", now())]);
    running.journal.accept(plain(0));
    running.close().await;
    assert_eq!(place.count("select count(*) from mcpmeter.mcp_process_sample"), 1);
    assert_eq!(place.stored(), (1, 1));
}

#[test]
fn the_outbox_of_samples_drops_the_oldest_and_counts_them_and_no_call() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    // An eighth of the quota is for samples, at 128 bytes each.
    let options = Options { outbox_max_bytes: Some(2 << 20), ..options(&file, Some(NOWHERE)) };
    let most = (2 << 20) / 8 / 128;
    let Opened { journal, writer, .. } = open_patiently(&options);
    for round in 0..10 {
        journal.sample((0..400).map(|number| sample("a", round * 400 + number)).collect());
        journal.accept(plain(round.unsigned_abs()));
        assert!(writer.flush());
    }
    let accounts = journal.accounts();
    assert_eq!((accounts.outbox, accounts.lost_total()), (10, 0));
    assert_eq!(
        (in_file(&file, "process_sample_outbox"), journal.lost_samples()),
        (most, 4_000 - most as u64)
    );
    writer.close().unwrap();
    let connection = Connection::open(&file).unwrap();
    let oldest = "select min(at), max(at) from process_sample_outbox";
    let range: (i64, i64) = connection.query_row(oldest, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(range, (4_000 - most, 3_999));
}

#[test]
fn what_no_store_can_hold_or_nobody_takes_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let Opened { journal, writer, .. } = open_embedded(&file);
    journal.sample(vec![
        ProcessSample { uptime_seconds: f64::NAN, ..sample("a", 1) },
        ProcessSample { cpu_seconds_total: f64::INFINITY, ..sample("a", 2) },
        sample("a\0b", 3),
        sample("a", i64::MAX),
        sample("a", 4),
    ]);
    assert!(writer.flush());
    assert_eq!((journal.lost_samples(), in_file(&file, "mcp_process_sample")), (4, 1));
    // More at once than the writer is sent: it may take some of them meanwhile.
    journal.sample((0..20_000).map(|number| sample("a", 100 + number)).collect());
    assert!(writer.flush());
    let there = u64::try_from(in_file(&file, "mcp_process_sample")).unwrap();
    assert_eq!(there + journal.lost_samples(), 20_005);
    writer.close().unwrap();
    let lost = journal.lost_samples();
    journal.sample(vec![sample("a", 5)]);
    assert_eq!(journal.lost_samples(), lost + 1, "the journal is closed");
}

/// Samples of so many days ago.
fn of_ages(days: &[i64]) -> Vec<ProcessSample> {
    days.iter().map(|days| sample("a", now() - days * DAY_US)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_go_at_the_age_of_the_calls_or_after_35_days() {
    for (days, left) in [(0, 2), (2, 1)] {
        let retention = Retention { days, ..Retention::default() };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        let mut embedded = open_patiently(&Options { retention, ..options(&file, None) });
        embedded.journal.sample(of_ages(&[1, 34, 36]));
        assert!(tokio::task::block_in_place(|| embedded.writer.flush()));
        embedded.keeper.retain().await;
        assert_eq!(in_file(&file, "mcp_process_sample"), left, "{days}");
        tokio::task::block_in_place(|| embedded.writer.close()).unwrap();

        let place = Place::new(Cluster::shared());
        let opened = open_patiently(&Options { retention, ..options(&place.file(), Some(&place.url)) });
        let (running, mut keeper) = Running::start_and_keep(opened);
        running.journal.sample(of_ages(&[1, 34, 36]));
        eventually("PostgreSQL has its tables", || running.journal.health().postgres.unwrap().ok).await;
        let there = "select count(*) from mcpmeter.mcp_process_sample";
        eventually("they are told", || place.count(there) == 3).await;
        keeper.retain().await;
        assert_eq!(place.count(there), left.unsigned_abs(), "{days}");
        running.close().await;
    }
}
