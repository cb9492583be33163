//! Quotas are counted in whichever store there is: every call that was made, none that was refused, those of this moment too.

use crate::{
    harness::{Place, Running, open_embedded, open_patiently, options},
    postgres::Cluster,
    records::{MARCH, plain},
};
use mcpmeter_journal::{Dimension, Reader};
use mcpmeter_observer::{CallId, CallRecord, Status, Timestamp};

const DAY_US: i64 = 86_400_000_000;

/// A call of a user (none for 0) at a number of microseconds from the first of March.
fn call(number: u64, user: u8, at: i64, status: Status) -> Box<CallRecord> {
    let created_at = Timestamp(MARCH.0 + at);
    Box::new(CallRecord {
        id: CallId::new(created_at, u128::from(number) << 64),
        created_at,
        completed_at: created_at,
        user_id: (user > 0).then(|| format!("u{user}").into()),
        status,
        ..*plain(number)
    })
}

/// What one proxy has to store; the numbers of its calls begin with this one.
fn calls(first: u64) -> Vec<Box<CallRecord>> {
    let refused = [Status::Denied, Status::Limited];
    let made = Status::ALL.iter().filter(|status| !refused.contains(status));
    let wanted = made.map(|status| (1, 5, *status)).chain([
        (1, 0, Status::Denied),
        (1, 0, Status::Limited),
        (1, -1, Status::Ok),
        (1, DAY_US - 1, Status::Ok),
        (1, DAY_US, Status::Ok),
        (2, 7, Status::Limited),
        (2, 3 * DAY_US, Status::Ok),
        (0, 9, Status::Ok),
    ]);
    (first..).zip(wanted).map(|(number, (user, at, status))| call(number, user, at, status)).collect()
}

async fn made(reader: &Reader, days: i64) -> Vec<(Option<String>, u64)> {
    let until = Timestamp(MARCH.0 + days * DAY_US);
    reader.calls_made(Dimension::User, MARCH, until).await.unwrap()
}

async fn assert_counted(reader: &Reader, times: u64) {
    let user = |number: u8| Some(format!("u{number}"));
    let statuses = Status::ALL.len() as u64 - 2;
    let day = [(None, times), (user(1), (statuses + 1) * times), (user(2), 0)];
    assert_eq!(made(reader, 1).await, day);
    let month = [(None, times), (user(1), (statuses + 2) * times), (user(2), times)];
    assert_eq!(made(reader, 31).await, month);
    let instances = reader.calls_made(Dimension::Instance, MARCH, Timestamp(MARCH.0 + DAY_US)).await.unwrap();
    assert_eq!(instances, [(Some("inst".to_owned()), (statuses + 2) * times)]);
    let keys = reader.calls_made(Dimension::Key, MARCH, Timestamp(MARCH.0 + DAY_US)).await.unwrap();
    assert_eq!(keys, [(None, (statuses + 2) * times)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_counts_calls_before_and_after_they_are_rolled_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("embedded.db");
    let mut opened = open_embedded(&file);
    calls(0).into_iter().for_each(|record| opened.journal.accept(record));
    tokio::task::block_in_place(|| assert!(opened.writer.flush()));
    let reader = Reader::sqlite(&file).unwrap();
    assert_counted(&reader, 1).await;
    opened.keeper.roll_up().await;
    assert_counted(&reader, 1).await;
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_counts_the_calls_of_all_proxies() {
    let place = Place::new(Cluster::shared());
    let reader = Reader::postgres(&place.url.parse().unwrap()).unwrap();
    for (first, name) in [(0, "a.db"), (1_000, "b.db")] {
        let running =
            Running::start(open_patiently(&options(&place.directory.path().join(name), Some(&place.url))));
        calls(first).into_iter().for_each(|record| running.journal.accept(record));
        running.close().await;
    }
    assert_counted(&reader, 2).await;
}
