//! A program behind the proxy does what programs do (WIRE.md 55 to 59): it gets one line per message, floods, dies, leaves
//! children behind. Its clients and whoever runs it learn what happened, and nothing stays.

use crate::support::{
    Mcpmeter, PATIENCE,
    acting::{Program, STDIO},
    caller::{Caller, modern_call, session_call, text_of},
    eventually,
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Instant};

/// A program that does as it is told, and notes what it hears in its folder.
fn odd() -> Program {
    Program::odd(&["--heard", "$FOLDER/heard"])
}

fn heard(program: &Program) -> Vec<u8> {
    fs::read(program.folder().join("heard")).expect("it has heard something")
}

#[tokio::test]
async fn a_body_of_many_lines_reaches_a_program_as_one() {
    let program = odd();
    let proxy = Mcpmeter::start(&program.route(""));
    let mut client = Caller::open_session(&proxy, "a").await;
    let before = heard(&program).len();
    let body = "{\r\n  \"jsonrpc\": \"2.0\",\n\t\"id\": 1.0,\n  \"method\": \"tools/call\",\n  \
                \"params\": { \"name\": \"a\\nb\", \"unknown\": [1.50,\n2] }\n}";
    let answer = client.ask(body).await;
    assert_eq!(
        answer.text(),
        r#"{"jsonrpc": "2.0", "id": 1.0, "result": {"resultType": "complete", "content": [{"type": "text", "text": "a\nb {}"}]}}"#
    );

    let line = &heard(&program)[before..];
    assert_eq!(line.len(), body.len() + 1);
    let expected = body.replace(['\r', '\n'], " ") + "\n";
    assert_eq!(String::from_utf8_lossy(line), expected);
    let row = &proxy.stop().await[0];
    assert_eq!(row["input_bytes"], json!(body.len()), "{row:#}");
}

#[tokio::test]
async fn lines_that_end_with_crlf_are_lines() {
    let program = Program::odd(&["--crlf"]);
    let proxy = Mcpmeter::start(&program.route(""));
    let mut client = Caller::open_session(&proxy, "a").await;
    let answer = client.ask(&session_call(1, "a")).await;
    assert_eq!(text_of(&answer.text()), "a {}");
    assert!(!answer.text().contains('\r'));
}

#[tokio::test]
async fn ten_megabytes_of_complaints_and_noise_disturb_nobody() {
    let program = odd();
    let mut proxy = Mcpmeter::start(&program.route(""));
    let mut client = Caller::open_session(&proxy, "a").await;
    for id in 1..=2 {
        let answer = client.ask(&session_call(id, "flood")).await;
        assert_eq!(text_of(&answer.text()), "flood {}");
    }
    client.send_bare("DELETE").await;
    assert_eq!(client.response().await.status(), 200);
    // A banner and a line of bytes, twice; an empty line is none.
    let told = proxy.wait_for_log("no message");
    assert_eq!(told["noise"], json!(4), "{told}");
    assert!(
        proxy.log().iter().all(|line| line.len() < 100_000),
        "what a program complains of is not logged whole"
    );
}

#[tokio::test]
async fn a_crash_fails_what_is_open_and_ends_a_session() {
    let program = odd();
    let proxy = Mcpmeter::start(&program.route(""));
    let mut begun = Caller::open_session(&proxy, "a").await;
    let mut crashing = begun.again(&proxy).await;
    begun.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hold","_meta":{"progressToken":"t"}}}"#).await;
    begun.begin_stream().await;
    assert!(begun.next_event().await.expect("progress").contains("notifications/progress"));

    let answer = crashing.ask(&session_call(2, "crash")).await;
    assert_eq!(answer.status(), 502, "{}", answer.text());
    assert!(answer.text().contains("process has ended"), "{}", answer.text());
    assert_eq!(begun.next_event().await, None, "broken off");
    let gone = crashing.ask(&session_call(3, "a")).await;
    assert_eq!(gone.status(), 404);
    assert!(gone.text().contains("Session not found"), "{}", gone.text());
    let mut fresh = Caller::open_session(&proxy, "a").await;
    assert_eq!(text_of(&fresh.ask(&session_call(1, "a")).await.text()), "a {}");

    let rows = proxy.stop().await;
    for (tool, http_status) in [("hold", 200), ("crash", 502)] {
        assert_crashed(row_of(&rows, tool), http_status);
    }
    let ways: Vec<_> = rows.iter().map(|row| (&row["tool_name"], &row["http_status"])).collect();
    assert_eq!(rows.len(), 4, "{ways:?}");
}

#[tokio::test]
async fn a_crash_of_a_shared_program_is_followed_by_a_new_one_and_later_by_a_pause() {
    let program = odd();
    let proxy = Mcpmeter::start(&program.route(""));
    let mut begun = Caller::connect(&proxy).await;
    let mut crashing = Caller::connect(&proxy).await;
    begun.send(&modern_call("1", "hold", Some("7"))).await;
    begun.begin_stream().await;
    assert!(begun.next_event().await.expect("progress").contains("\"progressToken\": 7"));
    assert_eq!(crashing.ask(&modern_call("1", "crash", None)).await.status(), 502);
    assert_eq!(begun.next_event().await, None, "broken off");

    // Its successor comes after half a second, and knows nothing of the calls that were lost.
    let since = Instant::now();
    let answer = crashing.ask(&modern_call("2", "release", None)).await;
    assert_eq!(text_of(&answer.text()), "release {}");
    assert!(since.elapsed().as_millis() >= 400, "too soon: {:?}", since.elapsed());
    // The next end is followed by a second, and the one after that by more than anybody is kept waiting.
    for id in ["3", "4"] {
        assert_eq!(crashing.ask(&modern_call(id, "crash", None)).await.status(), 502);
    }
    let answer = crashing.ask(&modern_call("5", "a", None)).await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after").as_deref(), Some("2"), "{:?}", answer.headers());

    let rows = proxy.stop().await;
    assert_crashed(row_of(&rows, "hold"), 200);
    assert_crashed(row_of(&rows, "crash"), 502);
    let refused = row_of(&rows, "a");
    assert_eq!(
        (&refused["status"], &refused["error_code"]),
        (&json!("upstream_error"), &json!("restarting")),
        "{refused:#}"
    );
    assert_eq!(rows.len(), 6);
}

fn row_of<'a>(rows: &'a [Value], tool: &str) -> &'a Value {
    rows.iter().find(|row| row["tool_name"] == tool).unwrap_or_else(|| panic!("no {tool} in {rows:#?}"))
}

/// The row of a call whose program has killed itself says so.
fn assert_crashed(row: &Value, http_status: u16) {
    for (column, value) in [
        ("status", json!("upstream_error")),
        ("status_detail", json!("aborted")),
        ("origin", json!("upstream")),
        ("error_code", json!("process_exited")),
        ("http_status", json!(http_status)),
        ("transport_type", json!(STDIO)),
        ("output_bytes", json!(0)),
        ("match", json!("none")),
    ] {
        assert_eq!(row[column], value, "{column}: {row:#}");
    }
    assert!(row["error_message"].as_str().is_some_and(|words| words.contains("SIGSEGV")), "{row:#}");
}

#[tokio::test]
async fn the_row_of_a_crash_keeps_what_the_program_said_last() {
    let program = odd();
    let proxy = Mcpmeter::start(&program.route(""));
    let mut client = Caller::open_session(&proxy, "a").await;
    assert_eq!(client.ask(&session_call(1, "crash")).await.status(), 502);
    let rows = proxy.stop().await;
    let detail = json!({ "process": { "exit_status": null, "signal": 11, "stderr": ["a last word"] } });
    assert_eq!(rows[0]["error_detail"], detail);
}

/// The processes whose command line names the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.to_str().expect("text");
    let pids = fs::read_dir("/proc").expect("proc").flatten();
    let lines = pids.filter_map(|pid| fs::read(pid.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(name)).collect()
}

/// A shell that stays, the program below it, and two grandchildren that hold its pipes and ignore SIGTERM.
async fn tree() -> (Program, Mcpmeter, Caller) {
    let mut program = odd();
    let inner = program.words.join(" ");
    program.words = ["sh", "-c", &format!("{inner}; true")].map(str::to_owned).to_vec();
    let proxy = Mcpmeter::start(&program.route(""));
    let mut client = Caller::open_session(&proxy, "a").await;
    for id in 1..=2 {
        assert_eq!(client.ask(&session_call(id, "descend")).await.status(), 200);
    }
    eventually("four processes", || processes_of(program.folder()).len() == 4).await;
    (program, proxy, client)
}

#[tokio::test]
async fn the_end_of_a_session_is_the_end_of_all_its_processes() {
    let (program, proxy, mut client) = tree().await;
    client.send_bare("DELETE").await;
    assert_eq!(client.response().await.status(), 200);
    let asked = Instant::now();
    eventually("no process left", || processes_of(program.folder()).is_empty()).await;
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    assert_eq!(client.ask(&session_call(9, "a")).await.status(), 404);
    drop(proxy);
}

#[tokio::test]
async fn the_end_of_mcpmeter_is_the_end_of_all_its_processes() {
    let (program, proxy, client) = tree().await;
    client.leave();
    let asked = Instant::now();
    proxy.stop().await;
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    assert_eq!(processes_of(program.folder()), [""; 0], "when it has ended, they have");
}

#[tokio::test]
async fn a_program_that_dies_takes_its_children_along() {
    let (program, _proxy, mut client) = tree().await;
    assert_eq!(client.ask(&session_call(3, "crash")).await.status(), 502);
    eventually("no process left", || processes_of(program.folder()).is_empty()).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_mcpmeter_that_is_killed_leaves_no_process() {
    let (program, proxy, _client) = tree().await;
    proxy.signal("KILL");
    eventually("no process left", || processes_of(program.folder()).is_empty()).await;
}

#[tokio::test]
async fn of_the_environment_a_program_gets_what_it_needs_and_what_is_configured() {
    let program = odd();
    let folder = program.folder().to_str().expect("text");
    let keys = format!("env = {{ GIVEN = \"to it\" }}\ncwd = \"{folder}\"");
    // The harness gives mcpmeter MCPMETER_STORE__QUEUE_DIRECTORY, and cargo more.
    let proxy = Mcpmeter::start(&program.route(&keys));
    let mut client = Caller::open_session(&proxy, "a").await;
    let answer = client.ask(&session_call(1, "environment")).await;
    let told: Value = serde_json::from_str(&text_of(&answer.text())).expect("JSON");
    assert_eq!(told["cwd"], json!(folder));
    let mut expected: Vec<_> = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"]
        .iter()
        .filter_map(|name| std::env::var(name).ok().map(|value| format!("{name}={value}")))
        .chain(["GIVEN=to it".to_owned()])
        .collect();
    let pairs = told["environment"].as_array().into_iter().flatten();
    let mut seen: Vec<_> = pairs.filter_map(Value::as_str).map(str::to_owned).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}
