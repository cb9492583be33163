//! Keys in both stores: kept as they were made, changed one after the other, seen by everybody, and never in the way.

use crate::{
    harness::{PATIENCE, Place, Running, open_embedded, open_patiently, options},
    postgres::{Cluster, Stop},
    records::{MARCH, plain},
};
use mcpmeter_journal::{ApiKey, KeyError, KeyStore, Options, PreviousSecret, Retention, SecretHash, migrate};
use mcpmeter_observer::{Text, Timestamp};
use rusqlite::Connection;
use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const HOUR: Duration = Duration::from_secs(3_600);

/// A key of which nothing is known that need not be.
fn key(id: &str) -> ApiKey {
    ApiKey {
        id: format!("key_{id}").into(),
        hash: hash(id),
        previous: None,
        name: None,
        user_id: "u_1".into(),
        organization_id: None,
        routes: Vec::new(),
        tools: Vec::new(),
        rate_per_minute: None,
        created_at: MARCH,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

/// A key with everything in it.
fn full_key(id: &str) -> ApiKey {
    ApiKey {
        previous: Some(PreviousSecret { hash: hash("before"), valid_until: later(3) }),
        name: Some("laptop 'at' home \"🏠\" \\".into()),
        user_id: "工具 🛠️".into(),
        organization_id: Some("org".into()),
        routes: vec!["files-*".into(), "github".into()],
        tools: vec!["a,b".into(), "\"".into(), "*".into()],
        rate_per_minute: Some(u32::MAX >> 1),
        expires_at: Some(later(4)),
        revoked_at: Some(later(5)),
        last_used_at: Some(later(6)),
        ..key(id)
    }
}

fn hash(text: &str) -> SecretHash {
    let bytes = text.as_bytes();
    SecretHash(std::array::from_fn(|place| bytes.get(place).copied().unwrap_or(0xf0)))
}

fn later(microseconds: i64) -> Timestamp {
    Timestamp(MARCH.0 + microseconds)
}

/// The same store, opened anew as another process would.
type Open = Box<dyn Fn() -> KeyStore + Send + Sync>;

/// One of each kind: the SQLite file is beside a running journal, the database has its tables.
async fn both(place: &Place) -> [(&'static str, Open); 2] {
    migrate(&place.url.parse().unwrap()).await.unwrap();
    let (file, url) = (keys_file(place), place.url.clone());
    [
        ("sqlite", Box::new(move || KeyStore::sqlite(&file))),
        ("postgres", Box::new(move || KeyStore::postgres(&url.parse().unwrap()).unwrap())),
    ]
}

fn ids(keys: &[ApiKey]) -> Vec<&str> {
    keys.iter().map(|key| &*key.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_the_same_in_both_stores_and_for_everybody() {
    let place = Place::new(Cluster::shared());
    for (kind, open) in both(&place).await {
        let (one, two) = (open(), open());
        let newer = ApiKey { created_at: later(1), ..full_key("bbbbbbbb") };
        one.create(key("aaaaaaaa")).await.unwrap();
        one.create(newer.clone()).await.unwrap();
        assert_eq!(two.list().await.unwrap(), [newer.clone(), key("aaaaaaaa")], "{kind}: the newest first");
        let changes = two.changes_since(0).await.unwrap();
        assert_eq!((changes.keys, changes.revision), (vec![key("aaaaaaaa"), newer], 2), "{kind}");
        let taken = two.create(full_key("aaaaaaaa")).await.unwrap_err();
        assert!(matches!(&taken, KeyError::Taken { id } if id == "key_aaaaaaaa"), "{kind}: {taken}");
        let nothing = two.changes_since(2).await.unwrap();
        assert_eq!((nothing.keys.len(), nothing.revision, nothing.has_more), (0, 2, false), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_meant_by_its_id_or_by_as_much_of_it_as_is_unique() {
    let place = Place::new(Cluster::shared());
    for (kind, open) in both(&place).await {
        let store = open();
        for id in ["aaaaaaaa", "aaaaaabb", "cccccccc"] {
            store.create(key(id)).await.unwrap();
        }
        let revoked = store.revoke("key_cccc", later(1)).await.unwrap();
        assert_eq!((&*revoked.id, revoked.revoked_at), ("key_cccccccc", Some(later(1))), "{kind}");
        let again = store.revoke("key_cccccccc", later(2)).await.unwrap();
        assert_eq!(again.revoked_at, Some(later(1)), "{kind}: since then");
        assert_eq!(store.changes_since(3).await.unwrap().revision, 4, "{kind}: that was no change");
        for (id, told) in [
            ("key_aaaa", "2 keys have an id that begins with key_aaaa: write more of it"),
            ("key_dddddddd", "there is no key key_dddddddd"),
            ("key_%%%%", "there is no key key_%%%%"),
            ("key_a", "key_a is too little of an id: write at least key_ and the four characters behind it"),
            ("", " is too little of an id: write at least key_ and the four characters behind it"),
        ] {
            assert_eq!(store.revoke(id, MARCH).await.unwrap_err().to_string(), told, "{kind}");
            assert_eq!(store.find(id).await.unwrap_err().to_string(), told, "{kind}");
        }
        assert_eq!(store.find("key_aaaaaab").await.unwrap(), key("aaaaaabb"), "{kind}");
        assert_eq!(store.changes_since(0).await.unwrap().revision, 4, "{kind}: what failed has left nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_keeps_its_id_when_its_secret_is_exchanged() {
    let place = Place::new(Cluster::shared());
    for (kind, open) in both(&place).await {
        let store = open();
        let before = ApiKey { previous: None, revoked_at: None, expires_at: None, ..full_key("aaaaaaaa") };
        store.create(before.clone()).await.unwrap();
        store.rotate("key_aaaaaaaa", hash("second"), HOUR, MARCH).await.unwrap();
        let previous = PreviousSecret { hash: hash("aaaaaaaa"), valid_until: later(3_600_000_000) };
        let expected = ApiKey { hash: hash("second"), previous: Some(previous), ..before.clone() };
        assert_eq!(store.list().await.unwrap(), [expected], "{kind}");
        let third = store.rotate("key_aaaaaaaa", hash("third"), HOUR, MARCH).await.unwrap();
        let previous = third.previous.map(|previous| previous.hash);
        assert_eq!(previous, Some(hash("second")), "{kind}: the first counts no more");
        let fourth = store.rotate("key_aaaaaaaa", hash("fourth"), Duration::ZERO, MARCH).await.unwrap();
        assert_eq!(fourth, ApiKey { hash: hash("fourth"), ..before }, "{kind}: without grace");
        assert_eq!(store.changes_since(3).await.unwrap().keys, [fourth], "{kind}");
        store.revoke("key_aaaaaaaa", later(7)).await.unwrap();
        let error = store.rotate("key_aaaaaaaa", hash("fifth"), HOUR, MARCH).await.unwrap_err().to_string();
        let told = "key_aaaaaaaa was revoked at 2026-03-01T00:00:00.000007Z: make another key";
        assert_eq!(error, told, "{kind}");
        store.create(ApiKey { expires_at: Some(MARCH), ..key("bbbbbbbb") }).await.unwrap();
        let error = store.rotate("key_bbbbbbbb", hash("second"), HOUR, MARCH).await.unwrap_err();
        assert!(matches!(error, KeyError::Expired { .. }), "{kind}: {error}");
    }
}

/// Reads changes as a proxy does until it has seen so many keys; every change is to be seen with those before it.
async fn follow(store: KeyStore, count: usize) -> BTreeSet<Text> {
    let (mut revision, mut seen) = (0, BTreeSet::new());
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} keys", seen.len());
        let changes = store.changes_since(revision).await.unwrap();
        assert!(!changes.starts_over && changes.revision >= revision);
        revision = changes.revision;
        seen.extend(changes.keys.into_iter().map(|key| key.id));
        assert_eq!(i64::try_from(seen.len()).unwrap(), revision, "as many keys as changes");
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_make_keys_at_once_hide_none_from_a_reader() {
    let place = Place::new(Cluster::shared());
    for (kind, open) in both(&place).await {
        const EACH: usize = 25;
        open().create(key("00000000")).await.unwrap();
        let mut tasks = JoinSet::new();
        for maker in 1..=4 {
            let store = open();
            tasks.spawn(async move {
                for number in 0..EACH {
                    store.create(key(&format!("{maker}{number:07}"))).await.unwrap();
                }
                BTreeSet::new()
            });
        }
        for _ in 0..2 {
            tasks.spawn(follow(open(), 1 + 4 * EACH));
        }
        let mut seen = Vec::new();
        while let Some(done) = tasks.join_next().await {
            seen.push(done.unwrap().len());
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 0, 0, 0, 1 + 4 * EACH, 1 + 4 * EACH], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_is_the_latest_whoever_tells_it_and_no_change() {
    let place = Place::new(Cluster::shared());
    for (kind, open) in both(&place).await {
        // More than are noted in one transaction.
        let count = 700;
        fill(&place, kind, count);
        let uses = |at: i64| -> Vec<(Text, Timestamp)> {
            (1..=count).map(|number| (format!("key_{}", 10_000_000 + number).into(), later(at))).collect()
        };
        let mut tasks = JoinSet::new();
        for at in [3, 1, 4, 2] {
            let (store, mut uses) = (open(), uses(at));
            if at % 2 == 0 {
                uses.reverse();
            }
            tasks.spawn(async move { store.touch(&uses).await.unwrap() });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let keys = open().list().await.unwrap();
        assert!(keys.iter().all(|key| key.last_used_at == Some(later(4))), "{kind}");
        assert_eq!(open().changes_since(0).await.unwrap().revision, 700, "{kind}: a use is no change");
        open().touch(&[("key_gone0000".into(), MARCH)]).await.unwrap();
        open().touch(&[]).await.unwrap();
    }
}

/// Makes so many keys at once, by hand: one by one it takes its time.
fn fill(place: &Place, kind: &str, count: i64) {
    let (schema, now) = if kind == "sqlite" { ("", "0") } else { ("mcpmeter.", "now()") };
    let sql = format!(
        "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {count})
         insert into {schema}api_key (id, hash, user_id, routes, tools, created_at, revision)
         select 'key_' || cast(10000000 + n as text), '{}', 'u', '[]', '[]', {now}, n from numbers;
         update {schema}api_key_revision set revision = {count}",
        "00".repeat(32)
    );
    if kind == "sqlite" {
        // The tables are made with the first journal, or the first key.
        open_embedded(&keys_file(place)).writer.close().unwrap();
        Connection::open(keys_file(place)).unwrap().execute_batch(&sql).unwrap();
    } else {
        place.cluster.query(&place.url, &sql);
    }
}

fn keys_file(place: &Place) -> PathBuf {
    place.directory.path().join("keys.db")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_read_page_by_page() {
    let place = Place::new(Cluster::shared());
    for (kind, open) in both(&place).await {
        fill(&place, kind, 12_000);
        let (store, mut revision, mut pages) = (open(), 0, Vec::new());
        loop {
            let changes = store.changes_since(revision).await.unwrap();
            revision = changes.revision;
            pages.push((changes.keys.len(), revision));
            if !changes.has_more {
                break;
            }
        }
        assert_eq!(pages, [(5_000, 5_000), (5_000, 10_000), (2_000, 12_000)], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_fewer_changes_than_were_read_starts_over() {
    let place = Place::new(Cluster::shared());
    for (kind, open) in both(&place).await {
        fill(&place, kind, 3);
        let changes = open().changes_since(1_000).await.unwrap();
        assert!(changes.starts_over, "{kind}");
        assert_eq!((changes.revision, changes.keys.len()), (3, 3), "{kind}");
        // Numbers of which no key is left are not asked for again and again.
        let schema = if kind == "sqlite" { "" } else { "mcpmeter." };
        let erase = format!("delete from {schema}api_key where revision = 3");
        if kind == "sqlite" {
            Connection::open(keys_file(&place)).unwrap().execute_batch(&erase).unwrap();
        } else {
            place.cluster.query(&place.url, &erase);
        }
        let changes = open().changes_since(1).await.unwrap();
        assert_eq!((changes.revision, ids(&changes.keys)), (3, vec!["key_10000002"]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_beside_a_journal_that_writes_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let opened = open_embedded(&file);
    let journal = opened.journal.clone();
    let recording = async {
        for number in 0..20_000 {
            journal.accept(plain(number));
            if number % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    let making = async {
        let store = KeyStore::sqlite(&file);
        for number in 0..50 {
            store.create(key(&format!("{number:08}"))).await.unwrap();
            store.touch(&[(format!("key_{number:08}").into(), later(1))]).await.unwrap();
        }
    };
    tokio::join!(recording, making);
    let health = journal.health();
    assert_eq!(health.disk.error, None, "the writer was never kept waiting for long");
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
    assert_eq!((journal.accounts().stored, journal.accounts().lost_total()), (20_000, 0));
    assert_eq!(KeyStore::sqlite(&file).list().await.unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_makes_the_file_and_the_journal_goes_on_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let store = KeyStore::sqlite(&file);
    for error in [
        store.list().await.unwrap_err(),
        store.changes_since(0).await.unwrap_err(),
        store.revoke("key_aaaaaaaa", MARCH).await.unwrap_err(),
        store.touch(&[("key_aaaaaaaa".into(), MARCH)]).await.unwrap_err(),
    ] {
        assert!(matches!(error, KeyError::NoFile { .. }), "{error}");
    }
    assert!(!file.exists(), "asking makes nothing");
    store.create(key("aaaaaaaa")).await.unwrap();
    let opened = open_embedded(&file);
    opened.journal.accept(plain(1));
    store.create(key("bbbbbbbb")).await.unwrap();
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
    assert_eq!(store.changes_since(0).await.unwrap().keys.len(), 2);
    let nowhere = KeyStore::sqlite(&directory.path().join("nowhere/journal.db"));
    let error = nowhere.create(key("aaaaaaaa")).await.unwrap_err();
    assert!(matches!(error, KeyError::File { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_others_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, setup: &str| {
        let file = directory.path().join(name);
        Connection::open(&file).unwrap().execute_batch(setup).unwrap();
        file
    };
    for (name, setup, told) in [
        ("foreign.db", "create table notes (text)", "cannot use "),
        ("newer.db", "pragma user_version = 99", "is of a newer version of mcpmeter: update this one"),
    ] {
        let file = file(name, setup);
        let before = std::fs::read(&file).unwrap();
        let error = KeyStore::sqlite(&file).create(key("aaaaaaaa")).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), before, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_saved_from_a_damaged_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    open_embedded(&file).writer.close().unwrap();
    let store = KeyStore::sqlite(&file);
    for id in ["aaaaaaaa", "bbbbbbbb"] {
        store.create(full_key(id)).await.unwrap();
    }
    store.rotate("key_aaaaaaaa", hash("second"), HOUR, MARCH).await.unwrap_err();
    store.revoke("key_aaaaaaaa", MARCH).await.unwrap();
    let before = store.list().await.unwrap();
    // The root of a table that every start touches.
    let root = {
        let connection = Connection::open(&file).unwrap();
        connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
        let select = "select rootpage from sqlite_schema where name = 'mcp_server_request_log'";
        connection.query_row(select, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    File::options().write(true).open(&file).unwrap().write_all_at(&[0xff; 8192], (root - 1) * 8192).unwrap();
    let opened = open_embedded(&file);
    assert_eq!(opened.journal.set_aside_files(), 1);
    assert_eq!(store.list().await.unwrap(), before, "by a reader that had the old file open, too");
    assert!(!store.changes_since(2).await.unwrap().starts_over);
    store.create(key("cccccccc")).await.unwrap();
    assert_eq!(ids(&store.changes_since(2).await.unwrap().keys), ["key_cccccccc"]);
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_retention_takes_a_key() {
    let place = Place::new(Cluster::shared());
    let retention = Retention { days: 1, sqlite_max_bytes: 1, ..Retention::default() };
    let in_database = open_patiently(&Options { retention, ..options(&place.file(), Some(&place.url)) });
    let (running, mut keeper) = Running::start_and_keep(in_database);
    for (kind, open) in both(&place).await {
        open().create(key("aaaaaaaa")).await.unwrap();
        if kind == "postgres" {
            keeper.retain().await;
        } else {
            let mut opened = open_patiently(&Options { retention, ..options(&keys_file(&place), None) });
            opened.journal.accept(plain(1));
            tokio::task::block_in_place(|| assert!(opened.writer.flush()));
            opened.keeper.roll_up().await;
            opened.keeper.retain().await;
            tokio::task::block_in_place(|| opened.writer.close()).unwrap();
            let rows = Connection::open(keys_file(&place)).unwrap();
            let rows = rows.query_row("select count(*) from mcp_server_request_log", [], |row| row.get(0));
            assert_eq!(rows, Ok(0_i64), "the call is gone");
        }
        assert_eq!(open().list().await.unwrap(), [key("aaaaaaaa")], "{kind}");
    }
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_unreachable_and_back_again_without_ado() {
    let cluster = Arc::new(Cluster::new());
    let place = Place::new(cluster);
    let store = KeyStore::postgres(&place.url.parse().unwrap()).unwrap();
    let error = store.list().await.unwrap_err();
    assert_eq!(error.to_string(), "the database has no tables for keys: run `mcpmeter migrate`");
    migrate(&place.url.parse().unwrap()).await.unwrap();
    store.create(key("aaaaaaaa")).await.unwrap();
    for how in [Stop::Fast, Stop::Immediate] {
        place.cluster.stop(how);
        for _ in 0..2 {
            let error = store.changes_since(0).await.unwrap_err();
            assert!(error.is_unreachable(), "{how:?}: {error}");
        }
        place.cluster.start();
        assert_eq!(store.changes_since(0).await.unwrap().keys, [key("aaaaaaaa")], "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_needs_no_right_to_make_keys_and_no_text_has_a_password() {
    let place = Place::new(Cluster::shared());
    migrate(&place.url.parse().unwrap()).await.unwrap();
    KeyStore::postgres(&place.url.parse().unwrap()).unwrap().create(key("aaaaaaaa")).await.unwrap();
    let role = format!("proxy_{}", place.url.rsplit('/').next().unwrap());
    place.cluster.query(
        &place.url,
        &format!(
            "create role {role} login; grant usage on schema mcpmeter to {role};
             grant select on mcpmeter.api_key, mcpmeter.api_key_revision to {role};
             grant update (last_used_at) on mcpmeter.api_key to {role}"
        ),
    );
    let url = place.url.replace("postgres@", &format!("{role}:s3cret@"));
    let store = KeyStore::postgres(&url.parse().unwrap()).unwrap();
    assert_eq!(ids(&store.changes_since(0).await.unwrap().keys), ["key_aaaaaaaa"]);
    store.touch(&[("key_aaaaaaaa".into(), later(1))]).await.unwrap();
    assert_eq!(store.list().await.unwrap()[0].last_used_at, Some(later(1)));
    for error in [
        store.create(key("bbbbbbbb")).await.unwrap_err(),
        store.revoke("key_aaaa", MARCH).await.map(drop).unwrap_err(),
    ] {
        let told = format!("{error} {error:?}");
        assert!(told.contains("permission denied for table api_key_revision"), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
    place.cluster.query(&place.url, &format!("drop owned by {role}; drop role {role}"));
}

/// Everything that a store of keys does.
pub(crate) async fn use_keys(store: &KeyStore) {
    for round in 0..3 {
        let id = format!("round{round:03}");
        store.create(key(&id)).await.unwrap();
        store.rotate(&format!("key_{id}"), hash("second"), HOUR, MARCH).await.unwrap();
        store.touch(&[(format!("key_{id}").into(), later(1))]).await.unwrap();
        store.revoke(&format!("key_{id}"), MARCH).await.unwrap();
        let changes = store.changes_since(round * 3).await.unwrap();
        assert_eq!((changes.revision, changes.keys.len()), (round * 3 + 3, 1));
        assert!(matches!(store.find("key_nobody").await, Err(KeyError::Unknown { .. })));
    }
    assert_eq!(store.list().await.unwrap().len(), 3);
}
