//! The wall clock steps, back and forth, by days and by seconds, under a running program and between two lives.
//! Only the program's clock: a few lines of C are preloaded into it (`stepping_clock.c`).

use crate::{rounds, world::World};
use std::{fs, path::Path, process::Command};

/// Seconds: yesterday, an hour ago, the day after tomorrow, five seconds ago, now.
const STEPS: [i64; 5] = [-86_400, -3_600, 172_800, -5, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_costs_no_call() {
    let mut world = World::new("").await;
    let step = world.program.folder().join("step");
    set(&step, 0);
    world.program.environment =
        vec![("LD_PRELOAD", compile(world.program.folder()).into()), ("STEPPING_CLOCK", step.clone().into())];
    world.program.start();
    let traffic = world.traffic();
    for round in 0..rounds(1) {
        for (place, seconds) in STEPS.into_iter().enumerate() {
            world.hear(60).await;
            set(&step, seconds);
            world.hear(60).await;
            if (round + place as u64).is_multiple_of(2) {
                world.program.kill();
                world.program.start();
            }
        }
    }
    let (cluster, url) = (world.cluster.clone(), world.url.clone());
    world.judge(Some(traffic)).await.assert_complete();
    let days = "select count(distinct created_at::date) from mcpmeter.mcp_server_request_log";
    let days: u32 = cluster.query(&url, days).parse().expect("a number");
    assert!(days >= 3, "the clock has not stepped: calls of {days} days");
    let strays = cluster.query(&url, "select count(*) from only mcpmeter.mcp_server_request_log_default");
    assert_eq!(strays, "0", "rows in the default partition");
}

/// Whole, at any moment.
fn set(step: &Path, seconds: i64) {
    let new = step.with_extension("new");
    fs::write(&new, seconds.to_string()).expect("written");
    fs::rename(new, step).expect("replaced");
}

fn compile(folder: &Path) -> std::path::PathBuf {
    let library = folder.join("stepping_clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/stepping_clock.c");
    // The compiler that has built the bundled SQLite.
    let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    let status = compiler.args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &source]).status();
    assert!(status.expect("there is a C compiler").success());
    library
}
