//! A process that is killed with SIGKILL while it records: what it told its parent it had accepted is there, once.
//!
//! The child is this test binary again, told by the environment which journal to open.

use crate::{
    harness::{open_patiently, options},
    records::plain,
};
use mcpmeter_journal::{Opened, Options};
use rusqlite::Connection;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

const FILE: &str = "MCPMETER_TEST_KILLED_FILE";
const FIRST: &str = "MCPMETER_TEST_KILLED_FIRST";
const URL: &str = "MCPMETER_TEST_KILLED_URL";
const KILLS: u64 = 20;
/// Nobody listens on the discard port: the outbox only fills.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:9/none";

fn journal_options(file: &Path, url: Option<&str>) -> Options {
    // Large enough that nothing is dropped: the test is about what is accepted.
    Options { queue_bytes: 64 << 20, ..options(file, url) }
}

/// What the child does; as a test of its own it does nothing.
#[test]
fn a_child_that_accepts_until_it_is_killed() {
    let Ok(file) = std::env::var(FILE) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let url = std::env::var(URL).ok();
    let opened = open_patiently(&journal_options(&PathBuf::from(file), url.as_deref()));
    thread::scope(|scope| {
        for lane in 0..2 {
            let journal = opened.journal.clone();
            scope.spawn(move || {
                for number in (first + lane..).step_by(2) {
                    journal.accept(plain(number));
                    // One write, so that the parent reads it whole or not at all.
                    std::io::stdout().lock().write_all(format!("accepted {number}\n").as_bytes()).unwrap();
                }
            });
        }
    });
}

/// Runs a child for a while, kills it, and says what it had told.
fn run_and_kill(file: &Path, first: u64, url: Option<&str>, life: Duration) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killed::a_child_that_accepts_until_it_is_killed", "--nocapture"]);
    command.env(FILE, file).env(FIRST, first.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(url) = url {
        command.env(URL, url);
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    let mut note = |line: String| {
        told.extend(line.split_once("accepted ").and_then(|(_, number)| number.parse::<u64>().ok()));
    };
    // Its life begins with the first call that it has accepted.
    while let Some(Ok(line)) = lines.next() {
        let began = line.contains("accepted ");
        note(line);
        if began {
            break;
        }
    }
    let killer = thread::spawn(move || {
        thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    lines.map_while(Result::ok).for_each(&mut note);
    killer.join().unwrap();
    told
}

fn ids_in(file: &Path, table: &str) -> Vec<String> {
    let connection = Connection::open(file).unwrap();
    // The identity is the record's first field: a length and sixteen bytes.
    let column = if table == "outbox" { "hex(substr(record, 2, 16))" } else { "hex(id)" };
    let mut select = connection.prepare(&format!("select {column} from {table}")).unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn nothing_is_lost_or_twice(url: Option<&str>, table: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let (mut told, mut first, mut recovered) = (BTreeSet::new(), 0, 0);
    for kill in 0..KILLS {
        let life = Duration::from_micros(fastrand::u64(0..250_000));
        let numbers = run_and_kill(&file, first, url, life);
        assert!(!numbers.is_empty(), "kill {kill}: the child recorded nothing");
        told.extend(numbers);
        // The children do not share numbers, also not those that were accepted and not told.
        first = (first + 10_000_000) / 10_000_000 * 10_000_000;
        if kill % 5 == 4 {
            // An orderly life in between.
            let Opened { journal, writer, .. } = open_patiently(&journal_options(&file, url));
            assert!(journal.accounts().balance());
            recovered += journal.accounts().recovered;
            writer.close().unwrap();
        }
    }
    let found = ids_in(&file, table);
    let different: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(found.len(), different.len(), "calls are there twice");
    let id = |number| plain(number).id.0.simple().to_string().to_uppercase();
    let lost: Vec<_> = told.iter().filter(|number| !different.contains(&id(**number))).collect();
    assert!(lost.is_empty(), "{} of {} calls are lost, the first: {:?}", lost.len(), told.len(), lost[0]);
    assert!(recovered > 0, "no queue had anything to be recovered");
}

#[test]
fn twenty_kills_lose_no_call_of_the_outbox_and_double_none() {
    nothing_is_lost_or_twice(Some(NOWHERE), "outbox");
}

#[test]
fn twenty_kills_lose_no_call_of_the_store_and_double_none() {
    nothing_is_lost_or_twice(None, "mcp_server_request_log");
}
