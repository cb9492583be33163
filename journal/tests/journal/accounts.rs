//! `finished + recovered = queued + outbox + stored + lost`, in every snapshot.

use crate::{
    harness::{Place, eventually, gaps, options},
    postgres::Cluster,
    records::plain,
};
use mcpmeter_journal::{Backlog, LossReason, Opened, open};
use mcpmeter_observer::{CallRecord, Timestamp};
use std::{sync::mpsc::channel, thread};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_the_newest_and_counts_each() {
    let directory = tempfile::tempdir().unwrap();
    let (release, held) = channel::<()>();
    let (taken, watch) = channel();
    let on_taken = Box::new(move |records: &[CallRecord]| {
        taken.send(records.len()).unwrap();
        // The writer is held up, as by a slow disk, until the test drops the other end.
        let _ = held.recv();
    });
    let options = mcpmeter_journal::Options {
        queue_bytes: 128 << 10,
        ..options(&directory.path().join("journal.db"), None)
    };
    let Opened { journal, writer, .. } = open(options, on_taken).unwrap();
    journal.accept(plain(0));
    tokio::task::block_in_place(|| assert_eq!(watch.recv().unwrap(), 1));
    let mut calls = 0..;
    while journal.accounts().lost_total() < 150 {
        journal.accept(plain(calls.next().unwrap() + 1));
        assert!(journal.accounts().balance());
    }
    let accounts = journal.accounts();
    let kept = accounts.finished - 150;
    assert!(kept > 500, "the queue holds {kept} calls");
    assert_eq!((accounts.queued, accounts.stored), (kept, 0));
    assert_eq!((accounts.lost(LossReason::QueueFull), accounts.lost_total()), (150, 150));

    drop(release);
    tokio::task::block_in_place(|| assert!(writer.flush()));
    let accounts = journal.accounts();
    assert_eq!((accounts.queued, accounts.stored, accounts.lost_total()), (0, kept, 150));
    assert!(accounts.balance());
    tokio::task::block_in_place(|| writer.close()).unwrap();
    assert_eq!(gaps(&directory.path().join("journal.db")), [("queue_full".to_owned(), 150)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_balance_at_every_moment() {
    const CALLS: u64 = 20_000;
    let place = Place::new(Cluster::shared());
    let running = place.run();
    let journal = running.journal.clone();
    let caller = thread::spawn(move || {
        for number in 0..CALLS {
            journal.accept(plain(number));
        }
    });
    let (mut snapshots, mut last) = (0, running.journal.accounts());
    eventually("everything is stored", || {
        for _ in 0..1_000 {
            let accounts = running.journal.accounts();
            assert!(accounts.balance(), "{accounts:?}");
            assert!(
                accounts.finished >= last.finished && accounts.stored >= last.stored,
                "{last:?} {accounts:?}"
            );
            last = accounts;
            snapshots += 1;
        }
        last.stored == CALLS
    })
    .await;
    caller.join().unwrap();
    assert!(snapshots >= 1_000);
    running.close().await;
    assert_eq!(place.stored(), (CALLS, CALLS));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_embedded_store_has_already_counts_as_stored_and_as_a_duplicate() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    for life in 0..2 {
        let Opened { journal, writer, .. } = open(options(&file, None), Box::new(|_| {})).unwrap();
        (0..7).for_each(|number| journal.accept(plain(number)));
        tokio::task::block_in_place(|| writer.close()).unwrap();
        assert_eq!((journal.accounts().stored, journal.health().duplicates), (7, life * 7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_the_outbox_are_without_those_of_an_earlier_store() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let bytes_after = |url, calls: std::ops::Range<u64>| {
        let Opened { journal, writer, .. } = crate::harness::open_patiently(&options(&file, url));
        calls.for_each(|number| journal.accept(plain(number)));
        tokio::task::block_in_place(|| writer.close()).unwrap();
        Backlog::read(&file, None, Timestamp(0)).unwrap().bytes
    };
    let store = bytes_after(None, 0..5_000);
    let outbox = bytes_after(Some("postgres://nobody@127.0.0.1:9/none"), 5_000..5_500);
    assert!(store > 1_000_000 && (50_000..500_000).contains(&outbox), "{store} {outbox}");
    let restarted = bytes_after(Some("postgres://nobody@127.0.0.1:9/none"), 0..0);
    assert!((50_000..500_000).contains(&restarted), "{restarted}");
    assert!(bytes_after(None, 0..0) > store);
}
