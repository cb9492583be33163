//! From the outbox into PostgreSQL: all of it, once, whatever happens in between.

use crate::{
    harness::{Place, Running, eventually, open_embedded},
    postgres::{Cluster, Stop},
    records::{MARCH, plain},
};
use mcpmeter_journal::{Journal, LossReason, migrate};
use mcpmeter_observer::{CallId, CallRecord, Timestamp};
use rusqlite::Connection;
use std::sync::Arc;

fn accept(running: &Running, numbers: std::ops::Range<u64>) {
    for number in numbers {
        running.journal.accept(plain(number));
    }
}

/// Nothing is on its way or lost; the numbers are finished, recovered and stored.
fn assert_all_stored(journal: &Journal, expected: (u64, u64, u64)) {
    let accounts = journal.accounts();
    assert_eq!((accounts.finished, accounts.recovered, accounts.stored), expected);
    assert_eq!((accounts.queued, accounts.outbox, accounts.lost_total()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_calls_are_stored_exactly_once() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    accept(&running, 0..20_000);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (20_000, 20_000));
    assert_eq!(place.in_file("outbox"), 0);
    assert_all_stored(&journal, (20_000, 0, 20_000));
    assert_eq!(place.count("select seq from mcpmeter.outbox_cursor"), 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_in_the_outbox_while_postgresql_is_away() {
    let place = Place::new(Arc::new(Cluster::new()));
    place.cluster.stop(Stop::Fast);
    let running = place.run();
    accept(&running, 0..1_000);
    eventually("they are durable", || running.journal.accounts().outbox == 1_000).await;
    eventually("the first attempt has failed", || {
        running.journal.health().postgres.unwrap().error.is_some_and(|error| error.contains("connect"))
    })
    .await;
    assert!(!running.journal.health().postgres.unwrap().ok);
    place.cluster.start();
    eventually("they are stored", || running.journal.accounts().stored == 1_000).await;
    // A batch is counted before its outcome is told.
    eventually("that is told", || running.journal.health().postgres.unwrap().ok).await;

    place.cluster.stop(Stop::Immediate);
    accept(&running, 1_000..2_000);
    eventually("that is noticed", || !running.journal.health().postgres.unwrap().ok).await;
    place.cluster.start();
    running.close().await;
    assert_eq!(place.stored(), (2_000, 2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shipper_notices_that_postgresql_has_gone() {
    let place = Place::new(Arc::new(Cluster::new()));
    let running = place.run();
    let reachable = || running.journal.health().postgres.unwrap().ok;
    eventually("it is there", reachable).await;
    place.cluster.stop(Stop::Fast);
    eventually("it is gone", || !reachable()).await;
    place.cluster.start();
    eventually("it is back", reachable).await;
    running.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_ships_what_the_last_one_left() {
    let place = Place::new(Cluster::shared());
    let opened = place.open();
    for number in 0..500 {
        opened.journal.accept(plain(number));
    }
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
    drop(opened.shipper);
    assert_eq!(place.in_file("outbox"), 500);

    let running = place.run();
    assert_eq!(running.journal.accounts().recovered, 500);
    accept(&running, 500..600);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (600, 600));
    assert_eq!(place.in_file("outbox"), 0);
    assert_all_stored(&journal, (100, 500, 600));
}

/// Leaves `number` calls in PostgreSQL and in the outbox: as after a kill between commit and deletion.
async fn ship_without_deleting(place: &Place, number: u64) {
    let opened = place.open();
    for seq in 0..number {
        opened.journal.accept(plain(seq));
    }
    Running::start(opened).close_writer_first().await;
    assert_eq!(place.stored(), (number, number));
    assert_eq!(place.in_file("outbox"), number);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_stored_but_not_deleted_is_not_stored_again() {
    let place = Place::new(Cluster::shared());
    ship_without_deleting(&place, 700).await;
    let running = place.run();
    accept(&running, 700..710);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (710, 710));
    assert_eq!(place.in_file("outbox"), 0);
    assert_all_stored(&journal, (10, 700, 710));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cursor_leads_to_duplicates_that_are_recognised() {
    let place = Place::new(Cluster::shared());
    // The worst case: the cursor and the process are lost, and what was shipped is still in the outbox.
    ship_without_deleting(&place, 20).await;
    place.cluster.query(&place.url, "delete from mcpmeter.outbox_cursor");
    let running = place.run();
    accept(&running, 20..30);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (30, 30));
    assert_all_stored(&journal, (10, 20, 30));
    assert_eq!(journal.health().duplicates, 20);
    assert_eq!((place.in_file("quarantine"), place.in_file("outbox")), (0, 0));
    assert_eq!(place.count("select seq from mcpmeter.outbox_cursor"), 30);
    // The usual case: nothing that was shipped is left, and the numbers go on.
    place.cluster.query(&place.url, "delete from mcpmeter.outbox_cursor");
    let running = place.run();
    accept(&running, 30..40);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (40, 40));
    assert_all_stored(&journal, (10, 0, 10));
    assert_eq!(journal.health().duplicates, 0);
    assert_eq!(place.count("select seq from mcpmeter.outbox_cursor"), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_somebody_else_moved_makes_nothing_count_as_stored() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    accept(&running, 0..10);
    eventually("ten are stored", || running.journal.accounts().stored == 10).await;
    // As by a proxy that was started on a copy of this file.
    place.cluster.query(&place.url, "update mcpmeter.outbox_cursor set seq = 15");
    accept(&running, 10..30);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (30, 30));
    assert_eq!(journal.accounts().stored, 30);
    assert_eq!(place.count("select count(*) from mcpmeter.outbox_cursor"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_postgresql_can_never_take_is_set_aside_and_the_others_are_stored() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    let bad = [
        CallRecord { user_agent: Some("nul \0".into()), ..*plain(3) },
        CallRecord { error_detail: Some(r#""\ud800""#.into()), ..*plain(5) },
        // An index entry may have at most 2,704 bytes; random letters, or it would be compressed.
        CallRecord {
            user_id: Some((0..9_000).map(|_| fastrand::alphanumeric()).collect::<String>().into()),
            ..*plain(7)
        },
    ];
    accept(&running, 0..3);
    for record in bad {
        running.journal.accept(Box::new(record));
    }
    accept(&running, 8..20);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (15, 15));
    let accounts = journal.accounts();
    assert_eq!((accounts.stored, accounts.lost(LossReason::Quarantined)), (15, 3));
    assert!(accounts.balance());
    assert_eq!((place.in_file("outbox"), place.in_file("quarantine")), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_set_aside_and_the_others_are_stored() {
    let place = Place::new(Cluster::shared());
    let opened = place.open();
    for number in 0..10 {
        opened.journal.accept(plain(number));
    }
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
    drop(opened.shipper);
    let connection = Connection::open(place.file()).unwrap();
    connection
        .execute_batch(
            "update outbox set record = x'00ff' where seq = 4; update outbox set format = 9 where seq = 10",
        )
        .unwrap();
    drop(connection);
    let running = place.run();
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (8, 8));
    assert_eq!(place.in_file("quarantine"), 2);
    assert_eq!(journal.accounts().lost(LossReason::Quarantined), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_calls_find_the_partitions_of_their_days() {
    const DAY_US: i64 = 86_400_000_000;
    let place = Place::new(Cluster::shared());
    let running = place.run();
    for number in 0..10 {
        let created_at = Timestamp(MARCH.0 - 400 * DAY_US + i64::from(number) * 30 * DAY_US);
        running.journal.accept(Box::new(CallRecord {
            created_at,
            id: CallId::new(created_at, 1),
            ..*plain(0)
        }));
    }
    // A clock that is wrong for one call.
    running.journal.accept(Box::new(CallRecord { created_at: Timestamp(5), ..*plain(77) }));
    running.close().await;
    assert_eq!(place.stored(), (11, 11));
    assert_eq!(place.count("select count(*) from mcpmeter.mcp_server_request_log_default"), 0);
    assert_eq!(place.count("select count(*) from mcpmeter.mcp_server_request_log_19700101"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_the_default_partition_do_not_stop_the_others() {
    let place = Place::new(Cluster::shared());
    migrate(&place.url.parse().unwrap()).await.unwrap();
    let running = place.run();
    running.journal.accept(plain(0));
    eventually("it is stored", || running.journal.accounts().stored == 1).await;
    // A row of the next day, put in by hand before that day has a partition.
    place.cluster.query(
        &place.url,
        "create temporary table t as select * from mcpmeter.mcp_server_request_log;
         update t set created_at = created_at + interval '1 day';
         insert into mcpmeter.mcp_server_request_log select * from t",
    );
    running.journal.accept(plain(86_400_001));
    running.journal.accept(plain(2 * 86_400_001));
    running.close().await;
    assert_eq!(place.stored().0, 4);
    assert_eq!(place.count("select count(*) from mcpmeter.mcp_server_request_log_default"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_dropped_is_made_again() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    accept(&running, 0..1);
    eventually("the day has its partition", || running.journal.accounts().stored == 1).await;
    place.cluster.query(
        &place.url,
        "drop table mcpmeter.mcp_server_request_log_20260301, mcpmeter.mcp_server_request_log_default",
    );
    accept(&running, 1..10);
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (9, 9));
    assert_eq!(journal.accounts().lost_total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_was_restored_from_a_backup_goes_on_from_there() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    accept(&running, 0..10);
    eventually("ten are stored", || running.journal.accounts().stored == 10).await;
    // The backup was made after four of them.
    place.cluster.query(
        &place.url,
        "delete from mcpmeter.mcp_server_request_log where ctid not in
           (select ctid from mcpmeter.mcp_server_request_log order by created_at limit 4);
         update mcpmeter.outbox_cursor set seq = 4",
    );
    accept(&running, 10..30);
    running.close().await;
    // What the backup lacks is gone with it; nothing else is.
    assert_eq!(place.stored(), (24, 24));
    assert_eq!(place.count("select seq from mcpmeter.outbox_cursor"), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_a_time_without_postgresql_stay_where_they_are() {
    let place = Place::new(Cluster::shared());
    let embedded = open_embedded(&place.file());
    embedded.journal.accept(plain(0));
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();
    let running = place.run();
    accept(&running, 1..3);
    running.close().await;
    assert_eq!(place.stored(), (2, 2));
    assert_eq!(place.in_file("mcp_server_request_log"), 1);
}
