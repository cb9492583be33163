//! What a program says of its own accord: it asks for samples, forms and roots, tells progress, logs, and updates resources.
//! Two sessions at once are each told what is theirs, as if each ran the program itself.

use crate::support::{
    Mcpmeter,
    acting::{Program, STDIO},
    peer,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn everything() -> Program {
    Program::node("node_modules/@modelcontextprotocol/server-everything/dist/index.js", &["stdio"])
}

/// What each of the two clients was told. The SDK may drop progress that arrives together with the answer.
async fn talk(url: &str, mode: &str) -> Vec<Value> {
    let (as_expected, said) = peer::converse("ts_talk.mjs", &[url, mode]).await;
    assert!(as_expected, "(scripts/setup-tests installs it) {said:#?}");
    let mut told = said[0].as_array().expect("two clients").clone();
    for client in &mut told {
        let progress = client["progress"].as_array().map(Vec::len);
        assert!(progress >= Some(1), "{client:#}");
        client["progress"] = Value::Null;
    }
    told
}

const TOOLS: [&str; 8] = [
    "toggle-subscriber-updates",
    "toggle-subscriber-updates",
    "trigger-sampling-request",
    "trigger-elicitation-request",
    "get-roots-list",
    "trigger-long-running-operation",
    "trigger-long-running-operation",
    "echo",
];

fn assert_recorded(rows: &[Value], client_transport: &str) {
    let mut calls: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut sessions = BTreeSet::new();
    let text =
        |row: &'_ Value, column: &str| row[column].as_str().unwrap_or_else(|| panic!("{row:#}")).to_owned();
    for row in rows {
        assert_eq!(
            (&row["transport_type"], &row["client_transport"]),
            (&json!(STDIO), &json!(client_transport))
        );
        assert_eq!(row["mcp_server_instance_id"], "inst_7");
        sessions.insert((text(row, "client_name"), text(row, "session_hash")));
        let call = (row["tool_name"].as_str().expect("a tool"), row["status"].as_str().expect("a status"));
        calls.entry(row["client_name"].as_str().expect("a name")).or_default().push(call);
        assert_eq!(row["cancel_requested"], json!(call.1 == "cancelled"), "{row:#}");
    }
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    for (client, calls) in calls {
        let mut expected = TOOLS.map(|tool| (tool, "ok"));
        expected[6].1 = "cancelled";
        assert_eq!(calls, expected, "of {client}");
    }
}

async fn two_sessions_hear_what_is_theirs(mode: &str, path: &str, client_transport: &str) {
    let program = everything();
    let direct = talk(&json!(program.words).to_string(), mode).await;
    for (told, resource) in direct.iter().zip([1, 2]) {
        assert_eq!(told["updated"], json!([format!("demo://resource/dynamic/text/{resource}")]));
        assert_eq!(told["answers"][6], "cancelled");
    }
    let proxy = Mcpmeter::start(&program.route(""));
    let proxied = talk(&proxy.url(path), mode).await;
    assert_eq!(proxied, direct);
    assert_recorded(&proxy.stop().await, client_transport);
}

#[tokio::test]
async fn over_streamable_http() {
    two_sessions_hear_what_is_theirs("streamable", "/peer/mcp", "STREAMABLE_HTTPS").await;
}

#[tokio::test]
async fn over_the_old_sse() {
    two_sessions_hear_what_is_theirs("sse", "/peer/sse", "SSE").await;
}
