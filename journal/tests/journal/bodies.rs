//! Bodies of calls: kept in either store, once, for their days, and never at the cost of a call.

use crate::{
    harness::{Place, Running, eventually, open_embedded, open_patiently, options},
    postgres::{Cluster, Stop},
};
use mcpmeter_journal::{
    BodyKey, BodyKeys, BodyLoss, Erasure, Journal, Manner, Opened, Options, Places, Reader, Retention, Whose,
    erase,
};
use mcpmeter_observer::{
    BodyRule, CallId, CallRecord, Identity, Instance, KeepBodies, Mount, Text, Tick, Timestamp,
};
use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Nobody listens on the discard port: the outbox only fills.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:9/none";
const DAY_US: i64 = 86_400_000_000;
const THERE: &str = "select count(*) from mcpmeter.mcp_call_body";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn keys() -> BodyKeys {
    BodyKeys::new(vec![BodyKey::new(&[7; 32])])
}

/// A call of a user with its two messages, as the observer gives it; `text` is in both.
fn call(user: &str, text: &str, created_at: i64) -> Box<CallRecord> {
    let identity = Identity {
        instance_id: Text::from("i"),
        user_id: Some(Text::from(user)),
        organization_id: Some(Text::from("org")),
    };
    let mount = Mount { origin: String::new(), base_path: String::new(), prefix: String::new() };
    let instance = Arc::new(Instance::new_stdio(identity, mount));
    instance.keep_bodies(BodyRule { keep: KeepBodies::All, max_bytes: BodyRule::LARGEST });
    let entropy = Uuid::random();
    let mut pipe = instance.begin_pipe(entropy, Tick(0));
    let asked = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{{"a":"{text}"}}}}}}"#
    );
    let answered = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{text}"}}}}"#);
    pipe.handle_client_data(format!("{asked}\n").as_bytes(), Timestamp(created_at), Tick(1));
    pipe.handle_server_data(format!("{answered}\n").as_bytes(), Tick(2));
    pipe.poll_finished(Tick(3)).unwrap()
}

/// Random bits for ids.
struct Uuid;

impl Uuid {
    fn random() -> u128 {
        use std::hash::{BuildHasher, RandomState};
        let bits = || u128::from(RandomState::new().hash_one(0));
        bits() << 64 | bits()
    }
}

fn accept(journal: &Journal, record: Box<CallRecord>) -> CallId {
    let id = record.id;
    journal.accept(record);
    id
}

/// How many bodies of a call can be read, each of them with the text in it.
async fn readable(reader: &Reader, call: CallId, text: &str) -> usize {
    let found = reader.bodies(call).await.unwrap();
    for body in &found {
        assert!(keys().open(body).unwrap().contains(text), "{body:?}");
        assert!(!body.sealed.windows(8).any(|window| window == &text.as_bytes()[..8]), "in clear");
        assert_eq!(body.call_id, call.0);
    }
    found.len()
}

fn in_file(file: &Path, table: &str) -> i64 {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_keeps_them_and_without_a_key_drops_and_counts_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let Opened { journal, writer, .. } = open_embedded(&file);
    accept(&journal, call("ann", "nobody can seal this", now()));
    assert!(tokio::task::block_in_place(|| writer.flush()));
    assert_eq!((journal.bodies().kept, journal.bodies().lost(BodyLoss::NoKey)), (0, 2));
    journal.seal_bodies_with(keys());
    let id = accept(&journal, call("ann", "the quick brown fox", now()));
    assert!(tokio::task::block_in_place(|| writer.flush()));
    let reader = Reader::sqlite(&file).unwrap();
    assert_eq!(readable(&reader, id, "the quick brown fox").await, 2);
    // Without a flush, too.
    let last = accept(&journal, call("ann", "and its end", now()));
    tokio::task::block_in_place(|| writer.close()).unwrap();
    assert_eq!(readable(&reader, last, "and its end").await, 2);
    assert_eq!((journal.bodies().kept, in_file(&file, "call_body_outbox")), (4, 0));
    accept(&journal, call("ann", "too late", now()));
    assert_eq!(journal.bodies().lost(BodyLoss::QueueFull), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_wait_for_postgresql_and_are_there_once_when_it_is_back() {
    let place = Place::new(Arc::new(Cluster::new()));
    let running = place.run();
    running.journal.seal_bodies_with(keys());
    let first = accept(&running.journal, call("ann", "the first of them", now()));
    eventually("PostgreSQL has its tables", || running.journal.health().postgres.unwrap().ok).await;
    eventually("the first are told", || place.count(THERE) == 2).await;
    // As if the answer of PostgreSQL had been lost: they are told again.
    let select =
        "select call_id, side, created_at, user_id, organization_id, key_id, body_bytes, is_cut, sealed";
    place.cluster.stop(Stop::Immediate);
    let mut ids = vec![first];
    for number in 0..1_200 {
        ids.push(accept(&running.journal, call("ann", &format!("number {number:05}"), now())));
    }
    eventually("the others wait", || place.in_file("call_body_outbox") == 2_400).await;
    running.abandon().await;
    let connection = rusqlite::Connection::open(place.file()).unwrap();
    let columns = select.trim_start_matches("select ");
    let twice = format!("insert into call_body_outbox ({columns}) {select} from call_body_outbox limit 100");
    connection.execute_batch(&twice).unwrap();
    drop(connection);
    place.cluster.start();
    let running = place.run();
    running.close().await;
    assert_eq!(
        (place.count(THERE), place.in_file("call_body_outbox"), place.in_file("mcp_call_body")),
        (2_402, 0, 0)
    );
    let reader = Reader::postgres(&place.url.parse().unwrap()).unwrap();
    assert_eq!(readable(&reader, first, "the first of them").await, 2);
    assert_eq!(readable(&reader, ids[1_200], "number 01199").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_go_at_their_age_and_never_after_their_calls() {
    for (retention, left) in [
        (Retention::default(), 4),
        (Retention { body_days: 3, ..Retention::default() }, 2),
        (Retention { days: 3, body_days: 30, ..Retention::default() }, 2),
        (Retention { body_days: 30, ..Retention::default() }, 6),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        let of_ages = |journal: &Journal| {
            for days in [1, 5, 8] {
                accept(journal, call("ann", "some days ago", now() - days * DAY_US));
            }
        };
        let mut embedded = open_patiently(&Options { retention, ..options(&file, None) });
        embedded.journal.seal_bodies_with(keys());
        of_ages(&embedded.journal);
        assert!(tokio::task::block_in_place(|| embedded.writer.flush()));
        embedded.keeper.retain().await;
        assert_eq!(in_file(&file, "mcp_call_body"), left, "{retention:?}");
        tokio::task::block_in_place(|| embedded.writer.close()).unwrap();

        let place = Place::new(Cluster::shared());
        let opened = open_patiently(&Options { retention, ..options(&place.file(), Some(&place.url)) });
        let (running, mut keeper) = Running::start_and_keep(opened);
        running.journal.seal_bodies_with(keys());
        of_ages(&running.journal);
        eventually("PostgreSQL has its tables", || running.journal.health().postgres.unwrap().ok).await;
        eventually("they are told", || place.count(THERE) == 6).await;
        keeper.retain().await;
        assert_eq!(place.count(THERE), left.unsigned_abs(), "{retention:?}");
        running.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_wait_for_a_postgresql_that_is_away_go_at_their_age_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let mut opened = open_patiently(&options(&file, Some(NOWHERE)));
    opened.journal.seal_bodies_with(keys());
    for days in [9, 8, 6] {
        for _ in 0..150 {
            accept(&opened.journal, call("ann", "some days ago", now() - days * DAY_US));
        }
        assert!(tokio::task::block_in_place(|| opened.writer.flush()));
    }
    assert_eq!(in_file(&file, "call_body_outbox"), 900);
    opened.keeper.retain().await;
    assert_eq!(in_file(&file, "call_body_outbox"), 300);
    assert_eq!((opened.journal.accounts().outbox, in_file(&file, "outbox")), (450, 450));
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_too_large_loses_all_bodies_before_the_first_call() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let retention = Retention { sqlite_max_bytes: 4 << 20, ..Retention::default() };
    let mut opened = open_patiently(&Options { retention, ..options(&file, None) });
    opened.journal.seal_bodies_with(keys());
    let text = "word ".repeat(6 << 10);
    for _ in 0..200 {
        accept(&opened.journal, call("ann", &text, now()));
        if opened.journal.bodies().kept.is_multiple_of(32) {
            assert!(tokio::task::block_in_place(|| opened.writer.flush()));
        }
    }
    assert!(tokio::task::block_in_place(|| opened.writer.flush()));
    let before = in_file(&file, "mcp_call_body");
    assert!(before > 200, "{before}: {:?}", opened.journal.bodies());
    opened.keeper.retain().await;
    assert!(in_file(&file, "mcp_call_body") < before);
    assert_eq!(in_file(&file, "mcp_server_request_log"), 200);
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}

#[test]
fn of_the_outbox_they_have_one_half_and_give_that_back_to_calls() {
    const MAX: u64 = 16 << 20;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let options = Options { outbox_max_bytes: Some(MAX), ..options(&file, Some(NOWHERE)) };
    let Opened { journal, writer, .. } = open_patiently(&options);
    journal.seal_bodies_with(keys());
    let text = "word ".repeat(8 << 10);
    for _ in 0..40 {
        for _ in 0..10 {
            accept(&journal, call("ann", &text, now()));
        }
        assert!(writer.flush());
    }
    let (bodies, full) = (in_file(&file, "call_body_outbox"), journal.bodies().lost(BodyLoss::OutboxFull));
    assert!(bodies > 40 && bodies < 220 && full > 400, "{bodies} wait, {full} were dropped");
    assert_eq!((journal.accounts().outbox, journal.accounts().lost_total()), (400, 0));
    // Calls without bodies, up to the quota and beyond: the bodies make room first.
    let mut sent = 400;
    while journal.accounts().lost_total() == 0 && sent < 100_000 {
        for _ in 0..2_000 {
            let mut record = call("ann", "no", now());
            record.bodies = None;
            record.error_message = Some("a longer text. ".repeat(20).into());
            journal.accept(record);
            sent += 1;
        }
        assert!(writer.flush());
        if in_file(&file, "call_body_outbox") > 0 {
            assert_eq!(journal.accounts().lost_total(), 0, "no call is lost while there are bodies");
        }
    }
    assert_eq!(in_file(&file, "call_body_outbox"), 0);
    assert!(journal.accounts().outbox > 20_000, "{:?}", journal.accounts());
    writer.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_erased_from_the_outbox_too_and_what_was_being_told_is_taken_back() {
    let place = Place::new(Cluster::shared());
    // Told to nobody yet.
    {
        let opened = place.open();
        opened.journal.seal_bodies_with(keys());
        for user in ["ann", "bob", "ann"] {
            accept(&opened.journal, call(user, "what was said", now()));
        }
        tokio::task::block_in_place(|| opened.writer.close()).unwrap();
    }
    assert_eq!(place.in_file("call_body_outbox"), 6);
    let places =
        Places { file: Some(place.file()), postgres: Some(place.url.parse().unwrap()), ..Places::default() };
    for (manner, gone) in [(Manner::Count, 4), (Manner::Anonymise, 4), (Manner::Remove, 0)] {
        let erasure = Erasure::new(Whose::User("ann".to_owned()), manner);
        let report = erase(&erasure, &places).await.unwrap();
        let rows = report.rows.iter().filter(|((_, table), _)| table == "call_body_outbox");
        assert_eq!(rows.map(|(_, rows)| rows).sum::<u64>(), gone, "{manner:?}");
    }
    assert_eq!(place.in_file("call_body_outbox"), 2);

    // While it is being told: a statement that waits for a lock has read them already.
    let running = place.run();
    running.journal.seal_bodies_with(keys());
    eventually("bob's are told", || running.journal.health().postgres.unwrap().ok && place.count(THERE) == 2)
        .await;
    place.cluster.query(
        &place.url,
        "create function slow() returns trigger language plpgsql as
           'begin perform pg_sleep(3); return new; end';
         create trigger slow before insert on mcpmeter.mcp_call_body for each statement execute function slow()",
    );
    accept(&running.journal, call("ann", "in the meantime", now()));
    let inserting = "select count(*) from pg_stat_activity
                     where query like 'insert into mcpmeter.mcp_call_body%' and state = 'active'";
    eventually("they are being told", || place.count(inserting) == 1).await;
    let connection = rusqlite::Connection::open(place.file()).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    connection.execute("delete from call_body_outbox where user_id = 'ann'", []).unwrap();
    eventually("they are told", || place.count(inserting) == 0).await;
    running.close().await;
    assert_eq!(place.count("select count(*) from mcpmeter.mcp_call_body where user_id = 'ann'"), 0);
    assert_eq!(place.count(THERE), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_them_for_ever_holds_up_nothing() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    running.journal.seal_bodies_with(keys());
    eventually("PostgreSQL has its tables", || running.journal.health().postgres.unwrap().ok).await;
    place.cluster.query(&place.url, "alter table mcpmeter.mcp_call_body add check (user_id <> 'unwanted')");
    accept(&running.journal, call("unwanted", "nobody wants this", now()));
    eventually("they are dropped", || running.journal.bodies().lost(BodyLoss::Refused) == 2).await;
    accept(&running.journal, call("ann", "somebody wants this", now()));
    running.close().await;
    assert_eq!((place.count(THERE), place.stored()), (2, (2, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_no_store_can_hold_costs_no_body() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let Opened { journal, writer, .. } = open_embedded(&file);
    journal.seal_bodies_with(keys());
    let id = accept(&journal, call("a\0b", "the quick brown fox", now()));
    tokio::task::block_in_place(|| writer.close()).unwrap();
    assert_eq!(readable(&Reader::sqlite(&file).unwrap(), id, "the quick brown fox").await, 2);
}
