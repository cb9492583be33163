//! Damaged, full and stalled disks: recording goes on or is accounted for, and nothing panics.

use crate::{
    harness::{gaps, noted, open_embedded, open_patiently, options, queues_in, unwatched},
    records::plain,
};
use mcpmeter_journal::{LossReason, OpenError, Opened, Options, open};
use rusqlite::Connection;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Nobody listens on the discard port: the outbox only fills.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:9/none";

fn open_outbox(file: &Path) -> Opened {
    open_patiently(&options(file, Some(NOWHERE)))
}

/// A file with an outbox of that many calls, and an orderly end.
fn fill(file: &Path, calls: u64) {
    let Opened { journal, writer, .. } = open_outbox(file);
    (0..calls).for_each(|number| journal.accept(plain(number)));
    writer.close().unwrap();
}

fn set_aside_in(directory: &Path) -> usize {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .count()
}

fn damage(file: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
}

/// Opens the journal whatever is in the file, records something, and checks the books.
fn goes_on(file: &Path, what: &str) -> (u64, u64) {
    let Opened { journal, writer, .. } = open_outbox(file);
    (0..10).for_each(|number| journal.accept(plain(1_000_000 + number)));
    assert!(writer.flush(), "{what}");
    let accounts = journal.accounts();
    assert!(accounts.balance(), "{what}: {accounts:?}");
    assert_eq!(accounts.queued, 0, "{what}");
    writer.close().unwrap();
    (journal.set_aside_files(), accounts.lost(LossReason::Corrupt))
}

#[test]
fn a_file_that_is_no_longer_one_is_set_aside_and_recording_goes_on() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("garbage", |file| fs::write(file, vec![0xa5; 50_000]).unwrap()),
        ("one byte", |file| fs::write(file, "x").unwrap()),
        ("empty", |file| fs::write(file, "").unwrap()),
        ("header", |file| damage(file, 0, b"SQLite format 9")),
        ("schema", |file| damage(file, 100, &[0xff; 4_000])),
    ];
    for (what, spoil) in damages {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        fill(&file, 100);
        spoil(&file);
        assert_eq!(goes_on(&file, what).0, 1, "{what}");
        assert_eq!(set_aside_in(directory.path()), 1, "{what}");
        assert_eq!(gaps(&file), [("corrupt".to_owned(), 0)], "{what}");
        // Said once: the next start finds a file that is whole.
        assert_eq!(goes_on(&file, what).0, 0, "{what}");
    }
}

#[test]
fn random_damage_anywhere_never_keeps_the_journal_from_starting() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        fill(&file, 300);
        let bytes = fs::metadata(&file).unwrap().len();
        if random.bool() {
            File::options().write(true).open(&file).unwrap().set_len(random.u64(1..bytes)).unwrap();
        }
        for _ in 0..random.usize(0..6) {
            let garbage: Vec<_> = (0..random.usize(1..3_000)).map(|_| random.u8(..)).collect();
            // Not the number that says that a newer version, or somebody else, wrote the file.
            damage(&file, random.u64(104..bytes), &garbage);
        }
        goes_on(&file, &format!("seed {seed} round {round}"));
    }
}

#[test]
fn a_damaged_log_of_a_killed_process_never_keeps_the_journal_from_starting() {
    for (at, bytes) in [(0, 100), (0, 40_000), (33, 1), (5_000, 2_000)] {
        let directory = tempfile::tempdir().unwrap();
        let [file, copy] = ["journal.db", "copy.db"].map(|name| directory.path().join(name));
        let opened = open_outbox(&file);
        (0..300).for_each(|number| opened.journal.accept(plain(number)));
        assert!(opened.writer.flush());
        // As a kill leaves them.
        fs::copy(&file, &copy).unwrap();
        fs::copy(directory.path().join("journal.db-wal"), directory.path().join("copy.db-wal")).unwrap();
        opened.writer.close().unwrap();
        damage(&directory.path().join("copy.db-wal"), at, &vec![0x5a; bytes]);
        goes_on(&copy, "a damaged log");
    }
}

#[test]
fn what_can_be_read_of_a_damaged_outbox_is_taken_over_under_its_old_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    fill(&file, 5_000);
    let identity = |file: &Path| -> Vec<u8> {
        let connection = Connection::open(file).unwrap();
        connection.query_row("select value from meta where key = 'spool_id'", [], |row| row.get(0)).unwrap()
    };
    let (before, bytes) = (identity(&file), fs::metadata(&file).unwrap().len());
    // A page in the middle of the outbox, and the root of a table that every start touches.
    let roots: Vec<u64> = {
        let connection = Connection::open(&file).unwrap();
        let mut select = connection
            .prepare("select rootpage from sqlite_schema where tbl_name = 'mcp_server_request_log'")
            .unwrap();
        let rows = select.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        rows.map(|root| root.unwrap().unsigned_abs()).collect()
    };
    damage(&file, bytes / 8192 / 2 * 8192, &[0xff; 8192]);
    roots.iter().for_each(|root| damage(&file, (root - 1) * 8192, &[0xff; 8192]));
    let Opened { journal, writer, .. } = open_outbox(&file);
    let accounts = journal.accounts();
    let (saved, lost) = (accounts.outbox, accounts.lost(LossReason::Corrupt));
    assert!(saved > 4_000 && lost > 0 && saved + lost == 5_000, "{accounts:?}");
    assert!(accounts.balance());
    journal.accept(plain(9_999));
    writer.close().unwrap();
    assert_eq!(identity(&file), before);
    let connection = Connection::open(&file).unwrap();
    let seq: (i64, i64) = connection
        .query_row("select min(seq), max(seq) from outbox", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let saved = i64::try_from(saved).unwrap();
    assert_eq!(seq, (5_001, 5_001 + saved), "no number is given twice, and there are no holes");
    assert_eq!(gaps(&file), [("corrupt".to_owned(), i64::try_from(lost).unwrap())]);
}

#[test]
fn damage_found_while_running_loses_nothing_of_what_is_in_hand() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    fill(&file, 2_000);
    let Opened { journal, writer, .. } = open_outbox(&file);
    // Somebody else's change makes the writer read its pages again, and the log is empty.
    let intruder = Connection::open(&file).unwrap();
    intruder.execute_batch("insert into meta values ('x', x'00'); pragma wal_checkpoint(truncate)").unwrap();
    drop(intruder);
    // The whole file but its first page: the next write has to notice.
    let bytes = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
    damage(&file, 8192, &vec![0xff; bytes - 8192]);
    let number = 0..1_000;
    number.for_each(|number| journal.accept(plain(100_000 + number)));
    assert!(writer.flush());
    let accounts = journal.accounts();
    assert!(accounts.balance(), "{accounts:?}");
    assert_eq!((accounts.queued, journal.set_aside_files()), (0, 1));
    assert_eq!(accounts.outbox + accounts.lost(LossReason::Corrupt), 3_000);
    writer.close().unwrap();
    let connection = Connection::open(&file).unwrap();
    let rows: i64 = connection.query_row("select count(*) from outbox", [], |row| row.get(0)).unwrap();
    assert!(rows >= 1_000, "what was in hand is in the new file: {rows}");
    assert_eq!(rows.unsigned_abs(), accounts.outbox);
}

#[test]
fn the_smallest_quota_has_room_for_calls_because_empty_tables_are_none_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let options = Options { outbox_max_bytes: Some(200 << 10), ..options(&file, Some(NOWHERE)) };
    let Opened { journal, writer, .. } = open_patiently(&options);
    for number in 0..200 {
        journal.accept(plain(number));
    }
    assert!(writer.flush());
    let accounts = journal.accounts();
    assert_eq!((accounts.outbox, accounts.lost_total()), (200, 0));
    writer.close().unwrap();
    assert!(fs::metadata(&file).unwrap().len() > 200 << 10, "the file alone is larger");
}

#[test]
fn the_quota_of_a_new_file_allows_nothing_for_the_rows_of_the_damaged_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    // Rows of a time without PostgreSQL, of more bytes than the quota: they do not count.
    let Opened { journal, writer, .. } = open_embedded(&file);
    (0..20_000).for_each(|number| journal.accept(plain(number)));
    writer.close().unwrap();
    let before = fs::metadata(&file).unwrap().len();
    assert!(before > 4 << 20, "{before} bytes");
    let options = Options { outbox_max_bytes: Some(2 << 20), ..options(&file, Some(NOWHERE)) };
    let Opened { journal, writer, .. } = open_patiently(&options);
    journal.accept(plain(0));
    assert!(writer.flush());
    let intruder = Connection::open(&file).unwrap();
    intruder.execute_batch("insert into meta values ('x', x'00'); pragma wal_checkpoint(truncate)").unwrap();
    drop(intruder);
    damage(&file, 8192, &vec![0xff; usize::try_from(before).unwrap() - 8192]);
    for round in 0..20 {
        (0..2_000).for_each(|number| journal.accept(plain(round * 2_000 + number)));
        assert!(writer.flush());
    }
    let accounts = journal.accounts();
    assert!(accounts.balance(), "{accounts:?}");
    assert_eq!(journal.set_aside_files(), 1);
    assert!(accounts.lost(LossReason::OutboxFull) > 20_000, "{accounts:?}");
    writer.close().unwrap();
    let after = fs::metadata(&file).unwrap().len();
    assert!(after < 3 << 20, "{after} bytes");
}

#[test]
fn a_directory_in_the_files_place_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    fs::create_dir(&file).unwrap();
    let error = open(options(&file, None), unwatched()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::File { .. }));
    assert!(mcpmeter_journal::chain(&error).contains("directory"), "{}", mcpmeter_journal::chain(&error));
}

#[test]
fn beyond_its_quota_the_outbox_drops_the_newest_and_notes_the_gap() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let options = Options { outbox_max_bytes: Some(4 << 20), ..options(&file, Some(NOWHERE)) };
    let Opened { journal, writer, .. } = open_patiently(&options);
    for number in 0..100_000 {
        journal.accept(plain(number));
        if number % 5_000 == 0 {
            assert!(writer.flush());
            assert!(journal.accounts().balance());
        }
    }
    assert!(writer.flush());
    let accounts = journal.accounts();
    let lost = accounts.lost(LossReason::OutboxFull);
    assert!(lost > 1_000 && accounts.outbox > 1_000, "{accounts:?}");
    assert_eq!((accounts.outbox + lost, accounts.queued), (100_000, 0));
    let bytes: u64 = ["journal.db", "journal.db-wal"]
        .map(|name| fs::metadata(directory.path().join(name)).map_or(0, |metadata| metadata.len()))
        .iter()
        .sum();
    assert!(bytes < 7 << 20, "{bytes} bytes");
    writer.close().unwrap();
    assert_eq!(gaps(&file), [("outbox_full".to_owned(), i64::try_from(lost).unwrap())]);
}

#[test]
fn a_restart_keeps_the_gaps_and_a_new_queue() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    for _ in 0..2 {
        let Opened { journal, writer, .. } = open_embedded(&file);
        journal.lose(LossReason::BatchTooLarge, 3);
        writer.close().unwrap();
    }
    assert_eq!(gaps(&file), [("batch_too_large".to_owned(), 6)]);
    // What was drained leaves no file behind, and nobody looks for one.
    assert_eq!(queues_in(directory.path()), [] as [PathBuf; 0]);
    assert_eq!(noted(&file), [] as [String; 0]);
}

#[test]
fn a_replacement_that_a_kill_cut_in_two_is_finished_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    fill(&file, 100);
    // The damaged file is away, its log is not, and the new one has not got its name.
    fs::rename(&file, directory.path().join("journal.db.fresh")).unwrap();
    fs::write(directory.path().join("journal.db-wal"), "of the damaged file").unwrap();
    let Opened { journal, writer, .. } = open_outbox(&file);
    let accounts = journal.accounts();
    assert_eq!((accounts.recovered, accounts.outbox, accounts.lost_total()), (100, 100, 0));
    writer.close().unwrap();
    assert!(!directory.path().join("journal.db.fresh").exists());
    // Killed earlier: the damaged file is still in its place, and the new one a half.
    fs::write(directory.path().join("journal.db.fresh"), "half").unwrap();
    assert_eq!(goes_on(&file, "half a new file"), (0, 0));
}

#[test]
fn a_copied_directory_leaves_the_queue_of_the_running_process_alone() {
    let [original, copy] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [file, copied] = [&original, &copy].map(|directory| directory.path().join("journal.db"));
    let Opened { journal, writer, .. } = open_outbox(&file);
    for name in ["journal.db", "journal.db.lock"] {
        fs::copy(original.path().join(name), copy.path().join(name)).unwrap();
    }
    let queue = noted(&file).remove(0);
    goes_on(&copied, "the copy");
    assert!(Path::new(&queue).exists(), "the queue that is in use is still there");
    // What is in it is none of the copy's, as far as that can tell it is lost.
    assert_eq!(gaps(&copied), [("queue_gone".to_owned(), 0)]);
    assert_eq!(gaps(&file), []);
    journal.accept(plain(1));
    writer.close().unwrap();
}
