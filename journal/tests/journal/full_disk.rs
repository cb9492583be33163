//! A volume without room: the journal starts on it, counts, writes when there is room, and does not fill the memory with
//! queues meanwhile.

use crate::{
    harness::{eventually, gaps, noted, open_patiently, options, queues_in},
    records::plain,
};
use mcpmeter_journal::{LossReason, Opened, Options};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// Nobody listens on the discard port: the outbox only fills.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:9/none";

/// A small file system in memory, in a directory that also has room for a queue; unmounted when dropped.
struct Volume {
    directory: TempDir,
}

impl Volume {
    /// `None` where we may not mount one: then the test shows nothing, and says so.
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("volume")).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "mcpmeter-test"]);
        mount.arg(directory.path().join("volume")).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: only root may mount a volume");
        }
        mounted.then_some(Self { directory })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    fn file(&self) -> PathBuf {
        self.path().join("journal.db")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let ballast = vec![0x5a; 1 << 16];
        let path = self.path().join("ballast");
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        while std::io::Write::write_all(&mut file, &ballast).is_ok() {}
        // The rest of a block.
        while std::io::Write::write_all(&mut file, &ballast[..512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }

    /// Options with the queue outside.
    fn options(&self, url: Option<&str>) -> Options {
        let queue_directory = self.directory.path().to_owned();
        let outbox_max_bytes = Some(64 << 20);
        Options { queue_bytes: 1 << 20, queue_directory, outbox_max_bytes, ..options(&self.file(), url) }
    }

    fn open(&self, url: Option<&str>) -> Opened {
        open_patiently(&self.options(url))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn close(opened: Opened) -> Result<(), mcpmeter_journal::Unwritten> {
    tokio::task::block_in_place(|| opened.writer.close())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_only_what_the_queue_cannot_hold_and_the_gap_is_noted_afterwards() {
    let Some(volume) = Volume::mount("2m") else { return };
    let Opened { journal, writer, .. } = volume.open(None);
    let mut calls = 0..;
    while journal.accounts().lost(LossReason::QueueFull) < 100 {
        calls.by_ref().take(100).for_each(|number| journal.accept(plain(number)));
        assert!(journal.accounts().balance());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    eventually("the trouble is noticed", || !journal.health().disk.ok).await;
    let told = journal.health().disk.error.unwrap();
    assert!(told.contains("make room"), "{told}");
    let grown = Command::new("mount").args(["-o", "remount,size=200m"]).arg(volume.path()).status().unwrap();
    assert!(grown.success());
    eventually("the queue is written", || journal.accounts().queued == 0).await;
    let accounts = journal.accounts();
    tokio::task::block_in_place(|| writer.close()).unwrap();
    let lost = i64::try_from(accounts.lost(LossReason::QueueFull)).unwrap();
    assert_eq!(gaps(&volume.file()), [("queue_full".to_owned(), lost)]);
    assert!(accounts.balance());
}

/// Opens a journal on a full volume, whatever lies there, and sees it record as soon as there is room.
async fn start_full(url: Option<&str>, prepare: impl Fn(&Volume)) {
    let Some(volume) = Volume::mount("8m") else { return };
    prepare(&volume);
    volume.fill();
    let opened = volume.open(url);
    let journal = opened.journal.clone();
    let health = journal.health();
    assert!(!health.disk.ok);
    assert!(health.disk.error.as_ref().is_some_and(|error| error.contains("room")), "{health:?}");
    (0..200).for_each(|number| journal.accept(plain(1_000 + number)));
    let accounts = journal.accounts();
    assert_eq!((accounts.finished, accounts.queued, accounts.lost_total()), (200, 200, 0));
    eventually("what is lost is counted", || {
        (0..100).for_each(|number| journal.accept(plain(10_000 + number)));
        assert!(journal.accounts().balance());
        journal.accounts().lost(LossReason::QueueFull) > 0
    })
    .await;
    eventually("it is known since when", || journal.accounts().queued_since.is_some()).await;
    volume.make_room();
    eventually("the queue is written", || journal.accounts().queued == 0).await;
    eventually("and that is said", || journal.health().disk.ok).await;
    let accounts = journal.accounts();
    assert!(accounts.balance(), "{accounts:?}");
    assert_eq!(accounts.queued_since, None);
    close(opened).unwrap();
    let lost = i64::try_from(accounts.lost(LossReason::QueueFull)).unwrap();
    assert_eq!(gaps(&volume.file()), [("queue_full".to_owned(), lost)]);
    assert_eq!(queues_in(volume.directory.path()), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_on_a_full_volume_serves_and_opens_its_file_later() {
    start_full(None, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_volume_with_a_store_serves_and_opens_it_later() {
    start_full(None, |volume| {
        let opened = volume.open(None);
        opened.journal.accept(plain(0));
        close(opened).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_volume_with_an_outbox_serves_and_opens_it_later() {
    start_full(Some(NOWHERE), |volume| {
        let opened = volume.open(Some(NOWHERE));
        (0..100).for_each(|number| opened.journal.accept(plain(number)));
        close(opened).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_on_a_full_volume_share_one_queue_and_lose_nothing_of_it() {
    let Some(volume) = Volume::mount("8m") else { return };
    close(volume.open(Some(NOWHERE))).unwrap();
    volume.fill();
    for life in 0..4 {
        let opened = volume.open(Some(NOWHERE));
        (0..50).for_each(|number| opened.journal.accept(plain(life * 50 + number)));
        let unwritten = close(opened).unwrap_err();
        assert_eq!(unwritten.records, (life + 1) * 50);
        let queue = unwritten.queue.unwrap();
        assert_eq!(queues_in(volume.directory.path()), std::slice::from_ref(&queue));
        let told = format!("stay in {} for the next start", queue.display());
        assert!(close_error(&queue, unwritten.records).contains(&told));
    }
    volume.make_room();
    let opened = volume.open(Some(NOWHERE));
    let journal = opened.journal.clone();
    eventually("the queue is written", || journal.accounts().outbox == 200).await;
    let accounts = journal.accounts();
    assert_eq!((accounts.recovered, accounts.finished, accounts.lost_total()), (200, 0, 0));
    assert!(accounts.balance());
    close(opened).unwrap();
    assert_eq!(different_records(&volume.file()), 200);
    assert_eq!(gaps(&volume.file()), []);
    assert_eq!(queues_in(volume.directory.path()), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_on_a_full_volume_that_takes_its_note_is_no_damage_at_the_second() {
    let Some(volume) = Volume::mount("8m") else { return };
    // Room for the lock file's note, and not for a table.
    let spare = volume.path().join("spare");
    fs::write(&spare, vec![0x5a; 4096]).unwrap();
    volume.fill();
    fs::remove_file(&spare).unwrap();
    let opened = volume.open(None);
    (0..50).for_each(|number| opened.journal.accept(plain(number)));
    assert_eq!(close(opened).unwrap_err().records, 50);
    assert!(fs::metadata(volume.file()).unwrap().len() < 512, "there is a file without tables");
    assert_eq!(noted(&volume.file()).len(), 1);
    volume.make_room();
    let opened = volume.open(None);
    assert_eq!((opened.journal.accounts().stored, opened.journal.set_aside_files()), (50, 0));
    close(opened).unwrap();
    assert_eq!(gaps(&volume.file()), []);
    // And from now on it is one.
    fs::write(volume.file(), "").unwrap();
    let opened = volume.open(None);
    assert_eq!(opened.journal.set_aside_files(), 1);
    close(opened).unwrap();
    assert_eq!(gaps(&volume.file()), [("corrupt".to_owned(), 0)]);
}

fn close_error(queue: &Path, records: u64) -> String {
    mcpmeter_journal::Unwritten { records, queue: Some(queue.to_owned()) }.to_string()
}

fn different_records(file: &Path) -> i64 {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection
        .query_row("select count(distinct substr(record, 2, 16)) from outbox", [], |row| row.get(0))
        .unwrap()
}
