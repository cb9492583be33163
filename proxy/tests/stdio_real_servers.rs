//! Servers that people run, as programs behind the proxy, with the SDKs' clients: every tool answers as it does over direct
//! stdio, over Streamable HTTP and over the old SSE, and every call is a row.

use crate::{
    message::post,
    raw::Wire,
    support::{
        Mcpmeter,
        acting::{Make, Program, STDIO, Talk},
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

fn everything() -> Program {
    Program::node("node_modules/@modelcontextprotocol/server-everything/dist/index.js", &["stdio"])
}

fn filesystem() -> Program {
    let server = "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";
    let program = Program::node(server, &["$FOLDER"]);
    std::fs::write(program.folder().join("pixel.png"), "not really one").expect("written");
    program
}

fn memory() -> Program {
    let server = "node_modules/@modelcontextprotocol/server-memory/dist/index.js";
    Program::node(server, &[]).with_env(&["MEMORY_FILE_PATH=$FOLDER/memory.jsonl"])
}

fn thinking() -> Program {
    Program::node("node_modules/@modelcontextprotocol/server-sequential-thinking/dist/index.js", &[])
}

fn time() -> Program {
    Program::python(&["-m", "mcp_server_time"])
}

/// Commits get the same hash each time.
const IDENTITY: [&str; 6] = [
    "GIT_AUTHOR_NAME=T",
    "GIT_AUTHOR_EMAIL=t@example.com",
    "GIT_AUTHOR_DATE=1767225600 +0000",
    "GIT_COMMITTER_NAME=T",
    "GIT_COMMITTER_EMAIL=t@example.com",
    "GIT_COMMITTER_DATE=1767225600 +0000",
];

fn git() -> Program {
    let program = Program::python(&["-m", "mcp_server_git"]).with_env(&IDENTITY);
    let run = |words: &[&str]| {
        let identity = IDENTITY.iter().filter_map(|variable| variable.split_once('='));
        let mut git = Command::new("git");
        git.args(words).current_dir(program.folder()).envs(identity).stdout(Stdio::null());
        assert!(git.status().expect("git runs").success(), "git {words:?}");
    };
    let write = |text: &str| std::fs::write(program.folder().join("a.txt"), text).expect("written");
    run(&["init", "-q", "-b", "main"]);
    write("one\n");
    run(&["add", "a.txt"]);
    run(&["commit", "-q", "-m", "first"]);
    write("one\ntwo\n");
    program
}

fn sdk_typescript() -> Program {
    Program::node("ts_server.mjs", &["--stdio"])
}

fn sdk_typescript_modern_only() -> Program {
    Program::node("ts_server.mjs", &["--stdio", "--modern-only"])
}

fn sdk_python() -> Program {
    let script = crate::support::peer::peers().join("py_server.py");
    Program::python(&[script.to_str().expect("text"), "--transport", "stdio"])
}

/// Over both transports of sessions; what is seen directly does not depend on them.
async fn every_tool(script: &'static str, conversation: &'static str, make: Make) {
    let streamable = Talk { script, mode: "streamable", conversation };
    let sse = Talk { mode: "sse", ..streamable };
    let direct = streamable.hold_directly(make).await;
    assert_every_tool_called(&direct);
    streamable.hold_proxied(make, &direct).await.assert_recorded(streamable, LEGACY);
    sse.hold_proxied(make, &direct).await.assert_recorded(sse, LEGACY);
}

/// Held in other tests.
const ELSEWHERE: [&str; 2] = ["simulate-research-query", "get-env"];

fn assert_every_tool_called(steps: &[Value]) {
    let listed = steps[1]["tools"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let called: BTreeSet<_> = steps.iter().filter_map(|step| step["tool"].as_str()).collect();
    let missing: Vec<_> = listed.filter(|tool| !called.contains(tool) && !ELSEWHERE.contains(tool)).collect();
    assert!(missing.is_empty(), "never called: {missing:?}");
}

#[tokio::test]
async fn everything_answers_as_it_does_directly() {
    every_tool("ts_client.mjs", "everything", everything).await;
}

#[tokio::test]
async fn the_filesystem_answers_as_it_does_directly() {
    every_tool("ts_client.mjs", "filesystem", filesystem).await;
}

#[tokio::test]
async fn memory_and_thinking_answer_as_they_do_directly() {
    every_tool("ts_client.mjs", "memory", memory).await;
    every_tool("ts_client.mjs", "thinking", thinking).await;
}

#[tokio::test]
async fn time_answers_as_it_does_directly() {
    every_tool("py_client.py", "time", time).await;
}

#[tokio::test]
async fn git_answers_as_it_does_directly() {
    every_tool("py_client.py", "git", git).await;
    let modern = Talk { script: "py_client.py", mode: "modern", conversation: "git" };
    modern.hold_twice(git).await.assert_recorded(modern, MODERN);
}

#[tokio::test]
async fn a_program_sees_the_environment_that_clients_give() {
    let talk = Talk { script: "ts_client.mjs", mode: "streamable", conversation: "environment" };
    talk.hold_twice(everything).await.assert_recorded(talk, LEGACY);
}

#[tokio::test]
async fn a_task_runs_to_its_end_and_asks_on_the_way() {
    let talk = Talk { script: "ts_client.mjs", mode: "streamable", conversation: "research" };
    let held = talk.hold_twice(everything).await;
    assert!(held.steps[2]["states"].to_string().contains("input_required"), "{:#}", held.steps[2]);
    // The call is over when the task is made; the end of the task is a row of its own, which begins at the same instant.
    let mut ways: Vec<_> = held.rows.iter().map(|row| row["status"].as_str().expect("text")).collect();
    ways.sort_unstable();
    assert_eq!(
        (held.rows[0]["method"].as_str(), &*ways),
        (Some("tools/list"), &["ok", "ok", "task_created"][..])
    );
    for row in &held.rows[1..] {
        assert_eq!(row["tool_name"], "simulate-research-query", "{row:#}");
        assert_eq!(row["transport_type"], STDIO, "{row:#}");
        assert!(row["task_hash"].is_string() && row["task_hash"] == held.rows[1]["task_hash"], "{row:#}");
    }
}

#[tokio::test]
async fn the_servers_of_the_sdks_speak_the_revision_without_sessions() {
    for (script, make) in [
        ("ts_client.mjs", sdk_typescript as Make),
        ("py_client.py", sdk_python),
        ("py_client.py", sdk_typescript_modern_only),
    ] {
        let talk = Talk { script, mode: "modern", conversation: "fixture" };
        talk.hold_twice(make).await.assert_recorded(talk, MODERN);
    }
}

#[tokio::test]
async fn a_client_that_probes_finds_the_revision_without_sessions() {
    for (script, make) in [
        ("ts_client.mjs", sdk_python as Make),
        ("py_client.py", sdk_typescript),
        ("ts_client.mjs", sdk_typescript_modern_only),
    ] {
        let talk = Talk { script, mode: "auto", conversation: "fixture" };
        talk.hold_twice(make).await.assert_recorded(talk, MODERN);
    }
}

#[tokio::test]
async fn a_client_that_probes_falls_back_where_a_program_knows_only_sessions() {
    for script in ["ts_client.mjs", "py_client.py"] {
        let talk = Talk { script, mode: "auto", conversation: "thinking" };
        talk.hold_twice(thinking).await.assert_recorded(talk, LEGACY);
    }
}

#[tokio::test]
async fn a_program_without_sessions_refuses_initialize_in_its_own_words() {
    let initialize = json!({ "jsonrpc": "2.0", "id": "first", "method": "initialize", "params": {
        "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": { "name": "a", "version": "1" },
    } })
    .to_string();
    let program = sdk_typescript_modern_only();
    let mut child = Command::new(&program.words[0])
        .args(&program.words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{initialize}").expect("it reads");
    let mut direct = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut direct).expect("a line");
    drop(stdin);
    child.wait().expect("it ends with its input");

    let proxy = Mcpmeter::start(&program.route(""));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/peer/mcp", &initialize)).await;
    let answer = client.read_response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (400, direct.trim_end()));
    assert_eq!(answer.header("mcp-session-id"), None);
    assert!(direct.contains("-32022") && direct.contains(MODERN), "{direct}");
}
