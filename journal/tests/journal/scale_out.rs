//! What schema.sql says about TimescaleDB and Citus, as far as it can be told without them: neither is packaged where
//! these tests run, and neither has ever been run. The statements are ones that PostgreSQL can parse and that name
//! what is there; and our own side of a table without partitions works. A stand-in for an engine's function shows
//! what it is called with. That an engine accepts it, or what it does then, nothing in here shows.

use crate::{
    harness::{Place, Running, eventually, open_patiently, options},
    postgres::Cluster,
    records::plain,
};
use mcpmeter_journal::{Keeper, Options, Reader, Retention, RollupQuery, Span, Subject, migrate};
use mcpmeter_observer::Timestamp;
use tokio_postgres::{NoTls, error::SqlState};

const SCHEMA: &str = include_str!("../../../schema.sql");

/// The statement that the comment at the head of schema.sql begins so.
fn documented(beginning: &str) -> &'static str {
    let head = SCHEMA.split("begin;").next().unwrap();
    let statement = &head[head.find(beginning).unwrap_or_else(|| panic!("{beginning} is not documented"))..];
    statement.split_inclusive(';').next().unwrap()
}

/// What the server says against a statement.
async fn refusal(place: &Place, statement: &str) -> (SqlState, String) {
    let (client, connection) = tokio_postgres::connect(&place.url, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    let error = client.batch_execute(statement).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    (error.code().clone(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_statements_parse_and_name_what_is_there() {
    let place = Place::new(Cluster::shared());
    migrate(&place.url.parse().unwrap()).await.unwrap();
    let citus = documented("select create_distributed_table");
    assert_eq!(citus, "select create_distributed_table('mcpmeter.mcp_server_request_log', 'id');");
    let (code, told) = refusal(&place, citus).await;
    assert_eq!(code, SqlState::UNDEFINED_FUNCTION, "{told}");
    assert_eq!(told, "function create_distributed_table(unknown, unknown) does not exist");
    // What Citus's documentation asks of the distribution column: never null, and in every unique key.
    let column = "select attnotnull from pg_attribute
                  where attrelid = 'mcpmeter.mcp_server_request_log'::regclass and attname = 'id'";
    assert_eq!(place.cluster.query(&place.url, column), "t");
    for engine_column in ["id", "created_at"] {
        let lacking = format!(
            "select count(*) from pg_index
             where indisunique and indrelid in (select 'mcpmeter.mcp_server_request_log'::regclass union all
               select inhrelid from pg_inherits where inhparent = 'mcpmeter.mcp_server_request_log'::regclass)
               and not exists (select from pg_attribute where attrelid = indrelid and attnum = any(indkey)
                                                          and attname = '{engine_column}')"
        );
        assert_eq!(place.count(&lacking), 0, "{engine_column}");
    }
    let (code, told) = refusal(&place, documented("create extension timescaledb")).await;
    assert_ne!(code, SqlState::SYNTAX_ERROR, "{told}");
    assert!(told.contains("timescaledb"), "{told}");
}

/// As `create extension timescaledb` would leave it behind, as far as schema.sql looks: an entry in the catalogue,
/// and the two functions, which do nothing but write down what they were called with.
const STAND_IN: &str = "
    set allow_system_table_mods = on;
    insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    values (99999, 'timescaledb', 10, 'public'::regnamespace, false, '0');
    create table public.called (name text, relation regclass, argument text);
    create function public.create_hypertable(relation regclass, time_column_name name, chunk_time_interval interval)
    returns void language sql as $$
      insert into public.called values ('create_hypertable', relation, time_column_name || ' ' || chunk_time_interval) $$;
    create function public.drop_chunks(relation regclass, older_than timestamptz)
    returns setof text language sql as $$
      insert into public.called values ('drop_chunks', relation, older_than at time zone 'UTC') returning name $$;";

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_partitions_is_filled_rolled_up_and_emptied() {
    let place = Place::new(Cluster::shared());
    place.cluster.query(&place.url, STAND_IN);
    let retention = Retention { days: 30, compress_after_days: 1, ..Retention::default() };
    let opened = open_patiently(&Options { retention, ..options(&place.file(), Some(&place.url)) });
    let (running, mut keeper) = Running::start_and_keep(opened);
    // Two days of March.
    (0..20).for_each(|number| running.journal.accept(plain(number * 86_400_000 / 10)));
    eventually("they are stored", || running.journal.accounts().stored == 20).await;
    let kind = "select relkind from pg_class where oid = 'mcpmeter.mcp_server_request_log'::regclass";
    assert_eq!(place.cluster.query(&place.url, kind), "r");
    let called = |name: &str| {
        let argument =
            format!("select relation || ' ' || argument from called where name = '{name}' order by 1");
        place.cluster.query(&place.url, &argument)
    };
    assert_eq!(called("create_hypertable"), "mcpmeter.mcp_server_request_log created_at 1 day");
    let indexes =
        "select count(*) from pg_index where indrelid = 'mcpmeter.mcp_server_request_log'::regclass";
    assert_eq!(place.count(indexes), 6);

    keeper.roll_up().await;
    keeper.retain().await;
    assert_eq!(place.stored(), (0, 0));
    let mut days = ["2026-03-02 00:00:00", "2026-03-03 00:00:00"]
        .map(|at| format!("mcpmeter.mcp_server_request_log {at}"));
    days.sort();
    assert_eq!(called("drop_chunks").lines().collect::<Vec<_>>(), days);
    let march = RollupQuery {
        subject: Subject::Tool,
        span: Span::Day,
        since: Timestamp(0),
        until: Timestamp(i64::MAX),
        only: Vec::new(),
        by_time: false,
        by: Vec::new(),
        latency: false,
        present: true,
    };
    let cells = Reader::postgres(&place.url.parse().unwrap()).unwrap().rollup(&march).await.unwrap().cells;
    assert_eq!(cells[0].sums.calls, 20, "cells outlive their rows");
    assert_eq!(running.journal.health().default_partition_rows, 0);
    running.close().await;
}

/// A day in March with more calls than used to be deleted at once, in 24 buckets of 5 minutes.
const MANY: u64 = 12_000;

/// A log without partitions that holds [`MANY`] calls of a day, rolled up.
async fn without_partitions(place: &Place) -> (Running, Keeper) {
    place.cluster.query(&place.url, STAND_IN);
    let retention = Retention { days: 30, ..Retention::default() };
    let opened = open_patiently(&Options { retention, ..options(&place.file(), Some(&place.url)) });
    let (running, mut keeper) = Running::start_and_keep(opened);
    (0..MANY).for_each(|number| running.journal.accept(plain(number * 600)));
    eventually("they are stored", || running.journal.accounts().stored == MANY).await;
    keeper.roll_up().await;
    (running, keeper)
}

/// What the rollups say.
async fn counted(place: &Place) -> u64 {
    let everything = RollupQuery {
        subject: Subject::Tool,
        span: Span::FiveMinutes,
        since: Timestamp(0),
        until: Timestamp(i64::MAX),
        only: Vec::new(),
        by_time: false,
        by: Vec::new(),
        latency: false,
        present: true,
    };
    let reader = Reader::postgres(&place.url.parse().unwrap()).unwrap();
    reader.rollup(&everything).await.unwrap().cells.iter().map(|cell| cell.sums.calls).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_partitions_a_call_that_comes_after_the_first_step_of_deleting_its_day_is_counted_once() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = without_partitions(&place).await;
    // One step, as far as a keeper comes that is killed then.
    place.cluster.query(
        &place.url,
        "begin; select mcpmeter.lock_expired_day(30);
         select mcpmeter.rollup_keep('2026-03-01 00:00+00', '2026-03-02 00:00+00');
         select mcpmeter.drop_day('2026-03-01 00:00+00'); commit",
    );
    running.journal.accept(plain(MANY * 600 - 1));
    eventually("it is stored", || running.journal.accounts().stored == MANY + 1).await;
    assert_eq!(counted(&place).await, MANY + 1);
    keeper.roll_up().await;
    assert_eq!(counted(&place).await, MANY + 1);
    keeper.retain().await;
    keeper.roll_up().await;
    assert_eq!((counted(&place).await, place.stored().0), (MANY + 1, 0));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_partitions_a_call_that_comes_while_its_day_is_being_deleted_is_counted_once() {
    let place = Place::new(Cluster::shared());
    let (running, mut keeper) = without_partitions(&place).await;
    // Whoever keeps cells stops there until the door is open.
    place.cluster.query(
        &place.url,
        "create function stop() returns trigger language plpgsql as $$ begin
           while not pg_try_advisory_xact_lock(42) loop perform pg_sleep(0.01); end loop; return null; end $$;
         create trigger stop after update on mcpmeter.rollup_5min_tool for each statement execute function stop()",
    );
    let (door, connection) = tokio_postgres::connect(&place.url, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    door.batch_execute("select pg_advisory_lock(42)").await.unwrap();
    let late = async {
        let waiting = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
        eventually("the cells are being kept", || place.count(waiting) == 1).await;
        running.journal.accept(plain(MANY * 600 - 1));
        eventually("it is stored", || running.journal.accounts().stored == MANY + 1).await;
        drop(door);
    };
    tokio::join!(keeper.retain(), late);
    place.cluster.query(&place.url, "drop trigger stop on mcpmeter.rollup_5min_tool");
    keeper.roll_up().await;
    assert_eq!(counted(&place).await, MANY + 1);
    keeper.retain().await;
    keeper.roll_up().await;
    assert_eq!((counted(&place).await, place.stored().0), (MANY + 1, 0));
    running.close().await;
}
