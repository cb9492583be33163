//! Limits under a clock that is moved by hand: no test here waits for time to pass.

use super::{Admitted, Limited, Limits, State, Ticks};
use crate::{clock::Clock, policy::Asked, subjects};
use governor::clock::FakeRelativeClock;
use http::StatusCode;
use mcpmeter_config::{self as config, Source, load};
use serde_json::json;
use std::{net::IpAddr, time::Duration};

const ONE: &[Option<&str>] = &[None];

fn configured(toml: &str) -> Vec<config::Limit> {
    let text = format!(
        "{toml}\n[[route]]\nname = \"files\"\nupstream = \"http://h\"\n[[route]]\nname = \"crm\"\nupstream = \"http://g\"\n"
    );
    let config = load(&Source { text: &text, ..Source::default() });
    config.unwrap_or_else(|problems| panic!("{problems}")).limits
}

/// Limits, and the clock they go by.
struct Stage {
    clock: FakeRelativeClock,
    limits: Limits<FakeRelativeClock>,
}

impl Stage {
    fn new(toml: &str) -> Self {
        let clock = FakeRelativeClock::default();
        // Instants of 0 are none; limits are made at any other.
        clock.advance(Duration::from_secs(77));
        Self { limits: Limits::build(&configured(toml), None, &clock), clock }
    }

    fn pass(&self, milliseconds: u64) {
        self.clock.advance(Duration::from_millis(milliseconds));
    }

    /// Lets it end at once.
    fn enter(&self, asked: &Asked<'_>, calls: &[Option<&str>]) -> Result<Option<State>, Limited> {
        self.limits.enter(asked, calls).map(|admitted| admitted.state().cloned())
    }

    /// How many calls pass one after the other.
    fn let_through(&self, asked: &Asked<'_>) -> usize {
        (0..1_000).take_while(|_| self.enter(asked, ONE).is_ok()).count()
    }
}

fn of_user(user: &str) -> Asked<'_> {
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    let key = (!user.is_empty()).then_some(user);
    Asked {
        route: "files",
        instance: "inst",
        address,
        key,
        user: key,
        organization: None,
        key_routes: None,
        key_tools: None,
    }
}

fn at(address: &str) -> Asked<'static> {
    Asked { address: Some(address.parse().expect("an address")), ..of_user("") }
}

#[test]
fn a_burst_passes_and_then_the_rate() {
    let stage = Stage::new("[[limit]]\nper = \"user\"\nrate = \"60/min\"\nburst = 10");
    let anna = of_user("anna");
    assert_eq!(stage.let_through(&anna), 10);
    let limited = stage.enter(&anna, ONE).expect_err("the burst is used up");
    assert_eq!(limited.retry_after_s(), 1);
    stage.pass(999);
    assert_eq!(stage.let_through(&anna), 0);
    stage.pass(1);
    assert_eq!(stage.let_through(&anna), 1);
    stage.pass(3_500);
    assert_eq!(stage.let_through(&anna), 3);
    assert_eq!(stage.let_through(&of_user("bob")), 10, "somebody else");
    stage.pass(1_000_000);
    assert_eq!(stage.let_through(&anna), 10, "no more than the burst, however long the rest");
}

#[test]
fn when_to_come_again_is_rounded_up_and_never_now() {
    let stage = Stage::new("[[limit]]\nper = \"all\"\nrate = \"1000/h\"\nburst = 1");
    assert_eq!(stage.let_through(&of_user("")), 1);
    for (pass, wait) in [(0, 4), (599, 4), (1, 3), (999, 3), (1_001, 1), (999, 1)] {
        stage.pass(pass);
        assert_eq!(stage.enter(&of_user(""), ONE).expect_err("not yet").retry_after_s(), wait);
    }
    stage.pass(1);
    assert_eq!(stage.let_through(&of_user("")), 1);
}

/// GCRA as its inventors wrote it down, in whole nanoseconds.
struct Model {
    interval: u128,
    burst: u128,
    until: u128,
}

impl Model {
    /// Room for so many calls, or how long it is until there is.
    fn enter(&mut self, now: u128, calls: u128) -> Result<u128, u128> {
        let after = self.until.max(now) + calls * self.interval;
        let latest = now + self.burst * self.interval;
        if after > latest {
            return Err(after - latest);
        }
        self.until = after;
        Ok((latest - after) / self.interval)
    }
}

#[test]
fn every_decision_is_that_of_the_model() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..60 {
        let (calls, unit) = (random.u32(1..=200), random.usize(0..3));
        let burst = random.u32(1..=50);
        let (word, seconds) = [("s", 1_u128), ("min", 60), ("h", 3_600)][unit];
        let stage =
            Stage::new(&format!("[[limit]]\nper = \"user\"\nrate = \"{calls}/{word}\"\nburst = {burst}"));
        let interval = (seconds * 1_000_000_000).div_ceil(u128::from(calls));
        let mut model = Model { interval, burst: u128::from(burst), until: 0 };
        let (mut now, mut admitted) = (0_u128, Vec::new());
        for _ in 0..300 {
            let longest = interval as u64 * random.u64(1..=4);
            let step = random.u64(0..=longest);
            stage.clock.advance(Duration::from_nanos(step));
            now += u128::from(step);
            let calls = random.usize(1..=burst as usize);
            let batch = vec![None; calls];
            match (stage.enter(&of_user("anna"), &batch), model.enter(now, calls as u128)) {
                (Ok(state), Ok(left)) => {
                    assert_eq!(state.expect("a limit applies").to_json()["remaining"], json!(left as u64));
                    admitted.push((now, calls as u128));
                }
                (Err(limited), Err(wait)) => {
                    let seconds = wait.div_ceil(1_000_000_000).max(1);
                    assert_eq!(u128::from(limited.retry_after_s()), seconds);
                }
                (ours, theirs) => panic!("{ours:?} is not {theirs:?} at {now} with {calls}"),
            }
        }
        // Whatever stretch of time one looks at, no more passed than a burst and what the rate gave since.
        for (first, (from, _)) in admitted.iter().enumerate() {
            let mut passed = 0;
            for (to, calls) in &admitted[first..] {
                passed += calls;
                assert!(passed <= u128::from(burst) + (to - from) / interval + 1);
            }
        }
    }
}

#[test]
fn a_batch_counts_as_its_calls_and_passes_as_a_whole_or_not_at_all() {
    let stage = Stage::new("[[limit]]\nper = \"user\"\nrate = \"60/min\"\nburst = 5");
    let (anna, batch) = (of_user("anna"), [None; 4]);
    assert!(stage.enter(&anna, &batch).is_ok());
    let limited = stage.enter(&anna, &batch).expect_err("one is left");
    assert_eq!((limited.retry_after_s(), limited.state().to_json()["remaining"].clone()), (3, json!(1)));
    assert_eq!(stage.let_through(&anna), 1, "the refused batch has taken nothing");
    let limited = stage.enter(&anna, &[None; 6]).expect_err("more than a burst");
    assert_eq!(limited.text(), "a batch may not have more than 5 calls here (limit user)");
    assert!(stage.enter(&anna, &[]).is_ok_and(|state| state.is_none()), "what is no call asks for nothing");
}

#[test]
fn who_is_refused_by_one_limit_takes_from_none() {
    let stage = Stage::new(
        "[[limit]]\nname = \"wide\"\nper = \"all\"\nrate = \"100/h\"\n\
         [[limit]]\nname = \"narrow\"\nper = \"user\"\nrate = \"3/h\"\n\
         [[limit]]\nname = \"few\"\nper = \"all\"\nconcurrency = 50",
    );
    assert_eq!(stage.let_through(&of_user("anna")), 3);
    for _ in 0..500 {
        assert!(stage.enter(&of_user("anna"), ONE).is_err());
    }
    let others: usize = (0..60).map(|number| stage.let_through(&of_user(&format!("u{number}")))).sum();
    assert_eq!(others, 97, "all but what was let through");
}

#[test]
fn of_several_refusals_the_longest_wait_is_told() {
    let stage = Stage::new(
        "[[limit]]\nname = \"short\"\nper = \"user\"\nrate = \"1/min\"\n\
         [[limit]]\nname = \"long\"\nper = \"user\"\nrate = \"1/h\"\n\
         [[limit]]\nname = \"running\"\nper = \"user\"\nconcurrency = 1",
    );
    let anna = of_user("anna");
    let running = stage.limits.enter(&anna, ONE).expect("the first");
    let limited = stage.enter(&anna, ONE).expect_err("all three refuse");
    assert_eq!((limited.retry_after_s(), limited.to_json()["name"].clone()), (3_600, json!("long")));
    drop(running);
}

#[test]
fn the_tightest_limit_is_the_one_that_is_recorded() {
    let stage = Stage::new(
        "[[limit]]\nname = \"a\"\nper = \"user\"\nrate = \"100/s\"\n\
         [[limit]]\nname = \"b\"\nper = \"user\"\nrate = \"60/min\"\nburst = 4\n\
         [[limit]]\nname = \"c\"\nper = \"user\"\nconcurrency = 10",
    );
    let state = stage.enter(&of_user("anna"), ONE).expect("room").expect("limits apply");
    let expected = json!({ "name": "b", "limit": 4, "window_s": 4, "remaining": 3, "reset_s": 1 });
    assert_eq!(state.to_json(), expected);
}

#[test]
fn calls_that_run_are_counted_until_they_end() {
    let stage = Stage::new("[[limit]]\nper = \"user\"\nconcurrency = 3");
    let anna = of_user("anna");
    let mut running: Vec<Admitted> = (0..3).map(|_| stage.limits.enter(&anna, ONE).expect("room")).collect();
    let limited = stage.enter(&anna, ONE).expect_err("three run");
    assert_eq!(
        (limited.retry_after_s(), limited.text().as_str()),
        (1, "too many calls at a time (limit user: 3)")
    );
    assert!(stage.enter(&of_user("bob"), &[None; 3]).is_ok());
    running.pop();
    assert!(stage.enter(&anna, &[None; 2]).is_err());
    let state = stage.enter(&anna, ONE).expect("one has ended").expect("a limit applies");
    let expected = json!({ "name": "user", "limit": 3, "window_s": null, "remaining": 0, "reset_s": null });
    assert_eq!(state.to_json(), expected);
    stage.limits.tidy();
    assert_eq!(stage.let_through(&anna), 1_000, "tidying up forgets nobody whose calls run");
    assert!(stage.enter(&anna, &[None; 2]).is_err());
    drop(running);
    stage.limits.tidy();
    assert_eq!(stage.limits.callers(), 0);
}

#[test]
fn tools_have_limits_of_their_own() {
    let stage = Stage::new(
        "[[limit]]\nname = \"each\"\nper = \"tool\"\nrate = \"2/h\"\n\
         [[limit]]\nname = \"search\"\nper = \"user\"\nrate = \"3/h\"\nroute = [\"files\"]\ntool = [\"search_*\"]",
    );
    let anna = of_user("anna");
    assert!(stage.enter(&anna, &[Some("search_a"), Some("search_b"), None, Some("ls"), Some("ls")]).is_ok());
    assert!(stage.enter(&anna, &[Some("ls")]).is_err());
    assert!(
        stage.enter(&anna, &[Some("search_a"), Some("search_b")]).is_err(),
        "two, where there is one left"
    );
    assert!(stage.enter(&anna, &[Some("search_a")]).is_ok());
    assert!(stage.enter(&anna, &[Some("search_c")]).is_err());
    assert!(stage.enter(&of_user("bob"), &[Some("search_c"), Some("search_c")]).is_ok());
    let elsewhere = Asked { route: "crm", instance: "other", ..anna };
    assert!(
        stage.enter(&elsewhere, &[Some("search_a"), Some("search_a")]).is_ok(),
        "tools of another instance"
    );
    assert!(stage.enter(&anna, ONE).is_ok_and(|state| state.is_none()), "a list of tools is no call of one");
    assert!(stage.limits.concern_tools(&anna) && stage.limits.concern_tools(&elsewhere));
    let untold = Stage::new(
        "[[limit]]\nper = \"user\"\nrate = \"3/h\"\n[[limit]]\nper = \"tool\"\nrate = \"1/s\"\nroute = [\"crm\"]",
    );
    assert!(!untold.limits.concern_tools(&anna) && untold.limits.concern_tools(&elsewhere));
}

#[test]
fn an_ipv6_network_is_one_caller_and_an_ipv4_address_another() {
    let stage = Stage::new("[[limit]]\nper = \"address\"\nrate = \"1/h\"");
    for (address, passes) in [
        ("2001:db8::1", 1),
        ("2001:db8::ffff:ffff:ffff:ffff", 0),
        ("2001:db8:0:1::1", 1),
        ("192.0.2.1", 1),
        ("::ffff:192.0.2.1", 0),
        ("192.0.2.2", 1),
        ("::1", 1),
    ] {
        assert_eq!(stage.let_through(&at(address)), passes, "{address}");
    }
}

#[test]
fn leaving_the_key_out_frees_nobody() {
    let stage = Stage::new("[[limit]]\nper = \"key\"\nrate = \"2/h\"");
    assert_eq!(stage.let_through(&at("192.0.2.1")), 2);
    assert_eq!(stage.let_through(&at("192.0.2.9")), 0);
    assert_eq!(stage.let_through(&Asked { key: Some(""), ..at("192.0.2.9") }), 2);
}

#[test]
fn a_reload_keeps_what_has_not_changed() {
    let mut stage =
        Stage::new("[[limit]]\nper = \"user\"\nrate = \"2/h\"\n[[limit]]\nper = \"all\"\nconcurrency = 1");
    let anna = of_user("anna");
    let running = stage.limits.enter(&anna, ONE).expect("room");
    let reload = |stage: &mut Stage, toml: &str| {
        stage.limits = Limits::build(&configured(toml), Some(&stage.limits), &stage.clock);
    };
    reload(
        &mut stage,
        "[[limit]]\nname = \"few\"\nper = \"all\"\nconcurrency = 1\n[[limit]]\nname = \"slow\"\nper = \"user\"\nrate = \"2/h\"",
    );
    let limited = stage.enter(&anna, ONE).expect_err("one runs still");
    assert_eq!(limited.to_json()["name"], json!("few"), "under its new name");
    drop(running);
    assert_eq!(stage.let_through(&anna), 1, "one of two was taken before the reload");
    reload(&mut stage, "[[limit]]\nper = \"user\"\nrate = \"3/h\"");
    assert_eq!(stage.let_through(&anna), 3, "another limit begins anew");
    reload(&mut stage, "");
    assert_eq!(stage.let_through(&anna), 1_000);
}

#[test]
fn tidying_up_forgets_only_those_who_stand_as_if_new() {
    let stage = Stage::new("[[limit]]\nper = \"user\"\nrate = \"60/min\"\nburst = 3");
    assert_eq!(stage.let_through(&of_user("anna")), 3);
    assert!(stage.enter(&of_user("bob"), ONE).is_ok());
    stage.pass(2_000);
    stage.limits.tidy();
    assert_eq!(stage.limits.callers(), 1);
    assert_eq!(stage.let_through(&of_user("anna")), 2);
    stage.pass(10_000);
    stage.limits.tidy();
    assert_eq!(stage.limits.callers(), 0);
}

#[test]
fn a_flood_of_names_frees_nobody_who_has_used_up_his_burst() {
    let stage = Stage::new("[[limit]]\nper = \"user\"\nrate = \"60/h\"\nburst = 20");
    assert_eq!(stage.let_through(&of_user("anna")), 20);
    for number in 0..(subjects::MOST * 5 / 4) {
        assert!(stage.enter(&of_user(&number.to_string()), ONE).is_ok());
    }
    assert!(stage.limits.callers() <= subjects::MOST);
    assert_eq!(stage.let_through(&of_user("anna")), 0);
}

#[test]
fn many_at_once_get_exactly_what_there_is() {
    let stage = Stage::new(
        "[[limit]]\nname = \"wide\"\nper = \"all\"\nrate = \"900/h\"\n\
         [[limit]]\nname = \"narrow\"\nper = \"all\"\nrate = \"500/h\"\n\
         [[limit]]\nname = \"at-a-time\"\nper = \"all\"\nconcurrency = 1000",
    );
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..400).filter(|_| stage.enter(&of_user("anna"), ONE).is_ok()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 500);
    let without_the_narrow = configured("[[limit]]\nper = \"all\"\nrate = \"900/h\"");
    let wide = Limits::build(&without_the_narrow, Some(&stage.limits), &stage.clock);
    assert_eq!((0..900).take_while(|_| wide.enter(&of_user("anna"), ONE).is_ok()).count(), 400);
}

#[test]
fn the_answer_says_when_to_come_again_in_every_form() {
    let stage = Stage::new(
        "[[limit]]\nname = \"fair\"\nper = \"user\"\nrate = \"60/min\"\nburst = 2\n[[limit]]\nname = \"few\"\nper = \"address\"\nconcurrency = 1",
    );
    let anna = of_user("anna");
    assert!(stage.enter(&anna, &[None]).is_ok() && stage.enter(&anna, &[None]).is_ok());
    let answer = |limited: Limited| {
        let response = limited.into_response();
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        (response.status(), ["retry-after", "ratelimit-policy", "ratelimit"].map(header))
    };
    let limited = stage.enter(&anna, ONE).expect_err("used up");
    assert_eq!(limited.code(), "rate_limited");
    let (status, headers) = answer(limited);
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(headers, ["1", "\"fair\";q=2;w=2", "\"fair\";r=0;t=1"]);
    stage.pass(60_000);
    let running = stage.limits.enter(&anna, ONE);
    let (_, headers) = answer(stage.enter(&of_user("bob"), ONE).expect_err("one runs"));
    assert_eq!(headers, ["1", "\"few\";q=1;qu=\"concurrent-requests\"", "\"few\";r=0"]);
    drop(running);
}

#[test]
fn the_clock_of_the_process_serves() {
    let limits =
        Limits::build(&configured("[[limit]]\nper = \"all\"\nrate = \"1/h\""), None, &Ticks(Clock::start()));
    assert!(limits.enter(&of_user(""), ONE).is_ok());
    let limited = limits.enter(&of_user(""), ONE).expect_err("one an hour");
    assert!((3_590..=3_600).contains(&limited.retry_after_s()));
}
