//! `mcpmeter doctor` beside the real program and a real PostgreSQL: what it says, and with which exit code.

use crate::{
    message::make_call,
    serving::Serving,
    spawned::run,
    support::{
        Mcpmeter, PATIENCE,
        postgres::{Cluster, Stop},
    },
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What it says as JSON: exit code, verdict, findings by what they are about.
fn doctor(proxy: &Mcpmeter) -> (Option<i32>, String, Vec<Value>) {
    let arguments = ["doctor", "--json", "--admin", &proxy.admin.to_string()];
    let (code, stdout, stderr) = run(proxy.folder(), &arguments);
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}\n{stderr}"));
    let verdict = report["verdict"].as_str().expect("a verdict").to_owned();
    (code, verdict, report["findings"].as_array().expect("a list").clone())
}

/// The level and the text of the first finding about something.
fn about<'a>(findings: &'a [Value], what: &str) -> (&'a str, &'a str) {
    let found = findings.iter().find(|finding| finding["about"] == what);
    let found = found.unwrap_or_else(|| panic!("nothing about {what}: {findings:#?}"));
    (found["level"].as_str().expect("a level"), found["text"].as_str().expect("a text"))
}

fn with_postgres(url: &str, upstream: &Serving) -> Mcpmeter {
    start_in_memory(&format!("[store]\nurl = \"{url}\"\n{}", upstream.route("a")))
}

/// The queue lies in the program's folder, and on a disk that would be a finding.
fn start_in_memory(toml: &str) -> Mcpmeter {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    Mcpmeter::start_in(folder, toml, &[])
}

async fn wait_for_metric(proxy: &Mcpmeter, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = proxy.admin("/metrics").await;
        if metrics.contains(line) {
            return;
        }
        assert!(Instant::now() < deadline, "never {line} in {metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_healthy_proxy_with_postgresql_is_found_healthy() {
    let (cluster, upstream) = (Cluster::shared(), Serving::results());
    let proxy = with_postgres(&cluster.database(), &upstream);
    for id in 0..10 {
        make_call(proxy.proxy, "/a/mcp", id, "add").await;
    }
    wait_for_metric(&proxy, "mcpmeter_log_stored_total 10\n").await;
    let (code, verdict, findings) = doctor(&proxy);
    assert_eq!((code, verdict.as_str()), (Some(0), "ok"), "{findings:#?}");
    let books = "finished 10 + recovered 0 = queued 0 + outbox 0 + stored 10 + lost 0";
    assert_eq!(about(&findings, "accounts"), ("ok", books));
    for what in
        ["proxy", "lag", "outbox", "oldest", "queue", "gaps", "quarantine", "damage", "postgres", "clock"]
    {
        assert_eq!(about(&findings, what).0, "ok", "{what}");
    }
    for what in ["schema", "partitions", "default", "all-gaps"] {
        assert_eq!(about(&findings, what).0, "ok", "{what}");
    }
    let (code, lines, stderr) = run(proxy.folder(), &["doctor", "--admin", &proxy.admin.to_string()]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(lines.lines().count(), findings.len(), "each finding is one line: {lines}");
}

#[tokio::test]
async fn a_healthy_proxy_with_the_embedded_store_is_found_healthy() {
    let upstream = Serving::results();
    let proxy = start_in_memory(&upstream.route("a"));
    make_call(proxy.proxy, "/a/mcp", 1, "add").await;
    wait_for_metric(&proxy, "mcpmeter_log_stored_total 1\n").await;
    let (code, verdict, findings) = doctor(&proxy);
    assert_eq!((code, verdict.as_str()), (Some(0), "ok"), "{findings:#?}");
    assert!(about(&findings, "store").1.contains("mcpmeter.db"));
}

#[tokio::test]
async fn a_postgresql_that_is_away_is_exit_code_3_and_the_waiting_calls_are_told() {
    let (cluster, upstream) = (Cluster::new(), Serving::results());
    let proxy = with_postgres(&cluster.database(), &upstream);
    cluster.stop(Stop::Fast);
    for id in 0..7 {
        make_call(proxy.proxy, "/a/mcp", id, "add").await;
    }
    wait_for_metric(&proxy, "mcpmeter_log_outbox_records 7\n").await;
    let (code, verdict, findings) = doctor(&proxy);
    assert_eq!((code, verdict.as_str()), (Some(3), "unreachable"), "{findings:#?}");
    assert_eq!(about(&findings, "postgres").0, "unreachable");
    assert!(about(&findings, "outbox").1.starts_with("7 calls wait in "), "{findings:#?}");
    assert!(
        about(&findings, "oldest").1.starts_with("the oldest call in the outbox began "),
        "{findings:#?}"
    );
    assert_eq!(about(&findings, "accounts").0, "ok");
}

#[tokio::test]
async fn lost_calls_are_told_with_time_number_and_reason() {
    let (cluster, upstream) = (Cluster::shared(), Serving::results());
    let url = cluster.database();
    let proxy = with_postgres(&url, &upstream);
    make_call(proxy.proxy, "/a/mcp", 1, "add").await;
    wait_for_metric(&proxy, "mcpmeter_log_stored_total 1\n").await;
    let refuse =
        "alter table mcpmeter.mcp_server_request_log add constraint no_bad check (tool_name <> 'bad')";
    cluster.query(&url, refuse);
    make_call(proxy.proxy, "/a/mcp", 2, "bad").await;
    wait_for_metric(&proxy, "mcpmeter_log_lost_total{reason=\"quarantined\"} 1\n").await;
    let deadline = Instant::now() + PATIENCE;
    let findings = loop {
        let (code, verdict, findings) = doctor(&proxy);
        let told = ["gaps", "all-gaps"].map(|what| about(&findings, what).1.contains("1 calls lost from 20"));
        if told == [true, true] {
            assert_eq!((code, verdict.as_str()), (Some(1), "problem"), "{findings:#?}");
            break findings;
        }
        assert!(Instant::now() < deadline, "{findings:#?}");
    };
    assert!(about(&findings, "gaps").1.ends_with(", quarantined"), "{findings:#?}");
    assert_eq!(about(&findings, "quarantine").0, "warning");
    assert_eq!(about(&findings, "lost"), ("warning", "calls lost since it started: 1 quarantined"));
}

#[tokio::test]
async fn a_proxy_that_is_not_found_but_writes_the_files_is_told_by_its_process() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    let (code, stdout, _) = run(proxy.folder(), &["doctor", "--admin", &address]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("no mcpmeter answers on"), "{stdout}");
    assert!(stdout.contains(&format!("process {} writes", proxy.pid())), "{stdout}");
}

#[tokio::test]
async fn the_metrics_tell_how_far_recording_is_behind() {
    let (cluster, upstream) = (Cluster::new(), Serving::results());
    let proxy = with_postgres(&cluster.database(), &upstream);
    wait_for_metric(&proxy, "mcpmeter_log_lag_seconds 0.0\n").await;
    cluster.stop(Stop::Fast);
    make_call(proxy.proxy, "/a/mcp", 1, "add").await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = proxy.admin("/metrics").await;
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<f64>().ok()
        };
        let lag = value("mcpmeter_log_lag_seconds ").unwrap_or(0.0);
        if lag > 1.0 {
            assert!(
                value("mcpmeter_log_outbox_oldest_age_seconds ").is_some_and(|age| age >= lag),
                "{metrics}"
            );
            assert!(value("mcpmeter_log_outbox_bytes ").is_some_and(|bytes| bytes > 0.0), "{metrics}");
            assert!(value("mcpmeter_log_outbox_max_bytes ").is_some_and(|bytes| bytes > 1e6), "{metrics}");
            return;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
