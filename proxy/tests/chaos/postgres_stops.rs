//! PostgreSQL is not there at the start, stops in order, crashes, and cuts its backends' throats.

use crate::{postgres::Stop, rounds, world::World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_stops_crashes_and_kills_its_backends() {
    let mut world = World::alone("").await;
    world.cluster.stop(Stop::Fast);
    world.program.start();
    let traffic = world.traffic();
    world.hear(200).await;
    world.cluster.start();
    for _ in 0..rounds(1) {
        for how in [Stop::Immediate, Stop::Fast] {
            world.hear(200).await;
            world.cluster.stop(how);
            world.hear(200).await;
            world.cluster.start();
        }
        for _ in 0..5 {
            world.hear(50).await;
            kill_backends(&world);
        }
    }
    world.judge(Some(traffic)).await.assert_complete();
}

/// Ends every other connection of the database, whatever it is doing.
pub(crate) fn kill_backends(world: &World) {
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    world.cluster.query(&world.url, sql);
}
