//! `mcpmeter stdio -- COMMAND`: a client sees through it what it sees without it, every call is a row, and its end is the
//! server's end, whichever of them it begins with.

use crate::{
    piped::{Piped, State, processes_with, stdio},
    support::{
        PATIENCE, eventually,
        expected_row::{ExpectedRow, assert_rows},
        peer::converse,
    },
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::Stdio,
    thread,
    time::Instant,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcpmeter");

fn peers(file: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(file).display().to_string()
}

/// The demo server over stdio.
pub(crate) fn everything() -> Vec<String> {
    let script = peers("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    vec!["node".to_owned(), script, "stdio".to_owned()]
}

/// The server of the TypeScript SDK 2.x over stdio.
fn four_tools() -> Vec<String> {
    vec!["node".to_owned(), peers("stdio_server.mjs")]
}

/// Every tool of the demo server whose answer is always the same, and calls that are wrong.
pub(crate) fn calls_of_everything() -> Value {
    json!([
        { "name": "echo", "arguments": { "message": "naïve 🦀 \\ \"quoted\"\nline" } },
        { "name": "get-sum", "arguments": { "a": 2, "b": 3 } },
        { "name": "get-tiny-image" },
        { "name": "trigger-long-running-operation", "arguments": { "duration": 0.1, "steps": 3 } },
        { "name": "get-structured-content", "arguments": { "location": "New York" } },
        { "name": "get-annotated-message", "arguments": { "messageType": "error", "includeImage": true } },
        { "name": "get-resource-links", "arguments": { "count": 3 } },
        { "name": "get-resource-reference", "arguments": { "resourceType": "Text", "resourceId": 1 } },
        { "name": "trigger-sampling-request", "arguments": { "prompt": "Go on" } },
        { "name": "toggle-subscriber-updates" },
        { "name": "get-sum", "arguments": { "a": "two" } },
        { "name": "no_such_tool" },
    ])
}

fn calls_of_four_tools() -> Value {
    json!([
        { "name": "add", "arguments": { "a": 2, "b": 3 } },
        { "name": "echo", "arguments": { "text": "naïve 🦀 \\ \"quoted\"\nline" } },
        { "name": "fail" },
        { "name": "slow", "arguments": { "steps": 3 } },
        { "name": "echo", "arguments": {}, "parallel": 200 },
    ])
}

/// What a client of an SDK saw with this server.
pub(crate) async fn talk(client: &str, state: &State, command: &[String], era: &str, calls: &Value) -> Value {
    let env: serde_json::Map<_, _> =
        state.variables().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let spec = json!({ "command": command, "env": env, "era": era, "calls": calls });
    let (ended_well, mut seen) = converse(client, &[&spec.to_string()]).await;
    assert!(ended_well && seen.len() == 1, "{client} (scripts/setup-tests installs it): {seen:#?}");
    let mut seen = seen.remove(0);
    forget_times(&mut seen);
    seen
}

/// The demo server puts the time of day into some of its texts, and answers with the session's id in one.
fn forget_times(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(at) = text.find("created at") {
                text.truncate(at);
            }
            if let Some(at) = text.find("session ") {
                text.truncate(at);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(forget_times),
        Value::Object(values) => values.values_mut().for_each(forget_times),
        _ => {}
    }
}

/// The command, with mcpmeter in front of it.
pub(crate) fn metered(arguments: &[&str], command: &[String]) -> Vec<String> {
    let mut words = vec![PROGRAM.to_owned(), "stdio".to_owned()];
    words.extend(arguments.iter().map(|&word| word.to_owned()));
    if !command.is_empty() {
        words.push("--".to_owned());
        words.extend_from_slice(command);
    }
    words
}

/// An answered `tools/list` on a pipe, by a client that told who it is.
pub(crate) fn on_pipe(client: &str, protocol: &str) -> ExpectedRow {
    ExpectedRow {
        user_id: Some("u_1".into()),
        transport_type: "STDIO",
        client_transport: "STDIO",
        protocol_version: Some(protocol.into()),
        http_status: None,
        client_ip: None,
        client_name: Some(client.into()),
        client_version: Some("1.0.0".into()),
        framing: Some("line"),
        session: Some("the pipe"),
        ..ExpectedRow::of_instance("peer")
    }
}

/// The rows that a conversation has to leave, with ids that count up.
pub(crate) fn rows_of(seen: &Value, calls: &Value, common: &ExpectedRow, first_id: u64) -> Vec<ExpectedRow> {
    let mut id = first_id;
    let mut next_id = || {
        id += 1;
        Some((id - 1).to_string())
    };
    let tools = seen["tools"].as_array().expect("a list");
    let mut rows = vec![ExpectedRow { tool_count: Some(tools.len()), rpc_id: next_id(), ..common.clone() }];
    let mut answers = seen["answers"].as_array().expect("a list").iter();
    for call in calls.as_array().expect("a list") {
        for _ in 0..call["parallel"].as_u64().unwrap_or(1) {
            let answer = answers.next().expect("as many answers as calls");
            let row = common.call(call["name"].as_str().expect("a name"));
            let row = if answer["result"]["isError"] == true {
                let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
                row.failed("tool_error", "upstream", None, text)
            } else {
                row
            };
            rows.push(ExpectedRow { rpc_id: next_id(), ..row });
        }
    }
    rows
}

#[tokio::test]
async fn the_typescript_client_with_the_demo_server() {
    let (state, calls) = (State::new(), calls_of_everything());
    let direct = talk("stdio_client.mjs", &state, &everything(), "initialize", &calls).await;
    let command = metered(&["--name", "peer", "--user", "u_1"], &everything());
    let seen = talk("stdio_client.mjs", &state, &command, "initialize", &calls).await;
    assert_eq!(seen, direct);
    assert_eq!(seen["protocol"], "2025-11-25");
    let rows = state.rows("peer").await;
    assert_rows(&rows, &rows_of(&seen, &calls, &on_pipe("ts-stdio", "2025-11-25"), 1));
}

#[tokio::test]
async fn the_python_client_with_the_demo_server() {
    let (state, calls) = (State::new(), calls_of_everything());
    let direct = talk("stdio_client.py", &state, &everything(), "initialize", &calls).await;
    let command = metered(&["--name", "peer", "--user", "u_1"], &everything());
    let seen = talk("stdio_client.py", &state, &command, "initialize", &calls).await;
    assert_eq!(seen, direct);
    let rows = state.rows("peer").await;
    assert_rows(&rows, &rows_of(&seen, &calls, &on_pipe("py-stdio", "2025-11-25"), 2));
}

#[tokio::test]
async fn both_clients_at_2026_07_28_and_200_calls_at_once() {
    for (client, name, first_id) in
        [("stdio_client.mjs", "ts-stdio", None), ("stdio_client.py", "py-stdio", None::<u64>)]
    {
        for era in ["modern", "auto"] {
            let (state, calls) = (State::new(), calls_of_four_tools());
            let direct = talk(client, &state, &four_tools(), era, &calls).await;
            let command = metered(&["--name", "peer", "--user", "u_1"], &four_tools());
            let seen = talk(client, &state, &command, era, &calls).await;
            assert_eq!(seen, direct, "{client} {era}");
            assert_eq!(seen["protocol"], "2026-07-28");
            let numbers = |answers: &Value| answers.as_array().map_or(0, Vec::len);
            assert_eq!(numbers(&seen["answers"]), 204);
            let rows = state.rows("peer").await;
            let first = first_id.or_else(|| rows[0]["rpc_id"].as_str()?.parse().ok()).expect("a number");
            assert_rows(&rows, &rows_of(&seen, &calls, &on_pipe(name, "2026-07-28"), first));
        }
    }
}

#[test]
fn bytes_go_through_as_they_are_however_they_are_cut() {
    let state = State::new();
    let mut child = stdio(&state, &["--name", "cat", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // Nothing that a client would say: no lines, no text, and more than all buffers hold.
    let mut random = 7_u64;
    let mut bytes = Vec::new();
    while bytes.len() < 12 << 20 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&random.to_be_bytes());
    }
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let asked = bytes.clone();
    let writer = thread::spawn(move || {
        asked.chunks(70_001).for_each(|piece| stdin.write_all(piece).expect("it reads"))
    });
    let mut heard = Vec::new();
    stdout.read_to_end(&mut heard).expect("it writes");
    writer.join().expect("it only writes");
    assert!(heard == bytes, "{} bytes of {}", heard.len(), bytes.len());
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}

#[tokio::test]
async fn a_line_of_10_megabytes_goes_both_ways() {
    let state = State::new();
    let command = metered(&[], &four_tools());
    let words: Vec<_> = command[2..].iter().map(String::as_str).collect();
    let mut piped = Piped::start(&state, &[&["--name", "peer"], &words[..]].concat());
    piped.initialize();
    // The SDK's own limit is 10 MiB a line.
    let text = "x".repeat(10_000_000);
    let answer = piped.call(1, "echo", &json!({ "text": text }));
    assert!(answer["result"]["content"][0]["text"] == text, "{} bytes", answer.to_string().len());
    piped.hang_up();
    assert_eq!(piped.wait(), Some(0));
    let rows = state.rows("peer").await;
    assert_eq!(rows.len(), 1);
    let bytes = |column: &str| rows[0][column].as_u64().expect("a number");
    assert!(bytes("input_bytes") > 10_000_000 && bytes("output_bytes") > 10_000_000, "{:#}", rows[0]);
}

#[tokio::test]
async fn a_server_that_crashes_fails_its_open_calls_and_gives_its_exit_code() {
    for (tool, message, detail) in [
        (
            "crash",
            "the server's process exited with status 139",
            json!({ "process": { "exit_status": 139, "signal": null } }),
        ),
        (
            "abort",
            "the server's process was killed by signal 11 (SIGSEGV)",
            json!({ "process": { "exit_status": null, "signal": 11 } }),
        ),
    ] {
        let state = State::new();
        let command = metered(&[], &four_tools());
        let words: Vec<_> = command[2..].iter().map(String::as_str).collect();
        let mut piped = Piped::start(&state, &[&["--name", "peer"], &words[..]].concat());
        piped.initialize();
        piped.ask(1, "tools/call", &json!({ "name": "hang" }));
        piped.ask(2, "tools/call", &json!({ "name": tool }));
        assert_eq!(piped.hear(), None, "stdout is closed");
        // Although its stdin is still open.
        assert_eq!(piped.wait(), Some(139));
        let expected = |tool: &str, id: u64| ExpectedRow {
            user_id: None,
            client_name: Some("piped".into()),
            client_version: Some("2".into()),
            status_detail: Some("aborted".into()),
            error_detail: detail.clone(),
            rpc_id: Some(id.to_string()),
            ..on_pipe("piped", "2025-11-25")
                .call(tool)
                .failed("upstream_error", "upstream", Some("process_exited"), message)
                .unanswered()
        };
        assert_rows(&state.rows("peer").await, &[expected("hang", 1), expected(tool, 2)]);
    }
}

#[test]
fn exit_codes_are_those_of_the_command() {
    let state = State::new();
    let not_executable = state.path().join("file");
    fs::write(&not_executable, "").expect("a writable folder");
    let not_executable = not_executable.display().to_string();
    for (command, code, words) in [
        (&["sh", "-c", "exit 0"][..], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["sh", "-c", "echo to stderr >&2; kill -TERM $$"], 143, "to stderr"),
        (
            &["no-such-program-7"],
            127,
            "cannot run \"no-such-program-7\": there is no such program on the PATH",
        ),
        (&[not_executable.as_str()], 126, "it may not be executed"),
    ] {
        let mut piped = Piped::start(&state, &[&["--name", "x", "--"], command].concat());
        assert_eq!(piped.wait(), Some(code), "{command:?}");
        assert_eq!(piped.hear(), None, "nothing on stdout");
        let complaints = piped.complaints();
        assert!(complaints.contains(words), "{complaints}");
    }
    for arguments in [
        &[][..],
        &["--url", "http://a", "--", "x"],
        &["--url", "a"],
        &["--name", "a/b", "--", "x"],
        &["--header", "a: b", "--", "x"],
    ] {
        assert_eq!(Piped::start(&state, arguments).wait(), Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn what_a_server_says_last_is_forwarded_and_recorded() {
    let state = State::new();
    let answer = r#"{"jsonrpc":"2.0","id":5,"result":{"tools":[]}}"#;
    // It waits for the question, answers without a newline at the end, and is gone.
    let script = format!("read line; printf 'hello\\n%s' '{answer}'");
    let mut piped = Piped::start(&state, &["--name", "x", "--", "sh", "-c", &script]);
    piped.ask(5, "tools/list", &json!({}));
    assert_eq!(piped.hear().as_deref(), Some("hello"), "what is no message goes on as well");
    assert_eq!(piped.hear().as_deref(), Some(answer));
    assert_eq!(piped.wait(), Some(0));
    let rows = state.rows("x").await;
    assert_eq!(
        (rows.len(), &rows[0]["status"], &rows[0]["output_bytes"]),
        (1, &json!("ok"), &json!(answer.len()))
    );
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let state = State::new();
    let answer = r#"{"jsonrpc":"2.0","id":5,"result":{"content":[]}}"#;
    // Longer than a server has that owes nothing.
    let script = format!("read line; sleep 2.5; echo '{answer}'");
    let mut piped = Piped::start(&state, &["--name", "x", "--", "sh", "-c", &script]);
    piped.ask(5, "tools/call", &json!({ "name": "slow" }));
    piped.hang_up();
    assert_eq!(piped.hear().as_deref(), Some(answer));
    assert_eq!(piped.wait(), Some(0));
    assert_eq!(state.rows("x").await[0]["status"], "ok");
}

#[tokio::test]
async fn a_server_that_crashes_behind_its_clients_last_word_is_told_as_such() {
    let state = State::new();
    let mut piped = Piped::start(&state, &["--name", "x", "--", "sh", "-c", "read a; read b; kill -SEGV $$"]);
    piped.ask(5, "tools/call", &json!({ "name": "t" }));
    piped.hang_up();
    assert_eq!(piped.wait(), Some(139));
    let rows = state.rows("x").await;
    assert_eq!(
        (&rows[0]["status"], &rows[0]["error_code"], &rows[0]["error_detail"]["process"]["signal"]),
        (&json!("upstream_error"), &json!("process_exited"), &json!(11))
    );
}

/// Waits until no process has the words in its command line.
async fn until_gone(words: &str) {
    eventually("its processes are gone", || processes_with(words).is_empty()).await;
}

#[tokio::test]
async fn a_client_that_is_killed_takes_its_server_along_and_the_rows_stay() {
    let state = State::new();
    let mark = format!("mark-{}", state.path().display());
    let command = metered(&["--name", "peer"], &[four_tools(), vec![mark.clone()]].concat());
    let env: serde_json::Map<_, _> =
        state.variables().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let asked = state.path().join("asked");
    let hang = json!({ "name": "hang_visibly", "arguments": { "file": asked } });
    let calls = json!([{ "name": "add", "arguments": { "a": 1, "b": 2 } }, hang]);
    let spec = json!({ "command": command, "env": env, "era": "initialize", "calls": calls });
    let mut client = crate::support::peer::spawn("stdio_client.mjs", &[&spec.to_string()]);
    let deadline = Instant::now() + PATIENCE;
    let stored = loop {
        assert!(Instant::now() < deadline, "its first calls never became rows");
        // The call that is to be open has reached the server, and so has been seen on its way.
        let rows = if asked.exists() { state.rows_so_far("peer").await } else { Vec::new() };
        if rows.len() == 2 {
            break rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(processes_with(&mark).len() >= 3, "client, program and server run");
    client.start_kill().expect("it runs");
    client.wait().await.expect("a child");
    until_gone(&mark).await;
    let rows = state.rows("peer").await;
    assert_eq!(rows[..2], stored);
    assert_eq!(rows.len(), 3);
    let hang = &rows[2];
    assert_eq!(
        (&hang["tool_name"], &hang["status"], &hang["status_detail"]),
        (&json!("hang_visibly"), &json!("cancelled"), &json!("session_ended"))
    );
    assert_eq!((&hang["origin"], &hang["client_left"]), (&json!("client"), &json!(true)));
}

#[tokio::test]
async fn a_server_that_will_not_go_is_killed_with_all_it_has_started() {
    let state = State::new();
    let mark = format!("mark-{}", state.path().display());
    // Deaf to the end of its input and to SIGTERM, and its own child holds the pipe.
    let script = format!(
        "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo ready; while :; do sleep 0.1; done # {mark}"
    );
    let mut piped = Piped::start(&state, &["--name", "x", "--", "sh", "-c", &script]);
    assert_eq!(piped.hear().as_deref(), Some("ready"));
    let began = Instant::now();
    piped.hang_up();
    assert_eq!(piped.wait(), Some(137));
    // Before a client of the SDKs would have killed us: 2 s and 2 s more.
    assert!(began.elapsed().as_millis() < 4000, "{:?}", began.elapsed());
    until_gone(&mark).await;
}

#[tokio::test]
async fn what_a_server_leaves_behind_does_not_hold_the_end_up() {
    let state = State::new();
    let mark = format!("mark-{}", state.path().display());
    let script = format!("(sleep 1000; : {mark}) & echo ready; exit 3");
    let mut piped = Piped::start(&state, &["--name", "x", "--", "sh", "-c", &script]);
    let began = Instant::now();
    assert_eq!(piped.hear().as_deref(), Some("ready"));
    assert_eq!(piped.wait(), Some(3));
    assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
    until_gone(&mark).await;
}

#[tokio::test]
async fn a_signal_ends_the_server_too() {
    let state = State::new();
    let command = metered(&[], &four_tools());
    let words: Vec<_> = command[2..].iter().map(String::as_str).collect();
    let mut piped = Piped::start(&state, &[&["--name", "peer"], &words[..]].concat());
    piped.initialize();
    piped.ask(1, "tools/call", &json!({ "name": "hang" }));
    piped.call(2, "add", &json!({ "a": 1, "b": 1 }));
    let killed = std::process::Command::new("kill").args(["-TERM", &piped.pid().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    // First its server's input is closed; with a call that hangs the server has to be told as well.
    assert_eq!(piped.wait(), Some(143));
    let rows = state.rows("peer").await;
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["status"], &rows[0]["status_detail"], &rows[0]["origin"]),
        (&json!("upstream_error"), &json!("proxy_shutdown"), &json!("proxy"))
    );
}

#[tokio::test]
async fn a_cancelled_call_is_recorded_as_such() {
    let state = State::new();
    let command = metered(&[], &four_tools());
    let words: Vec<_> = command[2..].iter().map(String::as_str).collect();
    let mut piped = Piped::start(&state, &[&["--name", "peer"], &words[..]].concat());
    piped.initialize();
    piped.ask(1, "tools/call", &json!({ "name": "hang" }));
    piped.say(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}"#,
    );
    piped.call(2, "add", &json!({ "a": 1, "b": 1 }));
    piped.hang_up();
    assert_eq!(piped.wait(), Some(143));
    let row = &state.rows("peer").await[0];
    let (status, message, requested) = (&row["status"], &row["error_message"], &row["cancel_requested"]);
    assert_eq!(
        (status, message, requested),
        (&json!("cancelled"), &json!("enough"), &json!(true)),
        "{row:#}"
    );
}

#[tokio::test]
async fn two_at_once_have_a_store_each_in_one_private_folder() {
    use std::os::unix::fs::PermissionsExt;
    let state = State::new();
    let command = metered(&[], &four_tools());
    let words: Vec<_> = command[2..].iter().map(String::as_str).collect();
    let arguments = [&["--name", "peer"], &words[..]].concat();
    let mut first = Piped::start(&state, &arguments);
    first.initialize();
    eventually("the first has its store", || state.stores().join("stdio-peer.db").exists()).await;
    let mut second = Piped::start(&state, &arguments);
    second.initialize();
    for (id, piped) in [(1, &mut first), (2, &mut second)] {
        piped.call(id, "add", &json!({ "a": 1, "b": 1 }));
    }
    for piped in [&mut first, &mut second] {
        piped.hang_up();
        assert_eq!(piped.wait(), Some(0));
    }
    for (name, id) in [("peer", "1"), ("peer-2", "2")] {
        let rows = state.rows(name).await;
        assert_eq!((rows.len(), &rows[0]["rpc_id"]), (1, &json!(id)), "{name}");
        assert_eq!(rows[0]["mcp_server_instance_id"], "peer");
    }
    let mode = fs::metadata(state.stores()).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn without_a_store_there_are_no_rows_but_there_is_a_server() {
    let state = State::new();
    fs::write(state.stores(), "in the way").expect("a writable folder");
    let mut piped = Piped::start(&state, &["--name", "x", "--", "cat"]);
    piped.say("hello");
    assert_eq!(piped.hear().as_deref(), Some("hello"));
    piped.hang_up();
    assert_eq!(piped.wait(), Some(0));
    let complaints = piped.complaints();
    assert!(
        complaints.contains("calls are not recorded") && complaints.contains("cannot make the folder"),
        "{complaints}"
    );
}

#[tokio::test]
async fn a_configuration_file_says_where_the_calls_go() {
    let state = State::new();
    let file = state.path().join("my.toml");
    fs::write(&file, "[store]\nurl = \"sqlite:mine.db\"\n[log]\nlevel = \"error\"\n")
        .expect("a writable folder");
    let file = file.display().to_string();
    let mut piped = Piped::start(&state, &["-c", &file, "--", "cat"]);
    // What `cat` says is no answer, but the question is a call, and with its end the call has one.
    piped.ask(1, "tools/list", &json!({}));
    piped.hear();
    piped.hang_up();
    assert_eq!(piped.wait(), Some(0));
    assert_eq!(piped.complaints(), "", "nothing but errors is logged");
    let rows = crate::support::sqlite_rows(&state.path().join("mine.db")).await;
    assert_eq!(
        (rows.len(), &rows[0]["mcp_server_instance_id"], &rows[0]["status"]),
        (1, &json!("cat"), &json!("cancelled"))
    );
    assert!(!state.stores().exists());
}
