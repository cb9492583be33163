//! The outbox's file was damaged while the program was down: it is set aside, the program starts all the same, and
//! what was in it and cannot be read any more is accounted for.

use crate::{link::State, world::World};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

/// What happens to the file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// Its first page: it is no database any more.
    Header,
    /// Everything behind the first page.
    Inside,
    /// Its second half.
    Cut,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_without_its_header_is_set_aside_and_accounted_for() {
    survive(Damage::Header).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_full_of_rubbish_is_set_aside_and_accounted_for() {
    survive(Damage::Inside).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_that_was_cut_is_set_aside_and_accounted_for() {
    survive(Damage::Cut).await;
}

async fn survive(damage: Damage) {
    let mut world = World::new("flush_timeout_ms = 50").await;
    world.program.start();
    let traffic = world.heavy_traffic();
    world.hear(200).await;
    traffic.stop().await;
    world.until_shipped().await;
    world.link.set(State::Cut);
    let traffic = world.heavy_traffic();
    world.hear(300).await;
    traffic.stop().await;
    let at_stake = world.until_accounts("durable", |accounts| accounts.queued == 0).await.outbox;
    // In order, so that the file has everything and the log is folded into it.
    world.program.stop();
    inflict(damage, &world.program.outbox());
    world.program.start();
    world.link.set(State::Up);
    let traffic = world.traffic();
    world.hear(200).await;
    let doctor = world.program.doctor();
    assert!(doctor.contains("was damaged and set aside"), "{doctor}\n{:#?}", world.program.log());
    let verdict = world.judge(Some(traffic)).await;
    println!("{damage:?}: {} calls lost, gaps {:?}", verdict.missing.len(), verdict.gaps);
    if verdict.missing.is_empty() {
        // Everything could be saved from it.
        verdict.assert_complete();
    } else if doctor.contains("an unknown number of calls lost") {
        // Nobody can count what was in a file that nobody can read; but everybody can see when it was.
        verdict.assert_lost_at_most(at_stake, &["corrupt"]);
    } else {
        verdict.assert_accounted(&["corrupt"]);
    }
}

fn inflict(damage: Damage, outbox: &Path) {
    let file = OpenOptions::new().write(true).open(outbox).expect("it is there");
    let length = file.metadata().expect("it is there").len();
    assert!(length > 5 * 8192, "too small to be damaged: {length} bytes");
    match damage {
        Damage::Header => overwrite(&file, 0, 8192),
        Damage::Inside => overwrite(&file, 8192, length),
        Damage::Cut => file.set_len(length / 2 + 1000).expect("it can be cut"),
    }
}

fn overwrite(file: &File, from: u64, to: u64) {
    let rubbish = vec![0xa5; usize::try_from(to - from).expect("it fits")];
    file.write_all_at(&rubbish, from).expect("it can be written");
}
