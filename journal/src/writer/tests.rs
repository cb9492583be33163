//! The writer by itself, tick by tick: what it does when the disk fails it at a chosen moment.

use super::*;
use crate::{
    accounts::LossReason,
    ground::Ground,
    journal::Journal,
    open::{Options, Prepared, Retention, prepare},
};
use mcpmeter_observer::{CallId, Identity, Method, Timestamp};
use std::sync::OnceLock;
use tempfile::TempDir;

fn options(directory: &TempDir, queue: &Path) -> Options {
    Options {
        sqlite_file: directory.path().join("journal.db"),
        postgres: None,
        queue_bytes: 1 << 20,
        queue_directory: queue.to_owned(),
        outbox_max_bytes: None,
        retention: Retention::default(),
        migrate: false,
    }
}

/// A writer without its thread, whose queue has no file.
fn in_memory(directory: &TempDir, on_taken: OnTaken) -> (Writer, Journal) {
    let Prepared { writer, shared, .. } =
        prepare(options(directory, Path::new("/nowhere")), on_taken).unwrap();
    (writer, Journal::new(shared))
}

fn accept(journal: &Journal, numbers: std::ops::Range<u64>, text: &str) {
    for number in numbers {
        let identity = Identity { instance_id: text.into(), user_id: None, organization_id: None };
        let id = CallId(Uuid::from_u64_pair(number, 0));
        journal.accept(CallRecord::begin(id, Timestamp(0), Method::ToolsCall, &identity));
    }
}

fn gaps(directory: &TempDir) -> Vec<(String, i64)> {
    let connection = Connection::open(directory.path().join("journal.db")).unwrap();
    let mut select = connection.prepare("select reason, calls from mcp_log_gap order by seq").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// What the next process finds and says.
fn open_again(directory: &TempDir) {
    let (mut writer, _) = in_memory(directory, Box::new(|_| {}));
    writer.tick();
    writer.end();
}

#[test]
fn a_queue_in_memory_that_the_disk_does_not_take_is_lost_and_counted_to_the_last_call() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, journal) = in_memory(&directory, Box::new(|_| {}));
    // Nothing at all can be written.
    writer.connection.as_ref().unwrap().pragma_update(None, "query_only", true).unwrap();
    accept(&journal, 0..7, "i");
    writer.tick();
    assert_eq!(writer.end(), 7);
    accept(&journal, 7..10, "i");
    let accounts = journal.accounts();
    let lost = [LossReason::DiskError, LossReason::Closed].map(|reason| accounts.lost(reason));
    assert_eq!((accounts.queued, lost, accounts.balance()), (0, [7, 3], true));
    assert_eq!(gaps(&directory), [], "the disk took nothing");
    // So the next process has to be told otherwise.
    drop(journal);
    open_again(&directory);
    assert_eq!(gaps(&directory), [("queue_gone".to_owned(), 0)]);
}

#[test]
fn a_disk_that_takes_a_gap_and_no_calls_is_told_the_gap_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (writer, journal) = in_memory(&directory, Box::new(|_| {}));
    let connection = writer.connection.as_ref().unwrap();
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let full: i64 =
        connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get(0)).unwrap();
    assert_eq!(full, pages);
    accept(&journal, 0..100, &"x".repeat(2_000));
    assert_eq!(writer.end(), 100);
    assert_eq!(journal.accounts().lost(LossReason::DiskError), 100);
    drop(journal);
    open_again(&directory);
    assert_eq!(gaps(&directory), [("disk_error".to_owned(), 100)]);
}

#[test]
fn calls_that_come_while_the_queue_is_shut_have_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let late: Arc<OnceLock<Journal>> = Arc::default();
    let handed = Arc::clone(&late);
    // Whoever watches the last calls makes three more.
    let watch = move |_: &[CallRecord]| {
        if let Some(journal) = handed.get() {
            accept(journal, 100..103, "i");
        }
    };
    let (writer, journal) = in_memory(&directory, Box::new(watch));
    accept(&journal, 0..5, "i");
    assert!(late.set(journal.clone()).is_ok());
    assert_eq!(writer.end(), 0);
    assert_eq!(journal.accounts().lost(LossReason::Closed), 3);
    assert_eq!(gaps(&directory), [("closed".to_owned(), 3)]);
}

#[test]
fn a_file_that_cannot_be_read_for_a_moment_at_the_start_is_taken_into_use_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory, directory.path());
    {
        let Prepared { mut writer, shared, .. } = prepare(options.clone(), Box::new(|_| {})).unwrap();
        writer.connection.as_ref().unwrap().pragma_update(None, "query_only", true).unwrap();
        accept(&Journal::new(shared), 0..5, "i");
        writer.tick();
        assert_eq!(writer.end(), 5, "they stay in the queue");
    }
    let lock_out = |file: &Path| {
        let locker = Connection::open(file).unwrap();
        locker.execute_batch("pragma locking_mode = exclusive; begin exclusive").unwrap();
        locker
    };
    let locker = lock_out(&options.sqlite_file);
    let Prepared { mut writer, shared, .. } = prepare(options, Box::new(|_| {})).unwrap();
    let journal = Journal::new(shared);
    assert!(writer.connection.is_none());
    drop(locker);

    // The file can be opened, and is locked when it is to be read. Of another kind, or our own connection to it would
    // keep anybody from locking it.
    let mut ground = Ground::prepare(&writer.site, &[]).unwrap();
    let copy = directory.path().join("copy.db");
    ground.connection.execute("vacuum into ?1", [copy.to_str().unwrap()]).unwrap();
    let locker = lock_out(&copy);
    ground.connection = Connection::open(&copy).unwrap();
    ground.connection.busy_timeout(Duration::ZERO).unwrap();
    assert!(writer.start_on(ground).is_ok(), "that is no reason not to start");
    writer.tick();
    assert!(writer.connection.is_none());
    let told = journal.health().disk.error.unwrap();
    assert!(told.contains("another program has locked"), "{told}");
    accept(&journal, 10..13, "i");
    drop(locker);
    for _ in 0..3 {
        writer.tick();
    }
    let accounts = journal.accounts();
    assert!(journal.health().disk.ok && accounts.balance(), "{accounts:?}");
    assert_eq!((accounts.recovered, accounts.stored, accounts.queued), (5, 8, 0));
    assert_eq!(writer.end(), 0);
}
