//! A backlog, made as fast as the callers can while PostgreSQL is away, is shipped while the traffic goes on.

use crate::{link::State, rounds, world::World};
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_shipped_while_traffic_goes_on() {
    let mut world = World::new("").await;
    world.program.start();
    world.until_connected().await;
    world.link.set(State::Cut);
    let traffic = world.heavy_traffic();
    sleep(Duration::from_secs(rounds(2))).await;
    let backlog = world.program.accounts().await.expect("it runs").outbox;
    assert!(backlog > 200, "only {backlog} calls wait");
    world.link.set(State::Up);
    let began = Instant::now();
    world.until_accounts("the backlog is shipped", |accounts| accounts.stored > backlog).await;
    println!("{backlog} calls shipped in {:?}, under traffic", began.elapsed());
    world.judge(Some(traffic)).await.assert_complete();
}
