//! schema.sql: applied once or ten times, commented throughout, never applied backwards.

use crate::{harness::Place, postgres::Cluster};
use mcpmeter_journal::{MigrateError, PostgresUrl, SCHEMA_VERSION, migrate};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn migrating_twice_or_all_at_once_is_the_same_as_once() {
    let place = Place::new(Cluster::shared());
    let url: PostgresUrl = place.url.parse().unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        tasks.spawn(async move { migrate(&url).await });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap().to, SCHEMA_VERSION);
    }
    let again = migrate(&url).await.unwrap();
    assert_eq!(again.from, Some(SCHEMA_VERSION));
    assert_eq!(place.count("select count(*) from mcpmeter.schema_version"), 1);
    // Today, the next seven days, and the default partition; around midnight one more.
    let partitions = place.count(
        "select count(*) from pg_inherits where inhparent = 'mcpmeter.mcp_server_request_log'::regclass",
    );
    assert!((9..=10).contains(&partitions), "{partitions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_sql_can_be_run_by_hand_again_and_again() {
    let place = Place::new(Cluster::shared());
    let schema = include_str!("../../../schema.sql");
    for _ in 0..2 {
        place.cluster.query(&place.url, schema);
    }
    let done = migrate(&place.url.parse().unwrap()).await.unwrap();
    assert_eq!(done.from, Some(SCHEMA_VERSION));
    assert!(schema.lines().next().unwrap().contains(&format!("version {SCHEMA_VERSION}:")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_left_alone() {
    let place = Place::new(Cluster::shared());
    let url: PostgresUrl = place.url.parse().unwrap();
    migrate(&url).await.unwrap();
    place.cluster.query(&place.url, "insert into mcpmeter.schema_version (version) values (99)");
    let error = migrate(&url).await.unwrap_err();
    assert!(matches!(error, MigrateError::Newer { found: 99 }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_every_column_and_every_function_has_a_comment() {
    let place = Place::new(Cluster::shared());
    migrate(&place.url.parse().unwrap()).await.unwrap();
    let bare = place.cluster.query(
        &place.url,
        "select c.oid::regclass::text, a.attname::text
         from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attnum >= 0 and not a.attisdropped
         where c.relnamespace = 'mcpmeter'::regnamespace and c.relkind in ('r', 'p', 'v')
           and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)
         union all
         select p.oid::regprocedure::text, '' from pg_proc p
         where p.pronamespace = 'mcpmeter'::regnamespace and obj_description(p.oid, 'pg_proc') is null",
    );
    assert_eq!(bare, "");
    assert!(place.count("select count(*) from pg_class where relnamespace = 'mcpmeter'::regnamespace") > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_its_five_indexes_and_no_more() {
    let place = Place::new(Cluster::shared());
    migrate(&place.url.parse().unwrap()).await.unwrap();
    let told = place.cluster.query(
        &place.url,
        "select regexp_replace(indexdef, '.*USING btree ', '') from pg_indexes
         where schemaname = 'mcpmeter' and tablename = 'mcp_server_request_log_template' order by 1",
    );
    let expected = [
        "(created_at, id)",
        "(mcp_server_instance_id, created_at)",
        "(status, created_at)",
        "(tool_name, created_at)",
        "(transport_type, created_at)",
        "(user_id, created_at)",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_version_1_becomes_one_of_this_version_in_place() {
    let place = Place::new(Cluster::shared());
    place.cluster.query(&place.url, include_str!("schema_1.sql"));
    place.cluster.query(
        &place.url,
        "select mcpmeter.ensure_partitions('2026-03-01', '2026-03-03');
         insert into mcpmeter.mcp_server_request_log
           (id, created_at, completed_at, duration_ms, latency_bucket, mcp_server_instance_id, method, transport_type,
            client_transport, status, input_bytes, output_bytes, auth_method, auth_state, match, redelivered,
            client_left, cancel_requested, header_mismatch)
         select gen_random_uuid(), at, at, 1, 1, 'i', 'tools/call', 'SSE', 'SSE', 'ok', 1, 2, 'none', 'ok', 'exact', 0,
                false, false, false
         from generate_series(timestamptz '2026-03-01 00:00:00+00', '2026-03-03 23:59:59+00', '1 minute') as at;
         insert into mcpmeter.outbox_cursor (spool_id, seq) values (gen_random_uuid(), 42)",
    );
    let contents = "select md5(string_agg((to_jsonb(r) - 'cpu_shared')::text, ',' order by id))
                    from mcpmeter.mcp_server_request_log r";
    let partitions =
        "select count(*) from pg_inherits where inhparent = 'mcpmeter.mcp_server_request_log'::regclass";
    let before = (place.cluster.query(&place.url, contents), place.count(partitions));
    let done = migrate(&place.url.parse().unwrap()).await.unwrap();
    assert_eq!((done.from, done.to), (Some(1), SCHEMA_VERSION));
    assert_eq!((place.cluster.query(&place.url, contents), place.count(partitions)), before);
    assert_eq!(place.count("select seq from mcpmeter.outbox_cursor"), 42);
    let secondary = "select count(*) from pg_index where not indisprimary and indrelid = ";
    let of =
        |table: &str| place.count(&format!("{secondary}'mcpmeter.mcp_server_request_log{table}'::regclass"));
    // Its indexes are its partitions' own now: those that it had, and those that are made later.
    assert_eq!([of(""), of("_default"), of("_20260302")], [0, 5, 5]);
    place.cluster.query(&place.url, "select mcpmeter.ensure_partitions('2026-03-09', '2026-03-09')");
    assert_eq!(of("_20260309"), 5);
    let applied =
        place.cluster.query(&place.url, "select string_agg(version::text, ' ') from mcpmeter.schema_version");
    assert_eq!(applied, format!("1 {SCHEMA_VERSION}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_version_2_gets_the_functions_that_it_lacks() {
    let place = Place::new(Cluster::shared());
    place.cluster.query(&place.url, include_str!("schema_2.sql"));
    let lacking = "select count(*) from pg_proc
         where pronamespace = 'mcpmeter'::regnamespace and proname = 'refuse_strays'";
    assert_eq!(place.count(lacking), 0);
    let done = migrate(&place.url.parse().unwrap()).await.unwrap();
    assert_eq!((done.from, done.to), (Some(2), SCHEMA_VERSION));
    assert_eq!(place.count(lacking), 1);
}
