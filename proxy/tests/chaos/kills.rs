//! The program is killed at random moments, and told to stop at others, under traffic; the next life of it begins
//! on the same folder and the same shared memory.

use crate::{link::State, rounds, world::World};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_finished_just_before_a_sigkill_survive_it() {
    let mut world = World::new("").await;
    let mut random = fastrand::Rng::with_seed(3);
    world.program.start();
    let traffic = world.heavy_traffic();
    for _ in 0..rounds(8) {
        world.hear(random.u64(1..200)).await;
        sleep(Duration::from_micros(random.u64(..30_000))).await;
        world.program.kill();
        world.program.start();
    }
    world.judge(Some(traffic)).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_sigterm_nor_sigkill_loses_a_call_while_postgresql_is_away() {
    let mut world = World::new("flush_timeout_ms = 50").await;
    let mut random = fastrand::Rng::with_seed(4);
    world.program.start();
    let traffic = world.heavy_traffic();
    for round in 0..rounds(8) {
        world.link.set(if round % 4 < 2 { State::Cut } else { State::Up });
        world.hear(random.u64(1..200)).await;
        sleep(Duration::from_micros(random.u64(..30_000))).await;
        if round % 2 == 0 {
            world.program.kill()
        } else {
            world.program.stop()
        }
        world.program.start();
    }
    world.link.set(State::Up);
    world.judge(Some(traffic)).await.assert_complete();
}
