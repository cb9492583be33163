//! Policy, limits and quotas together; and what a call pays for them.

use super::{Admission, Leave, tend};
use crate::{
    clock::Clock,
    envelope::{Channel, Envelope},
    limits::State,
    policy::{Asked, Reason, Verdict},
    quota::Looker,
};
use mcpmeter_config::{Source, load};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

fn admission(toml: &str, earlier: Option<&Admission>) -> Admission {
    let text = format!("{toml}\n[[route]]\nname = \"files\"\nupstream = \"http://h\"\n");
    let config = load(&Source { text: &text, ..Source::default() });
    Admission::build(&config.unwrap_or_else(|problems| panic!("{problems}")), earlier, Clock::start())
}

fn of_user(user: &str) -> Asked<'_> {
    Asked {
        route: "files",
        instance: "inst",
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        key: None,
        user: Some(user),
        organization: None,
        key_routes: None,
        key_tools: None,
    }
}

fn tightest(leave: &Leave) -> serde_json::Value {
    leave.state().as_ref().map_or(json!(null), State::to_json)["name"].clone()
}

#[test]
fn who_is_refused_by_a_limit_has_used_nothing_of_a_quota_and_the_other_way_round() {
    let text = "[[quota]]\nper = \"user\"\ncalls = 4\nperiod = \"month\"\n\
                [[limit]]\nper = \"user\"\nrate = \"3/h\"\n[[limit]]\nper = \"all\"\nrate = \"9/h\"";
    let admission = admission(text, None);
    let now = Clock::start().timestamp();
    let enter = |user, calls: usize| admission.enter(&of_user(user), &vec![None; calls], now);
    let leave = enter("anna", 3).expect("room");
    assert_eq!(tightest(&leave), json!("user"));
    for _ in 0..20 {
        assert!(enter("anna", 1).is_err_and(|limited| limited.to_json()["name"] == "user"));
        assert!(enter("bob", 5).is_err_and(|limited| limited.to_json()["name"] == "user-month"));
    }
    assert!(enter("bob", 3).is_ok() && enter("eve", 3).is_ok(), "nothing of the 9 was lost");
    assert!(enter("zoe", 1).is_err_and(|limited| limited.to_json()["name"] == "all"));
    assert_eq!(admission.max_body_bytes, 4 << 20);
    let reloaded = self::admission(&text.replace("3/h", "100/h"), Some(&admission));
    let limited = reloaded.enter(&of_user("anna"), &[None], now).expect_err("the 9 of all are used");
    assert_eq!(limited.to_json()["name"], json!("all"));
}

#[test]
fn of_a_body_everything_has_to_pass() {
    let admission = admission("[[rule]]\neffect = \"deny\"\ntool = [\"rm*\"]", None);
    let asked = of_user("anna");
    assert!(admission.reads_bodies(&asked));
    assert_eq!(admission.judge(&asked), Verdict::Allowed);
    let judge =
        |body: &str| admission.judge_body(&asked, &Envelope::read(body.as_bytes()).expect("readable"));
    let call = |tool| format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    let denied = Verdict::Denied(Reason::Rule(1));
    assert_eq!(judge(&call("ls")), Verdict::Allowed);
    assert_eq!(judge(&call("rm")), denied);
    assert_eq!(judge(&call("r\\u006ddir")), denied);
    assert_eq!(judge(&format!("[{},{}]", call("ls"), call("rm"))), denied);
    assert_eq!(judge(r#"{"method":"tools/call","params":{"name":"rm"}}"#), denied, "a notification");
    let body = call("rm");
    let envelope = Envelope::read(body.as_bytes()).expect("readable");
    assert_eq!(admission.deny(&asked, &envelope, Channel::Response).status(), 200);
    assert_eq!(admission.deny(&asked, &envelope, Channel::Elsewhere).status(), 403);
}

#[tokio::test]
async fn tending_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = mcpmeter_journal::Options {
        sqlite_file: directory.path().join("store.db"),
        postgres: None,
        queue_bytes: 4 << 20,
        queue_directory: directory.path().to_owned(),
        outbox_max_bytes: None,
        retention: mcpmeter_journal::Retention::default(),
        migrate: true,
    };
    let url = mcpmeter_config::StoreUrl::Sqlite(options.sqlite_file.clone());
    let opened = mcpmeter_journal::open(options, Box::new(|_| {})).expect("a store");
    let admission = Arc::new(admission("[[quota]]\nper = \"user\"\ncalls = 4\nperiod = \"month\"", None));
    let looker = Looker::new(&url, opened.journal.clone(), Clock::start());
    tend(looker, || Arc::clone(&admission), std::future::ready(())).await;
}

/// The processor's time that something takes on the average, whatever else the machine does. Shown by
/// `cargo test --release -p mcpmeter --bin mcpmeter -- pays --nocapture`.
fn measure(what: &str, rounds: usize, mut act: impl FnMut(usize)) -> Duration {
    let spent =
        || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of every Linux"));
    let began = spent();
    (0..rounds).for_each(&mut act);
    let each = (spent() - began) / u32::try_from(rounds).expect("not so many");
    println!("{what}: {each:?}");
    each
}

#[test]
fn a_call_pays_little_for_rules_and_limits_also_beside_100_000_others() {
    let admission = admission(
        "[[rule]]\neffect = \"deny\"\nnetwork = [\"203.0.113.0/24\"]\n\
         [[rule]]\neffect = \"deny\"\ntool = [\"delete_*\", \"shell\"]\n\
         [[rule]]\neffect = \"allow\"\nuser = [\"user-*\"]\n\
         [[limit]]\nper = \"user\"\nrate = \"600/min\"\nconcurrency = 10\n\
         [[limit]]\nper = \"address\"\nrate = \"6000/min\"\n\
         [[limit]]\nper = \"all\"\nrate = \"1000000/s\"",
        None,
    );
    let rounds = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let users: Vec<String> = (0..100_000).map(|number| format!("user-{number}")).collect();
    let asked = |round: usize| {
        // Far apart, so that nothing is near at hand in a cache.
        let number = round.wrapping_mul(7_919) % users.len();
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).expect("small")));
        Asked { address: Some(address), ..of_user(&users[number]) }
    };
    let now = Clock::start().timestamp();
    for round in 0..users.len() {
        admission.enter(&asked(round), &[Some("search")], now).expect("room");
    }
    let costs = [
        measure("judge, head and tool", rounds, |round| {
            let asked = asked(round);
            black_box((admission.judge(&asked), admission.reads_bodies(&asked)));
            black_box(admission.policy.judge(&asked, Some("search_documents")));
        }),
        measure("enter and leave", rounds, |round| {
            black_box(admission.enter(&asked(round), &[Some("search_documents")], now).is_ok());
        }),
        measure("tidy", 10, |_| admission.limits.tidy()) / 10_000,
    ];
    let small = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"how much is it","limit":10},"_meta":{"progressToken":1}}}"#;
    let large = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"search","arguments":{{"text":"{}"}}}}}}"#,
        "lorem ipsum ".repeat(5_500)
    );
    let read = |body: &[u8]| drop(black_box(Envelope::read(body)));
    measure("read 150 bytes", rounds, |_| read(small));
    measure("read 64 KiB", rounds / 100, |_| read(large.as_bytes()));
    assert!(costs.iter().sum::<Duration>() < Duration::from_millis(1), "{costs:?}");
}
