//! What the version before has left is gone on with: the SQLite file, its outbox, its queue, and the database.

use crate::{
    harness::{Place, Running, eventually, gaps, open_embedded, open_patiently, options},
    postgres::Cluster,
    records::{full, plain, unicode},
};
use mcpmeter_journal::{
    ApiKey, CallFilter, KeyError, KeyStore, Options, Reader, Retention, Row, SCHEMA_VERSION, SecretHash,
    Value, migrate,
};
use mcpmeter_observer::{CallRecord, Timestamp};
use rusqlite::Connection;
use std::{fs, path::Path};

/// The full record as it was in format 1.
fn full_of_format_1(number: u64) -> CallRecord {
    CallRecord { cpu_shared: None, ..*full(number) }
}

/// As a process of the version before left it that was killed: a store, an outbox, and a queue.
fn leave_format_1(directory: &Path) {
    let file = Connection::open(directory.join("journal.db")).unwrap();
    file.execute_batch(include_str!("format_1.sql")).unwrap();
    let queue = directory.join("mcpmeter-of-format-1.ring");
    fs::write(&queue, include_bytes!("queue_1.ring")).unwrap();
    fs::write(directory.join("journal.db.lock"), format!("{}\n", queue.display())).unwrap();
}

fn rows(mut rows: Vec<Row>) -> Vec<String> {
    rows.sort_by_key(Row::cursor);
    rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect()
}

fn expected(records: &[CallRecord]) -> Vec<String> {
    rows(records.iter().map(Row::from_record).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_and_a_queue_of_format_1_are_read_and_get_the_new_column() {
    let directory = tempfile::tempdir().unwrap();
    leave_format_1(directory.path());
    let file = directory.path().join("journal.db");
    let refusal = Reader::sqlite(&file).err().expect("it has to be brought up to date first").to_string();
    assert!(
        refusal.ends_with("of an earlier version of mcpmeter: start `mcpmeter serve` on it once"),
        "{refusal}"
    );
    let opened = open_embedded(&file);
    assert_eq!(opened.journal.accounts().recovered, 3 + 2, "three in the outbox, two in the queue");
    opened.journal.accept(full(8));
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
    let stored = Reader::sqlite(&file).unwrap().calls(&CallFilter::default(), None, 100).await.unwrap();
    let shared = |number: usize| stored[stored.len() - number].get("cpu_shared").cloned();
    assert_eq!([shared(1), shared(2)], [Some(Value::Null), Some(Value::Null)]);
    let known = [full_of_format_1(1), *unicode(2), full_of_format_1(6), *plain(7), *full(8)];
    assert_eq!(rows(stored), expected(&known));
    assert_eq!(gaps(&file), []);
    // Once is enough, and an older version keeps its hands off.
    open_embedded(&file).writer.close().unwrap();
    let format = Connection::open(&file).unwrap().pragma_query_value(None, "user_version", |row| row.get(0));
    assert_eq!(format, Ok(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_and_a_queue_of_format_1_reach_postgresql_with_the_records_behind_them() {
    let place = Place::new(Cluster::shared());
    leave_format_1(place.directory.path());
    let running = place.run();
    running.journal.accept(full(8));
    let journal = running.journal.clone();
    running.close().await;
    let accounts = journal.accounts();
    assert_eq!((accounts.stored, accounts.lost_total()), (6, 0));
    let stored = Reader::postgres(&place.url.parse().unwrap()).unwrap();
    let stored = stored.calls(&CallFilter::default(), None, 100).await.unwrap();
    let known = [full_of_format_1(3), *unicode(4), *plain(5), full_of_format_1(6), *plain(7), *full(8)];
    assert_eq!(rows(stored), expected(&known));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_2_keeps_its_calls_and_gets_tables_for_keys() {
    for starts_with_a_key in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        Connection::open(&file).unwrap().execute_batch(include_str!("format_2.sql")).unwrap();
        let keys = KeyStore::sqlite(&file);
        let refusal = keys.list().await.unwrap_err().to_string();
        assert!(refusal.contains("of an earlier version of mcpmeter: start `mcpmeter serve`"), "{refusal}");
        if starts_with_a_key {
            // Not under the eyes of a proxy of that version.
            let lock = fs::File::create(directory.path().join("journal.db.lock")).unwrap();
            lock.lock().unwrap();
            let refusal = keys.create(key()).await.unwrap_err().to_string();
            assert!(refusal.contains("of an earlier version of mcpmeter"), "{refusal}");
            drop(lock);
            keys.create(key()).await.unwrap();
        }
        let opened = open_embedded(&file);
        if !starts_with_a_key {
            keys.create(key()).await.unwrap();
        }
        opened.journal.accept(full(1));
        tokio::task::block_in_place(|| opened.writer.close()).unwrap();
        assert_eq!(keys.list().await.unwrap(), [key()]);
        let stored = Reader::sqlite(&file).unwrap().calls(&CallFilter::default(), None, 100).await.unwrap();
        assert_eq!(stored.len(), 3);
    }
}

fn key() -> ApiKey {
    ApiKey {
        id: "key_aaaaaaaa".into(),
        hash: SecretHash([7; 32]),
        previous: None,
        name: None,
        user_id: "u_1".into(),
        organization_id: None,
        routes: Vec::new(),
        tools: Vec::new(),
        rate_per_minute: None,
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_version_4_keeps_its_calls_and_gets_tables_for_keys() {
    let place = Place::new(Cluster::shared());
    place.cluster.query(&place.url, include_str!("schema_4.sql"));
    place.cluster.query(&place.url, VERSION_3);
    let keys = KeyStore::postgres(&place.url.parse().unwrap()).unwrap();
    assert!(matches!(keys.create(key()).await, Err(KeyError::NoTables)));
    let done = migrate(&place.url.parse().unwrap()).await.unwrap();
    assert_eq!((done.from, done.to), (Some(4), SCHEMA_VERSION));
    assert_eq!(place.stored(), (4, 4));
    keys.create(key()).await.unwrap();
    // By hand, and again: what there is stays.
    place.cluster.query(&place.url, include_str!("../../../schema.sql"));
    assert_eq!(keys.changes_since(0).await.unwrap().keys, [key()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_version_5_keeps_its_calls_and_gets_a_table_for_bodies() {
    let place = Place::new(Cluster::shared());
    place.cluster.query(&place.url, include_str!("schema_5.sql"));
    place.cluster.query(&place.url, VERSION_3);
    let table = "select count(*) from pg_class where relname = 'mcp_call_body'";
    assert_eq!(place.count(table), 0);
    let done = migrate(&place.url.parse().unwrap()).await.unwrap();
    assert_eq!((done.from, done.to), (Some(5), SCHEMA_VERSION));
    assert_eq!((place.stored(), place.count(table)), ((4, 4), 1));
    place.cluster.query(&place.url, include_str!("../../../schema.sql"));
}

/// A database of version 3 with a call on each of four days in March, of which the first is just being exchanged for its
/// compressed form, and the last lies in the default partition.
const VERSION_3: &str = "
    select mcpmeter.ensure_partitions('2026-03-01', '2026-03-03');
    insert into mcpmeter.mcp_server_request_log
      (id, created_at, completed_at, duration_ms, latency_bucket, mcp_server_instance_id, method, transport_type,
       client_transport, status, input_bytes, output_bytes, cpu_ms, cpu_percent, memory_bytes, auth_method, auth_state,
       match, redelivered, client_left, cancel_requested, header_mismatch)
    select gen_random_uuid(), at, at, 1, 1, 'i', 'tools/call', 'SSE', 'SSE', 'ok', 1, 2, 0.5, 1.5, 2048, 'none', 'ok',
           'exact', 0, false, false, false
    from unnest(array['2026-03-01 12:00+00', '2026-03-02 12:00+00', '2026-03-03 12:00+00', '2026-03-04 12:00+00']
                ::timestamptz[]) as at;
    select mcpmeter.compress_next(1);
    select mcpmeter.compress_next(1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_version_3_gets_the_new_column_and_keeps_what_it_has() {
    let place = Place::new(Cluster::shared());
    place.cluster.query(&place.url, include_str!("schema_3.sql"));
    place.cluster.query(&place.url, VERSION_3);
    // The former table of the first day is still there.
    let former =
        "select count(*) from pg_class where relname ~ '^mcp_server_request_log_[0-9]{8}_(old|new)$'";
    assert_eq!(place.count(former), 1);
    let names = "id, created_at, cpu_ms, cpu_percent, memory_bytes, auth_method, mrtr_group";
    let contents = format!(
        "select string_agg(row({names})::text, ',' order by id) from mcpmeter.mcp_server_request_log"
    );
    let before = place.cluster.query(&place.url, &contents);
    let done = migrate(&place.url.parse().unwrap()).await.unwrap();
    assert_eq!((done.from, done.to), (Some(3), SCHEMA_VERSION));
    assert_eq!(place.cluster.query(&place.url, &contents), before);
    let lacking = "select count(*) from pg_class
        where relnamespace = 'mcpmeter'::regnamespace and relname ~ '^mcp_server_request_log' and relkind in ('r', 'p')
          and not exists (select from pg_attribute where attrelid = pg_class.oid and attname = 'cpu_shared')";
    assert_eq!(place.count(lacking), 0);
    let comments = "select count(distinct col_description(attrelid, attnum)) || ' ' || count(col_description(attrelid, attnum))
        from pg_attribute where attname = 'cpu_shared' and attrelid in
          ('mcpmeter.mcp_server_request_log'::regclass, 'mcpmeter.mcp_server_request_log_template'::regclass)";
    assert_eq!(place.cluster.query(&place.url, comments), "1 2");
    assert_eq!(place.cluster.query(&place.url, "select mcpmeter.empty_default_partition()"), "1");

    // What was begun is finished, and the rest is compressed; then both kinds of days take calls of this version.
    let retention = Retention { compress_after_days: 1, ..Retention::default() };
    let opened = open_patiently(&Options { retention, ..options(&place.file(), Some(&place.url)) });
    let (running, mut keeper) = Running::start_and_keep(opened);
    running.journal.accept(full(1));
    eventually("it is stored", || running.journal.accounts().stored == 1).await;
    keeper.retain().await;
    assert_eq!(place.count(former), 0);
    running.journal.accept(full(2));
    running.close().await;
    assert_eq!(place.stored(), (6, 6));
    let shared =
        "select count(*) from mcpmeter.mcp_server_request_log where cpu_shared and cpu_percent = 99.9";
    assert_eq!(place.count(shared), 2);
    assert_eq!(migrate(&place.url.parse().unwrap()).await.unwrap().from, Some(SCHEMA_VERSION));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_being_built_anew_gets_the_column_too() {
    let place = Place::new(Cluster::shared());
    place.cluster.query(&place.url, include_str!("schema_3.sql"));
    place.cluster.query(&place.url, VERSION_3);
    // Tidied up, and the second day built and not exchanged yet.
    place.cluster.query(&place.url, "select mcpmeter.compress_next(1); select mcpmeter.compress_next(1)");
    let half = "select count(*) from mcpmeter.mcp_server_request_log_20260302_new";
    assert_eq!(place.count(half), 1);
    migrate(&place.url.parse().unwrap()).await.unwrap();
    let steps = ["exchanged", "finished"].map(|step| format!("{step} mcp_server_request_log_20260302"));
    for step in steps {
        assert_eq!(place.cluster.query(&place.url, "select mcpmeter.compress_next(0)"), step);
    }
    assert_eq!(place.stored(), (4, 4));
}
