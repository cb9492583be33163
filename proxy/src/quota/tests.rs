//! Quotas beside a real store: what is let through is what is allowed, whatever is running, ending or under way.

use super::{Limited, Looker, Quotas, Spent, State, period};
use crate::{clock::Clock, policy::Asked};
use mcpmeter_config::{self as config, Per, Period, StoreUrl};
use mcpmeter_journal::{self as journal, Opened, Options, Retention};
use mcpmeter_observer::{CallId, CallRecord, Identity, Method, Status, Timestamp};
use serde_json::json;
use std::{net::IpAddr, path::PathBuf, sync::Arc};
use tempfile::TempDir;

fn quota(per: Per, calls: u64, period: Period) -> config::Quota {
    config::Quota { name: format!("{}-{}", per.as_str(), period.as_str()), per, calls, period }
}

fn quotas(quotas: &[config::Quota]) -> Quotas {
    Quotas::build(quotas, None)
}

fn of_user(user: Option<&str>) -> Asked<'_> {
    let address = IpAddr::from([192, 0, 2, 1]);
    Asked {
        route: "r",
        instance: "inst",
        address: Some(address),
        key: None,
        user,
        organization: None,
        key_routes: None,
        key_tools: None,
    }
}

const ANNA: Option<&str> = Some("anna");
/// 2026-03-01T23:59:50Z.
const EVENING: Timestamp = Timestamp(1_772_409_590_000_000);

fn let_through(quotas: &Quotas, user: Option<&str>, now: Timestamp) -> usize {
    (0..10_000).take_while(|_| quotas.enter(&of_user(user), 1, now).is_ok()).count()
}

#[test]
fn as_many_calls_pass_as_the_quota_has_and_the_rest_at_midnight() {
    let quotas = quotas(&[quota(Per::User, 5, Period::Day)]);
    assert_eq!(let_through(&quotas, ANNA, EVENING), 5);
    let limited = quotas.enter(&of_user(ANNA), 1, EVENING).expect_err("used up");
    assert_eq!(limited.retry_after_s(), 10);
    let headers = limited.into_response().headers().clone();
    assert_eq!(headers["ratelimit-policy"], "\"user-day\";q=5;w=86400");
    assert_eq!(headers["ratelimit"], "\"user-day\";r=0;t=10");
    assert_eq!(let_through(&quotas, None, EVENING), 5, "those without a user");
    let midnight = Timestamp(EVENING.0 + 10_000_000);
    assert!(quotas.enter(&of_user(ANNA), 1, Timestamp(midnight.0 - 1)).is_err());
    assert_eq!(let_through(&quotas, ANNA, midnight), 5);
}

#[test]
fn a_batch_passes_as_a_whole_or_not_at_all() {
    let quotas = quotas(&[quota(Per::User, 5, Period::Month), quota(Per::Instance, 7, Period::Day)]);
    let enter = |user, calls| quotas.enter(&of_user(user), calls, EVENING);
    let state = |spent: &Spent| spent.state().map(State::to_json);
    let spent = enter(ANNA, 4).expect("room");
    let expected = json!({ "name": "user-month", "limit": 5, "window_s": 2_678_400, "remaining": 1, "reset_s": 2_592_010 });
    assert_eq!(state(&spent), Some(expected));
    assert!(enter(ANNA, 2).is_err());
    assert!(enter(Some("bob"), 4).is_err_and(|limited| limited.to_json()["name"] == "instance-day"));
    assert!(enter(Some("bob"), 3).is_ok(), "who was refused by the second has used nothing of the first");
    assert!(enter(Some("eve"), 0).is_ok(), "what is no call is not counted");
    let limited = enter(Some("eve"), 8).map(drop).expect_err("more than there will ever be");
    assert_eq!(limited.text(), "a batch may not have more than 5 calls here (limit user-month)");
}

#[test]
fn what_is_given_back_was_never_used() {
    let quotas = quotas(&[quota(Per::User, 10, Period::Day)]);
    let enter = || quotas.enter(&of_user(ANNA), 4, EVENING);
    enter().expect("room").give_back();
    let spent = enter().expect("room");
    let other = enter().expect("room");
    assert_eq!(enter().map(drop).map_err(|limited| limited.to_json()["remaining"].clone()), Err(json!(2)));
    [spent, other].into_iter().for_each(Spent::give_back);
    assert_eq!(let_through(&quotas, ANNA, EVENING), 10);
}

#[test]
fn a_call_that_ends_the_next_day_is_none_of_that_day() {
    let quotas = quotas(&[quota(Per::User, 5, Period::Day)]);
    let running: Vec<Spent> =
        (0..5).map(|_| quotas.enter(&of_user(ANNA), 1, EVENING).expect("room")).collect();
    let tomorrow = Timestamp(EVENING.0 + 60_000_000);
    assert_eq!(let_through(&quotas, ANNA, tomorrow), 5);
    drop(running);
    assert!(quotas.enter(&of_user(ANNA), 1, tomorrow).is_err());
}

#[test]
fn a_reload_keeps_what_was_counted_also_under_another_number() {
    let before = quotas(&[quota(Per::User, 5, Period::Day)]);
    assert_eq!(let_through(&before, ANNA, EVENING), 5);
    let after =
        Quotas::build(&[quota(Per::User, 8, Period::Day), quota(Per::Key, 90, Period::Day)], Some(&before));
    assert_eq!(let_through(&after, ANNA, EVENING), 3);
}

/// An embedded store and a proxy that writes it.
struct Stage {
    directory: TempDir,
    clock: Clock,
    opened: Opened,
    quotas: Quotas,
    looker: Looker,
    calls: u64,
}

impl Stage {
    fn new(limit: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("store.db");
        let options = Options {
            sqlite_file: file.clone(),
            postgres: None,
            queue_bytes: 4 << 20,
            queue_directory: directory.path().to_owned(),
            outbox_max_bytes: None,
            retention: Retention::default(),
            migrate: true,
        };
        let opened = journal::open(options, Box::new(|_| {})).expect("a store");
        let clock = Clock::start();
        let looker = Looker::new(&StoreUrl::Sqlite(file), opened.journal.clone(), clock);
        let quotas = quotas(&[quota(Per::User, limit, Period::Day)]);
        Self { directory, clock, opened, quotas, looker, calls: 0 }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    fn enter(&self, user: &str) -> Result<Spent, Limited> {
        self.quotas.enter(&of_user(Some(user)), 1, self.clock.timestamp())
    }

    /// The record of a call, with this outcome.
    fn record(&mut self, user: &str, status: Status) {
        self.calls += 1;
        let now = self.clock.timestamp();
        let identity =
            Identity { instance_id: "inst".into(), user_id: Some(user.into()), organization_id: None };
        let record = CallRecord::begin(
            CallId::new(now, u128::from(self.calls) << 64),
            now,
            Method::ToolsCall,
            &identity,
        );
        self.opened.journal.accept(Box::new(CallRecord { status, ..record }));
    }

    async fn look(&mut self) {
        self.looker.look(&self.quotas).await.expect("the store answers");
    }

    fn left(&self, user: &str) -> usize {
        let places: Vec<Spent> = (0..1_000).map_while(|_| self.enter(user).ok()).collect();
        let left = places.len();
        places.into_iter().for_each(Spent::give_back);
        left
    }
}

/// A test must not run over midnight, where everything begins anew.
fn is_near_midnight() -> bool {
    let now = Clock::start().timestamp();
    period::of(Period::Day, now).end.0 - now.0 < 60_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_counts_from_the_first_look_on() {
    if is_near_midnight() {
        return;
    }
    let mut stage = Stage::new(10);
    for status in [Status::Ok, Status::ToolError, Status::Denied, Status::Limited, Status::Cancelled] {
        stage.record("anna", status);
    }
    stage.record("bob", Status::Ok);
    assert_eq!(stage.left("anna"), 10, "nothing is known yet");
    stage.look().await;
    assert_eq!((stage.left("anna"), stage.left("bob"), stage.left("eve")), (7, 9, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn running_ended_and_stored_calls_are_each_counted_once() {
    if is_near_midnight() {
        return;
    }
    let mut stage = Stage::new(100);
    let long = stage.enter("anna").expect("room");
    for round in 1..=5 {
        for _ in 0..10 {
            let spent = stage.enter("anna").expect("room");
            stage.record("anna", Status::Ok);
            drop(spent);
        }
        assert_eq!(stage.left("anna"), 99 - 10 * round, "before the look");
        stage.look().await;
        assert_eq!(stage.left("anna"), 99 - 10 * round, "after it");
    }
    stage.record("anna", Status::Ok);
    drop(long);
    stage.look().await;
    assert_eq!(stage.left("anna"), 49);
    // What never becomes a row, such as a request that was no call after all, is forgotten.
    drop((0..20).map(|_| stage.enter("anna").expect("room")).collect::<Vec<_>>());
    assert_eq!(stage.left("anna"), 29);
    stage.look().await;
    assert_eq!(stage.left("anna"), 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_at_any_moment_let_never_too_many_through_and_in_the_end_all() {
    if is_near_midnight() {
        return;
    }
    let mut stage = Stage::new(700);
    let mut random = fastrand::Rng::with_seed(5);
    let mut running: Vec<Spent> = Vec::new();
    let mut passed = 0;
    for step in 0..3_000 {
        match random.u8(..10) {
            0..6 => {
                if let Ok(spent) = stage.enter("anna") {
                    running.push(spent);
                    passed += 1;
                }
            }
            6..9 if !running.is_empty() => {
                let spent = running.swap_remove(random.usize(..running.len()));
                stage.record("anna", Status::Ok);
                drop(spent);
            }
            _ if step % 40 == 0 => stage.look().await,
            _ => {}
        }
        assert!(passed <= 700);
    }
    while let Some(spent) = running.pop() {
        stage.record("anna", Status::Ok);
        drop(spent);
    }
    stage.look().await;
    while let Ok(spent) = stage.enter("anna") {
        passed += 1;
        stage.record("anna", Status::Ok);
        drop(spent);
    }
    assert_eq!(passed, 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_what_is_known_and_what_is_called_here_count() {
    if is_near_midnight() {
        return;
    }
    let mut stage = Stage::new(10);
    stage.record("anna", Status::Ok);
    stage.look().await;
    let url = StoreUrl::Sqlite(stage.file().with_extension("gone"));
    stage.looker = Looker::new(&url, stage.opened.journal.clone(), stage.clock);
    for _ in 0..4 {
        let spent = stage.enter("anna").expect("room");
        stage.record("anna", Status::Ok);
        drop(spent);
        assert!(stage.looker.look(&stage.quotas).await.is_err());
    }
    assert_eq!(stage.left("anna"), 5);
    stage.looker = Looker::new(&StoreUrl::Sqlite(stage.file()), stage.opened.journal.clone(), stage.clock);
    stage.look().await;
    assert_eq!(stage.left("anna"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_looks_by_itself_and_follows_a_reload() {
    if is_near_midnight() {
        return;
    }
    let mut stage = Stage::new(10);
    stage.record("anna", Status::Ok);
    let quotas = Arc::new(std::mem::take(&mut stage.quotas));
    let current = Arc::clone(&quotas);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let looker = Looker::new(&StoreUrl::Sqlite(stage.file()), stage.opened.journal.clone(), stage.clock);
    let watching = super::watch(looker, move || Arc::clone(&current), async { drop(stopped.await) });
    let checking = async {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while let_through_and_back(&quotas, stage.clock) != 9 {
            assert!(std::time::Instant::now() < deadline, "nobody has looked");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        drop(stop);
    };
    tokio::join!(watching, checking);
}

fn let_through_and_back(quotas: &Quotas, clock: Clock) -> usize {
    let enter = || quotas.enter(&of_user(ANNA), 1, clock.timestamp());
    let places: Vec<Spent> = (0..100).map_while(|_| enter().ok()).collect();
    let number = places.len();
    places.into_iter().for_each(Spent::give_back);
    number
}
