//! All faults at random, one on the heels of the other, without end but the clock's.

use crate::{
    link::State, lost_cursor::DELETE, postgres::Stop, postgres_stops::kill_backends, storm_seconds,
    world::World,
};
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_faults_costs_no_call() {
    let seed = fastrand::u64(..);
    println!("the storm's seed is {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::alone("flush_timeout_ms = 100").await;
    world.program.start();
    world.until_connected().await;
    let traffic = world.heavy_traffic();
    let end = Instant::now() + Duration::from_secs(storm_seconds());
    while Instant::now() < end {
        sleep(Duration::from_millis(random.u64(10..400))).await;
        strike(&mut world, &mut random).await;
        // Whatever has happened, callers are served.
        world.hear(5).await;
    }
    world.judge(Some(traffic)).await.assert_complete();
}

/// One fault, and its end.
async fn strike(world: &mut World, random: &mut fastrand::Rng) {
    let while_it_lasts = Duration::from_millis(random.u64(10..1_000));
    match random.u8(..10) {
        0 => restart_postgresql(world, Stop::Fast, while_it_lasts).await,
        1 => restart_postgresql(world, Stop::Immediate, while_it_lasts).await,
        2 => kill_backends(world),
        3 => disturb(world, State::Cut, while_it_lasts).await,
        4 => disturb(world, State::Slow, while_it_lasts).await,
        5 => disturb(world, State::Stalled, while_it_lasts).await,
        6 => drop(world.cluster.query(&world.url, DELETE)),
        7 => {
            world.program.stop();
            world.program.start();
        }
        _ => {
            world.program.kill();
            world.program.start();
        }
    }
}

async fn restart_postgresql(world: &World, how: Stop, away: Duration) {
    world.cluster.stop(how);
    sleep(away).await;
    world.cluster.start();
}

async fn disturb(world: &World, state: State, while_it_lasts: Duration) {
    world.link.set(state);
    sleep(while_it_lasts).await;
    world.link.set(State::Up);
}
