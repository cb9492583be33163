//! Batches that PostgreSQL refuses for ever cost few attempts: bad rows are found by halving, duplicates skipped
//! together.

use crate::{
    harness::{Place, Running, eventually},
    postgres::Cluster,
    records::plain,
};
use mcpmeter_journal::LossReason;
use mcpmeter_observer::CallRecord;

/// How many transactions PostgreSQL has undone in this place's database, as far as it has counted.
fn undone(place: &Place) -> u64 {
    place.count("select xact_rollback from pg_stat_database where datname = current_database()")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_call_among_four_thousand_is_found_by_halving() {
    let place = Place::new(Cluster::shared());
    place.leave_in_outbox((0..4_000).map(|number| {
        let user_agent = (number == 2_345).then(|| "nul \0".into());
        Box::new(CallRecord { user_agent, ..*plain(number) })
    }));
    let running = place.run();
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (3_999, 3_999));
    assert_eq!(journal.accounts().lost(LossReason::Quarantined), 1);
    assert!(journal.accounts().balance());
    assert_eq!(place.in_file("quarantine"), 1);
    // The whole, and one of two halves each time until one call is left: 1 + log2(4,000).
    eventually("it has counted", || undone(&place) >= 12).await;
    assert!((12..=14).contains(&undone(&place)), "{}", undone(&place));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_at_both_ends_and_side_by_side_are_all_set_aside() {
    let place = Place::new(Cluster::shared());
    let bad = [0, 1, 2, 499, 500, 998, 999];
    place.leave_in_outbox((0..1_000).map(|number| {
        let user_agent = bad.contains(&number).then(|| "nul \0".into());
        Box::new(CallRecord { user_agent, ..*plain(number) })
    }));
    let running = place.run();
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (993, 993));
    let accounts = journal.accounts();
    assert_eq!((accounts.stored, accounts.lost(LossReason::Quarantined)), (993, 7));
    assert_eq!((place.in_file("outbox"), place.in_file("quarantine")), (0, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_and_bad_calls_in_one_batch_are_told_apart() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    for number in 0..3_000 {
        running.journal.accept(plain(number));
    }
    running.close().await;
    // As after a loss of the cursor: the same calls once more, from an outbox that is not known.
    std::fs::remove_file(place.file()).unwrap();
    place.leave_in_outbox((0..4_000).map(|number| {
        let user_agent = (number == 3_500).then(|| "nul \0".into());
        Box::new(CallRecord { user_agent, ..*plain(number) })
    }));
    let before = undone(&place);
    let running = Running::start(place.open());
    let journal = running.journal.clone();
    running.close().await;
    assert_eq!(place.stored(), (3_999, 3_999));
    assert_eq!(journal.health().duplicates, 3_000);
    let accounts = journal.accounts();
    assert_eq!((accounts.stored, accounts.lost(LossReason::Quarantined)), (3_999, 1));
    eventually("it has counted", || undone(&place) > before).await;
    assert!(undone(&place) - before <= 20, "{}", undone(&place) - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_finds_no_partition_is_not_taken_for_a_bad_one() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    running.journal.accept(plain(0));
    eventually("the first call is stored", || running.journal.accounts().stored == 1).await;
    place.cluster.query(
        &place.url,
        "drop table mcpmeter.mcp_server_request_log_default, mcpmeter.mcp_server_request_log_20260301",
    );
    running.journal.accept(plain(1));
    let journal = running.journal.clone();
    eventually("the call finds a new partition", || place.stored() == (1, 1)).await;
    running.close().await;
    assert_eq!((journal.accounts().stored, journal.accounts().lost_total()), (2, 0));
    assert_eq!(place.in_file("quarantine"), 0);
}
