//! The network between mcpmeter and PostgreSQL is cut, slowed to a byte a second, and stalled.

use crate::{link::State, rounds, world::World};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_to_postgresql_is_cut_slowed_and_stalled() {
    let mut world = World::new("").await;
    world.program.start();
    let traffic = world.traffic();
    for _ in 0..rounds(1) {
        for state in [State::Cut, State::Slow, State::Stalled, State::Slow, State::Cut, State::Stalled] {
            world.hear(100).await;
            world.link.set(state);
            world.hear(100).await;
            // Long enough for a few bytes of the next batch to have passed.
            sleep(Duration::from_millis(300)).await;
            world.link.set(State::Up);
        }
    }
    world.judge(Some(traffic)).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_in_the_middle_of_many_commits_makes_no_duplicates() {
    let mut world = World::new("").await;
    world.program.start();
    let traffic = world.heavy_traffic();
    for round in 0..rounds(10) {
        world.hear(20).await;
        sleep(Duration::from_millis(100 + round * 13 % 200)).await;
        world.link.set(State::Cut);
        world.link.set(State::Up);
    }
    world.judge(Some(traffic)).await.assert_complete();
}
