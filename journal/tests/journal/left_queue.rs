//! What a process leaves behind that does not come to an orderly end: its queue, found by the next one, or missed.

use crate::{
    harness::{gaps, noted, open_embedded, open_patiently, options, queues_in},
    records::plain,
};
use mcpmeter_journal::{Opened, Options, open};
use rusqlite::Connection;
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

const FILE: &str = "MCPMETER_TEST_LEFT_FILE";
const WHAT: &str = "MCPMETER_TEST_LEFT_WHAT";
/// Calls of the child.
const CALLS: u64 = 100;

/// What the child does; as a test of its own it does nothing. What it writes down is held up by a disk that never
/// answers, here by somebody who watches and never returns.
#[test]
fn a_child_whose_disk_has_stalled() {
    let (Ok(file), Ok(what)) = (std::env::var(FILE), std::env::var(WHAT)) else { return };
    let file = PathBuf::from(file);
    let stall = Box::new(|_: &[_]| {
        loop {
            thread::park();
        }
    });
    let queue_directory =
        if what == "memory" { "/nowhere".into() } else { file.parent().unwrap().to_owned() };
    let options = Options { queue_directory, ..options(&file, None) };
    let Opened { journal, writer, .. } = open(options, stall).unwrap();
    (0..CALLS).for_each(|number| journal.accept(plain(number)));
    println!("accepted");
    if what == "close" {
        let began = Instant::now();
        let error = writer.close().unwrap_err();
        println!("closed {} {} {error}", began.elapsed().as_secs(), error.records);
        println!("health {}", journal.health().disk.error.unwrap_or_default());
        return;
    }
    loop {
        thread::park();
    }
}

/// Runs the child until it has said `until`; then it is killed. Returns its last line but that.
fn run_child(file: &Path, what: &str, until: &str) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "left_queue::a_child_whose_disk_has_stalled", "--nocapture"]);
    command.env(FILE, file).env(WHAT, what).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut told = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        told.push(line.unwrap());
        if told.last().is_some_and(|line| line.contains(until)) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(told.last().is_some_and(|line| line.contains(until)), "{told:?}");
    told
}

fn rows(file: &Path) -> i64 {
    let connection = Connection::open(file).unwrap();
    connection.query_row("select count(*) from mcp_server_request_log", [], |row| row.get(0)).unwrap()
}

#[test]
fn closing_while_the_disk_stalls_ends_says_where_the_calls_are_and_the_next_start_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let told = run_child(&file, "close", "health ");
    let queue = queues_in(&fs::canonicalize(directory.path()).unwrap());
    let closed = told.iter().find_map(|line| line.split_once("closed ")).unwrap().1;
    let words: Vec<_> = closed.splitn(3, ' ').collect();
    let seconds: u64 = words[0].parse().unwrap();
    assert!((5..=20).contains(&seconds), "{closed}");
    assert_eq!(words[1], CALLS.to_string());
    let place = format!("stay in {} for the next start", queue[0].display());
    assert!(words[2].contains(&place), "{closed}");
    assert!(told.last().unwrap().contains("has not answered"), "{told:?}");

    let Opened { journal, writer, .. } = open_embedded(&file);
    let accounts = journal.accounts();
    assert_eq!((accounts.recovered, accounts.stored, accounts.lost_total()), (CALLS, CALLS, 0));
    writer.close().unwrap();
    assert_eq!(rows(&file), 100);
    assert_eq!(gaps(&file), []);
    assert_eq!(queues_in(directory.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_queue_that_is_gone_at_the_next_start_is_a_gap_of_unknown_size_and_is_said_once() {
    for what in ["file", "memory"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        run_child(&file, what, "accepted");
        // As by the restart of a container: what was in memory is gone.
        for queue in queues_in(directory.path()) {
            fs::remove_file(queue).unwrap();
        }
        for _ in 0..3 {
            let Opened { journal, writer, .. } = open_embedded(&file);
            assert_eq!((journal.accounts().recovered, journal.accounts().lost_total()), (0, 0));
            writer.close().unwrap();
            assert_eq!(gaps(&file), [("queue_gone".to_owned(), 0)], "{what}");
        }
    }
}

#[test]
fn an_orderly_end_and_a_queue_that_was_never_made_are_no_gap() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    for _ in 0..3 {
        let Opened { journal, writer, .. } = open_embedded(&file);
        journal.accept(plain(0));
        writer.close().unwrap();
        assert_eq!(noted(&file), [] as [String; 0]);
        assert_eq!(gaps(&file), []);
    }
    // Killed after the name was noted and before there was a file.
    fs::write(directory.path().join("journal.db.lock"), "?/dev/shm/mcpmeter-none.ring\n").unwrap();
    open_embedded(&file).writer.close().unwrap();
    assert_eq!(gaps(&file), []);
}

#[test]
fn a_call_after_an_orderly_end_is_counted_as_lost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let Opened { journal, writer, .. } = open_embedded(&file);
    journal.accept(plain(0));
    writer.close().unwrap();
    assert_eq!(queues_in(directory.path()), [] as [PathBuf; 0]);
    journal.accept(plain(1));
    let accounts = journal.accounts();
    assert_eq!((accounts.queued, accounts.lost(mcpmeter_journal::LossReason::Closed)), (0, 1));
    assert!(accounts.balance());
}

#[test]
fn two_spellings_of_one_file_exclude_each_other() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    symlink("data", directory.path().join("link")).unwrap();
    symlink("data/journal.db", directory.path().join("alias.db")).unwrap();
    let spellings = ["data/journal.db", "link/journal.db", "data/../link/journal.db", "alias.db"];
    for first in spellings {
        let open_first = open_patiently(&options(&directory.path().join(first), None));
        for second in spellings {
            let second = options(&directory.path().join(second), None);
            let error = open(second, Box::new(|_| {})).map(drop).unwrap_err();
            assert!(error.to_string().contains("in use by another mcpmeter"), "{error}");
        }
        open_first.writer.close().unwrap();
    }
    let locks = fs::read_dir(directory.path().join("data")).unwrap().flatten();
    assert_eq!(locks.filter(|entry| entry.path().extension().is_some_and(|end| end == "lock")).count(), 1);
}
