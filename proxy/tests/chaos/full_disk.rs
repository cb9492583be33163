//! There is no room left: the program goes on serving, counts what it has to drop, leaves gap rows, and records
//! again once there is room. As a limit on the size of files, which needs no privilege; as a small volume, where we
//! may mount one; and as the quota of the outbox.

use crate::{link::State, postgres::Cluster, world::World};
use std::process::{Command, Stdio};

const REASONS: [&str; 3] = ["queue_full", "disk_error", "outbox_full"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_not_grow_costs_calls_that_are_accounted_for() {
    let mut world = World::new("queue_mib = 1").await;
    world.program.file_limit = Some(1 << 21);
    world.program.start();
    world.until_connected().await;
    world.link.set(State::Cut);
    let traffic = world.heavy_traffic();
    world.until_accounts("a loss", |accounts| accounts.lost > 100).await;
    world.hear(200).await;
    world.program.lift_file_limit();
    world.link.set(State::Up);
    world.until_accounts("stored", |accounts| accounts.stored > 0).await;
    world.hear(200).await;
    world.judge(Some(traffic)).await.assert_accounted(&REASONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_without_room_costs_calls_that_are_accounted_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(volume) = Volume::mount(folder.path(), "3m") else {
        println!("skipped: only root may mount a volume; the file-size limit has shown the same");
        return;
    };
    let inside = tempfile::tempdir_in(folder.path()).expect("room for a folder");
    let mut world = World::in_folder(Cluster::shared(), inside, "queue_mib = 1").await;
    world.program.start();
    world.until_connected().await;
    world.link.set(State::Cut);
    let traffic = world.heavy_traffic();
    world.until_accounts("a loss", |accounts| accounts.lost > 100).await;
    world.hear(200).await;
    volume.grow("64m");
    world.link.set(State::Up);
    world.until_accounts("stored", |accounts| accounts.stored > 0).await;
    world.hear(200).await;
    world.judge(Some(traffic)).await.assert_accounted(&REASONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_beyond_the_quota_costs_the_newest_calls_and_they_are_accounted_for() {
    let mut world = World::new("queue_mib = 1\noutbox_max_mib = 16").await;
    world.program.start();
    world.until_connected().await;
    world.link.set(State::Cut);
    let traffic = world.bulky_traffic();
    world.until_accounts("a loss", |accounts| accounts.lost > 100).await;
    world.hear(200).await;
    world.link.set(State::Up);
    world.until_accounts("stored", |accounts| accounts.stored > 0).await;
    world.hear(200).await;
    world.judge(Some(traffic)).await.assert_accounted(&REASONS);
}

/// A small file system in memory; unmounted when dropped.
struct Volume<'a> {
    folder: &'a std::path::Path,
}

impl<'a> Volume<'a> {
    /// `None` where we may not.
    fn mount(folder: &'a std::path::Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "mcpmeter-test"]).arg(folder);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(Self { folder })
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.folder).status();
        assert!(status.expect("mount runs").success());
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        // Lazily: the program may not have ended if the test has failed.
        let _ = Command::new("umount").arg("-l").arg(self.folder).status();
    }
}
