//! Somebody has been in the database: the cursor's row is gone, today's partition is gone. Nothing is stored twice,
//! nothing is lost but what was dropped.

use crate::{judge::KEPT, link::State, rounds, until, world::World};
use std::time::Duration;
use tokio::time::sleep;

/// Every outbox begins anew, as far as PostgreSQL knows.
pub(crate) const DELETE: &str = "delete from mcpmeter.outbox_cursor";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_cursor_makes_no_duplicates() {
    let mut world = World::new("").await;
    world.program.start();
    world.until_connected().await;
    let traffic = world.traffic();
    for round in 0..rounds(4) {
        world.hear(150).await;
        if round % 2 == 0 {
            // The next life finds rows in the outbox that are stored, and no cursor to say so.
            world.link.set(State::Cut);
            world.program.kill();
            world.cluster.query(&world.url, DELETE);
            world.program.start();
            world.link.set(State::Up);
        } else {
            world.cluster.query(&world.url, DELETE);
        }
    }
    world.judge(Some(traffic)).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_partition_costs_no_call_but_its_own_and_does_not_go_unnoticed() {
    let mut world = World::new("").await;
    world.program.start();
    world.until_connected().await;
    world.cluster.query(
        &world.url,
        &format!("create table {KEPT} as select * from mcpmeter.mcp_server_request_log limit 0"),
    );
    let traffic = world.traffic();
    for _ in 0..rounds(2) {
        world.hear(100).await;
        sleep(Duration::from_millis(300)).await;
        world.cluster.query(&world.url, DROP_TODAY);
    }
    world.hear(100).await;
    traffic.stop().await;
    world.until_shipped().await;
    let strays = "select count(*) from only mcpmeter.mcp_server_request_log_default";
    if world.cluster.query(&world.url, strays) != "0" {
        // Stored, if not where they belong: somebody has to be told.
        let metric = "mcpmeter_log_default_partition_rows ";
        until("an alarm", async || world.program.metric(metric).await.is_ok_and(|rows| rows > 0)).await;
    }
    world.judge(None).await.assert_complete();
}

/// Keeps the partition's rows for the judge and drops it, all or nothing.
const DROP_TODAY: &str = "
    do $$
    declare today text := 'mcpmeter.mcp_server_request_log_' || to_char(now() at time zone 'UTC', 'YYYYMMDD');
    begin
      lock table mcpmeter.mcp_server_request_log in access exclusive mode;
      if to_regclass(today) is not null then
        execute 'insert into public.kept select * from ' || today;
        execute 'drop table ' || today;
      end if;
    end $$";
