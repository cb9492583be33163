//! The file: one owner, kept through trouble, complete after an orderly end.

use crate::{
    harness::{eventually, open_embedded, open_patiently, options, unwatched},
    records::plain,
};
use mcpmeter_journal::{CallFilter, LossReason, OpenError, Opened, Options, Reader, open};
use mcpmeter_observer::CallRecord;
use rusqlite::Connection;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_journal_on_the_same_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let first = open_embedded(&file);
    let error = open(options(&file, None), unwatched()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by another mcpmeter"), "{error}");
    tokio::task::block_in_place(|| first.writer.close()).unwrap();
    let second = open_embedded(&file);
    tokio::task::block_in_place(|| second.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_program_or_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (name, setup, told) in [
        ("foreign.db", "create table notes (text)", "another program"),
        ("newer.db", "pragma user_version = 99", "newer mcpmeter"),
    ] {
        let file = directory.path().join(name);
        Connection::open(&file).unwrap().execute_batch(setup).unwrap();
        let error = open(options(&file, None), unwatched()).map(drop).unwrap_err();
        let OpenError::File { source, .. } = &error else { panic!("{error}") };
        assert!(source.to_string().contains(told), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_makes_everything_durable_and_everything_was_seen_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let seen = Arc::new(AtomicU64::new(0));
    let watch = Arc::clone(&seen);
    let on_taken = Box::new(move |records: &[CallRecord]| {
        watch.fetch_add(records.len() as u64, Ordering::Relaxed);
    });
    let Opened { journal, writer, .. } = open(options(&file, None), on_taken).unwrap();
    for number in 0..10_000 {
        journal.accept(plain(number));
    }
    tokio::task::block_in_place(|| writer.close()).unwrap();
    assert_eq!(journal.accounts().stored, 10_000);
    assert_eq!(seen.load(Ordering::Relaxed), 10_000);
    let rows = Reader::sqlite(&file).unwrap().calls(&CallFilter::default(), None, 20_000).await.unwrap();
    assert_eq!(rows.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_panics_does_not_end_the_recording() {
    let directory = tempfile::tempdir().unwrap();
    let on_taken = Box::new(|_: &[CallRecord]| panic!("a fault in a metric"));
    let Opened { journal, writer, .. } =
        open(options(&directory.path().join("journal.db"), None), on_taken).unwrap();
    journal.accept(plain(0));
    tokio::task::block_in_place(|| assert!(writer.flush()));
    assert_eq!(journal.accounts().stored, 1);
    tokio::task::block_in_place(|| writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_is_waited_for_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let Opened { journal, writer, .. } = open_embedded(&file);
    let intruder = Connection::open(&file).unwrap();
    intruder.execute_batch("begin immediate").unwrap();
    for number in 0..100 {
        journal.accept(plain(number));
    }
    eventually("the trouble is noticed", || !journal.health().disk.ok).await;
    assert_eq!(journal.accounts().queued, 100);
    assert!(journal.health().disk.error.unwrap().contains("locked"));
    intruder.execute_batch("rollback").unwrap();
    eventually("the trouble is over", || journal.accounts().stored == 100).await;
    eventually("and said to be", || journal.health().disk.ok).await;
    tokio::task::block_in_place(|| writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_never_took_stays_in_the_queue_for_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let Opened { journal, writer, .. } = open_embedded(&file);
    let intruder = Connection::open(&file).unwrap();
    intruder.execute_batch("begin immediate").unwrap();
    for number in 0..100 {
        journal.accept(plain(number));
    }
    let error = tokio::task::block_in_place(|| writer.close()).unwrap_err();
    assert_eq!(error.records, 100);
    let accounts = journal.accounts();
    assert_eq!((accounts.lost_total(), accounts.queued), (0, 100));
    assert!(accounts.balance());
    drop((journal, intruder));

    let Opened { journal, writer, .. } = open_embedded(&file);
    let accounts = journal.accounts();
    assert_eq!((accounts.recovered, accounts.stored, accounts.finished), (100, 100, 0));
    assert!(accounts.balance());
    tokio::task::block_in_place(|| writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_directory_for_the_queue_what_the_disk_never_took_is_counted_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let options = Options { queue_directory: directory.path().join("none"), ..options(&file, None) };
    let Opened { journal, writer, .. } = open_patiently(&options);
    let intruder = Connection::open(&file).unwrap();
    intruder.execute_batch("begin immediate").unwrap();
    for number in 0..100 {
        journal.accept(plain(number));
    }
    let error = tokio::task::block_in_place(|| writer.close()).unwrap_err();
    assert_eq!(error.records, 100);
    let accounts = journal.accounts();
    assert_eq!((accounts.lost(LossReason::DiskError), accounts.queued), (100, 0));
    assert!(accounts.balance());
}
