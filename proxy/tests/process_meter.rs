//! What calls cost their servers, as the rows say it and as the servers themselves have measured it.

use crate::{
    message::call,
    program::{Session, ask, text_of},
    support::{Mcpmeter, peer::PeerServer},
};
use mcpmeter_journal::Reader;
use mcpmeter_observer::Timestamp;
use serde_json::Value;
use std::path::Path;
use tokio::task::JoinSet;

/// The route of a burner that is a program.
fn program(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/burner.py");
    let mut words = vec!["python3".to_owned(), script.display().to_string(), "stdio".to_owned()];
    words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    format!("[[route]]\nname = \"odd\"\ncommand = {words:?}\n")
}

fn server(port: u16, keys: &str) -> String {
    format!("[[route]]\nname = \"odd\"\nupstream = \"http://127.0.0.1:{port}\"\n{keys}\n")
}

/// Waits until the server's processes have been found.
async fn found(mcpmeter: &Mcpmeter) {
    loop {
        let (_, metrics) = mcpmeter.admin("/metrics").await;
        if metrics.contains("mcpmeter_process_resident_memory_bytes{") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Rows beside what the server has said of them; says what is wrong.
fn compare(rows: &[Value], said: &[(String, f64)], shared: bool) -> Result<(), String> {
    for (tool, truth) in said {
        let row = rows.iter().find(|row| row["tool_name"] == tool.as_str()).expect("a row");
        let cpu_ms = row["cpu_ms"].as_f64().unwrap_or_else(|| panic!("no CPU time: {row}"));
        if (cpu_ms - truth).abs() > truth * 0.1 + 1.0 {
            return Err(format!("{tool}: {cpu_ms} ms instead of {truth}"));
        }
        assert_eq!(row["cpu_shared"], shared, "{row}");
        let percent = cpu_ms / row["duration_ms"].as_f64().expect("a duration") * 100.0;
        assert!((row["cpu_percent"].as_f64().expect("percent") - percent).abs() < 0.1, "{row}");
    }
    Ok(())
}

/// Calls in turn and at once, whose rows are within 10 % of the truth. The end of a call is read when the proxy gets to
/// it; where other work keeps it from that for long, the next call has begun already. So there are several tries; what
/// is wrong by itself is wrong in all.
async fn assert_true(mcpmeter: Mcpmeter, session: &str) {
    let mut wrong = Vec::new();
    for attempt in 0..5 {
        let named = |ms: [u32; 4]| ms.map(|ms| format!("burn {ms}.{attempt}"));
        let alone = call_in_turn(&mcpmeter, session, &named([60, 150, 61, 62])).await;
        let together = call_at_once(&mcpmeter, session, &named([200, 201, 202, 203])).await;
        let rows = mcpmeter.wait_for_rows((attempt + 1) * 8).await;
        match compare(&rows, &alone, false).and_then(|()| compare(&rows, &together, true)) {
            Ok(()) => return,
            Err(problem) => wrong.push(problem),
        }
    }
    panic!("{wrong:#?}");
}

/// Calls one after the other.
async fn call_in_turn(mcpmeter: &Mcpmeter, session: &str, tools: &[impl AsRef<str>]) -> Vec<(String, f64)> {
    let mut said = Vec::new();
    for (id, tool) in tools.iter().enumerate() {
        let answer = ask(mcpmeter.proxy, "/odd/mcp", session, &call(id as u64 + 1, tool.as_ref())).await;
        said.push((tool.as_ref().to_owned(), text_of(&answer).parse().expect("milliseconds")));
    }
    said
}

/// Calls all at once.
async fn call_at_once(mcpmeter: &Mcpmeter, session: &str, tools: &[String]) -> Vec<(String, f64)> {
    let mut calls = JoinSet::new();
    for (id, tool) in tools.iter().cloned().enumerate() {
        let (proxy, session) = (mcpmeter.proxy, session.to_owned());
        calls.spawn(async move {
            let answer = ask(proxy, "/odd/mcp", &session, &call(id as u64 + 100, &tool)).await;
            (tool, text_of(&answer).parse().expect("milliseconds"))
        });
    }
    calls.join_all().await
}

#[tokio::test]
async fn calls_of_a_program_that_works_on_one_thread() {
    let mcpmeter = Mcpmeter::start(&program(&[]));
    let session = Session::open(&mcpmeter).await.header();
    assert_true(mcpmeter, &session).await;
}

#[tokio::test]
async fn calls_of_a_program_that_works_on_several_threads() {
    let mcpmeter = Mcpmeter::start(&program(&["--threads"]));
    let session = Session::open(&mcpmeter).await.header();
    assert_true(mcpmeter, &session).await;
}

#[tokio::test]
async fn calls_of_a_local_http_server_that_works_on_one_thread() {
    let burner = PeerServer::start("burner.py", &["http"]);
    let mcpmeter = Mcpmeter::start(&server(burner.port, ""));
    found(&mcpmeter).await;
    assert_true(mcpmeter, "").await;
}

#[tokio::test]
async fn calls_of_a_local_http_server_that_works_on_several_threads() {
    let burner = PeerServer::start("burner.py", &["http", "--threads"]);
    let mcpmeter = Mcpmeter::start(&server(burner.port, ""));
    found(&mcpmeter).await;
    assert_true(mcpmeter, "").await;
}

#[tokio::test]
async fn short_calls_have_their_parts_and_these_add_up() {
    let mcpmeter = Mcpmeter::start(&program(&[]));
    let session = Session::open(&mcpmeter).await.header();
    let tools: Vec<String> = (0..100).map(|number| format!("burn 2.0{number}")).collect();
    let truth: f64 = call_in_turn(&mcpmeter, &session, &tools).await.iter().map(|(_, ms)| ms).sum();
    let rows = mcpmeter.stop().await;
    let parts: Vec<f64> = rows.iter().map(|row| row["cpu_ms"].as_f64().expect("metered")).collect();
    assert!(parts.iter().filter(|ms| **ms > 1.0).count() > 90, "{parts:?}");
    let sum: f64 = parts.iter().sum();
    // Reading and answering is work, too, which the server does not count.
    assert!(sum >= truth * 0.95 && sum < truth * 1.4, "{sum} ms instead of {truth}");
}

#[tokio::test]
async fn memory_is_that_at_the_end_of_the_call() {
    let mcpmeter = Mcpmeter::start(&program(&[]));
    let session = Session::open(&mcpmeter).await.header();
    call_in_turn(&mcpmeter, &session, &["wait 1", "take 100", "wait 2"]).await;
    let rows = mcpmeter.stop().await;
    let memory: Vec<f64> =
        rows.iter().map(|row| row["memory_bytes"].as_f64().expect("metered") / f64::from(1 << 20)).collect();
    let grown = memory[1] - memory[0];
    assert!((90.0..110.0).contains(&grown) && (memory[2] - memory[1]).abs() < 10.0, "{memory:?} MiB");
}

#[tokio::test]
async fn a_server_elsewhere_or_unknown_is_not_metered() {
    let burner = PeerServer::start("burner.py", &["http"]);
    let nobody = server(burner.port, "process = { name = \"no-such-program-7\" }");
    let mcpmeter = Mcpmeter::start(&nobody);
    call_in_turn(&mcpmeter, "", &["burn 20"]).await;
    let rows = mcpmeter.stop().await;
    for column in ["cpu_ms", "cpu_percent", "memory_bytes", "cpu_shared"] {
        assert_eq!(rows[0][column], Value::Null, "{column}");
    }
}

#[tokio::test]
async fn a_program_that_takes_more_memory_than_allowed_is_ended() {
    let mut mcpmeter = Mcpmeter::start(&format!("{}max_memory_mib = 80\n", program(&[])));
    let session = Session::open(&mcpmeter).await;
    // It may be ended before it has answered.
    session.call(1, "take 100").await;
    mcpmeter.wait_for_log("took more than 80 MiB");
    let answer = session.call(7, "wait 1").await;
    assert!([404, 502].contains(&answer.status()), "{}", answer.text());
}

#[tokio::test]
async fn what_a_server_has_come_to_is_written_down() {
    let mcpmeter = Mcpmeter::start(&program(&[]));
    let session = Session::open(&mcpmeter).await.header();
    call_in_turn(&mcpmeter, &session, &["burn 100", "burn 101"]).await;
    let (_, metrics) = mcpmeter.admin("/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{metrics}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    assert!(value("mcpmeter_process_cpu_seconds_total{") >= 0.2);
    assert!(value("mcpmeter_process_resident_memory_bytes{") > 1e6);
    assert_eq!(value("mcpmeter_process_count{") as u64, 1);
    mcpmeter.signal("TERM");
    let (_, folder) = mcpmeter.wait();
    let reader = Reader::sqlite(&folder.path().join("mcpmeter.db")).expect("a store");
    let samples =
        reader.process_samples(Some("odd"), Timestamp(0), Timestamp(i64::MAX / 2)).await.expect("readable");
    let last = &samples.last().expect("a sample").sample;
    assert!(last.cpu_seconds_total >= 0.2 && last.resident_bytes > 1 << 20, "{last:?}");
    assert!(last.unattributed_cpu_seconds < last.cpu_seconds_total - 0.19, "{last:?}");
}
