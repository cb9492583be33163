//! One program that several clients share: each gets its own answers, with its own ids, tokens and subscriptions, whatever
//! the others call theirs and in whatever order the program answers (WIRE.md 54); and every row is of the right call.

use crate::support::{
    Mcpmeter,
    acting::{Program, STDIO},
    caller::{Caller, messages, modern, modern_call, text_of},
    eventually,
};
use serde_json::{Value, json};
use std::{collections::HashMap, fs, sync::Arc};
use tokio::task::JoinSet;

fn odd() -> Program {
    Program::odd(&["--heard", "$FOLDER/heard"])
}

/// Everything that the program was told.
fn heard(program: &Program) -> Vec<Value> {
    let text = fs::read_to_string(program.folder().join("heard")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn listen(id: &str) -> String {
    modern(id, "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }), None)
}

/// An answer that keeps the client's own id.
fn answer(id: &str, text: &str) -> String {
    format!(
        r#"{{"jsonrpc": "2.0", "id": {id}, "result": {{"resultType": "complete", "content": [{{"type": "text", "text": "{text}"}}]}}}}"#
    )
}

fn progress(token: &str) -> String {
    format!(
        r#"{{"jsonrpc": "2.0", "method": "notifications/progress", "params": {{"progressToken": {token}, "progress": 1, "message": "hold"}}}}"#
    )
}

/// A client that has subscribed.
async fn subscribe(proxy: &Mcpmeter) -> Caller {
    let mut listener = Caller::connect(proxy).await;
    listener.send(&listen("5")).await;
    listener.begin_stream().await;
    let acknowledged = listener.next_event().await.expect("a first event");
    let own = r#""_meta": {"io.modelcontextprotocol/subscriptionId": 5}}}"#;
    assert!(acknowledged.ends_with(own), "{acknowledged}");
    listener
}

/// A client that waits for an answer, and has been told its progress.
async fn wait(proxy: &Mcpmeter, id: &str, token: &str) -> Caller {
    let mut client = Caller::connect(proxy).await;
    client.send(&modern_call(id, "hold", Some(token))).await;
    client.begin_stream().await;
    assert_eq!(client.next_event().await, Some(progress(token)));
    client
}

/// The ids of the requests that the program was told not to answer, as it knows them.
fn cancelled(program: &Program) -> Vec<Value> {
    let told = heard(program).into_iter().filter(|message| message["method"] == "notifications/cancelled");
    told.map(|message| message["params"]["requestId"].clone()).collect()
}

#[tokio::test]
async fn equal_ids_tokens_and_subscriptions_of_two_clients_are_told_apart() {
    let program = odd();
    let proxy = Mcpmeter::start(&program.route(""));
    let mut listeners = [subscribe(&proxy).await, subscribe(&proxy).await];
    // A number, a text, and a number that is written in another way.
    let mut calls = Vec::new();
    for (id, token) in [("1", "0"), (r#""1""#, "0"), ("1.0", r#""0""#)] {
        calls.push((id, wait(&proxy, id, token).await));
    }
    // All of it at the program is unique.
    let told = heard(&program);
    let ids: Vec<_> = told.iter().map(|message| message["id"].to_string()).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6"], "the proxy's own question first");
    let tokens = told.iter().filter_map(|message| message["params"]["_meta"].get("progressToken"));
    assert_eq!(tokens.map(Value::to_string).collect::<Vec<_>>(), ["4", "5", "6"]);

    // The second leaves: the program is told once, by the id it knows, and its late answer goes nowhere.
    let (_, leaving) = calls.remove(1);
    leaving.leave();
    eventually("cancelled", || cancelled(&program) == [json!(5)]).await;

    let mut releasing = Caller::connect(&proxy).await;
    assert_eq!(releasing.ask(&modern_call("1", "release", None)).await.text(), answer("1", "release {}"));
    for (id, mut client) in calls {
        assert_eq!(client.next_event().await, Some(answer(id, "hold {}")));
        assert_eq!(client.next_event().await.as_deref(), None);
    }
    for listener in &mut listeners {
        let changed = r#"{"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 5}}}"#;
        assert_eq!(listener.next_event().await.as_deref(), Some(changed));
    }
    assert_eq!(cancelled(&program), [json!(5)], "once");

    // One leaves: the other is still told.
    let [leaving, mut staying] = listeners;
    leaving.leave();
    eventually("cancelled", || cancelled(&program).len() == 2).await;
    releasing.ask(&modern_call("2", "release", None)).await;
    assert!(staying.next_event().await.expect("an event").contains("list_changed"));

    let rows = proxy.stop().await;
    let ways: Vec<_> = rows.iter().map(|row| (row["rpc_id"].as_str(), row["status"].as_str())).collect();
    let expected = [("1", "ok"), (r#""1""#, "cancelled"), ("1.0", "ok"), ("1", "ok"), ("2", "ok")];
    assert_eq!(ways, expected.map(|(id, status)| (Some(id), Some(status))));
}

/// Of each client, spread over its connections.
const CALLS: usize = 5_000;
const CONNECTIONS: usize = 8;
/// Of tools.
const KINDS: usize = 7;

/// What a client asks; its name is all that tells it from the other's.
fn asked(client: &str, number: usize, in_session: bool) -> String {
    let params = json!({
        "name": tool(client, number),
        "arguments": { "of": client, "text": "x".repeat(number % 97) },
    });
    let token = number.is_multiple_of(3).then(|| number.to_string());
    if !in_session {
        return modern(&number.to_string(), "tools/call", params, token.as_deref())
            .replace(r#""name":"caller""#, &format!(r#""name":"{client}""#));
    }
    let mut params = params;
    if let Some(token) = token {
        params["_meta"] = json!({ "progressToken": token.parse::<u64>().expect("a number") });
    }
    json!({ "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params }).to_string()
}

/// Each seventh is shuffled with others and tells its progress.
fn tool(client: &str, number: usize) -> String {
    if number.is_multiple_of(KINDS) { "shuffle".to_owned() } else { format!("{client}_{}", number % KINDS) }
}

/// Bytes of the request and of its answer, by the number of the call.
type Sizes = HashMap<usize, (usize, usize)>;

/// All calls of one connection, one after another; every answer is held against its question.
async fn make_calls(
    mut caller: Caller,
    client: &'static str,
    first: usize,
    calls: usize,
    in_session: bool,
) -> Sizes {
    let mut sizes = Sizes::new();
    for number in (first..calls).step_by(CONNECTIONS) {
        let body = asked(client, number, in_session);
        let answer = caller.ask(&body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let mut said = messages(&answer);
        let last = said.pop().expect("an answer");
        let parsed: Value = serde_json::from_str(&last).expect("JSON");
        assert_eq!(parsed["id"], json!(number), "{client}: {last}");
        let (name, arguments) = (tool(client, number), "x".repeat(number % 97));
        assert_eq!(text_of(&last), format!(r#"{name} {{"of": "{client}", "text": "{arguments}"}}"#));
        for other in said {
            let other: Value = serde_json::from_str(&other).expect("JSON");
            assert_eq!(other["params"]["progressToken"], json!(number), "{client}: {other}");
        }
        sizes.insert(number, (body.len(), last.len()));
    }
    sizes
}

/// Two clients at once on one program, with the same ids and tokens; then every row is held against its call.
async fn interleave(calls: usize, keys: &str, in_session: bool) {
    let program = odd();
    let proxy = Arc::new(Mcpmeter::start(&program.route(keys)));
    let mut tasks = JoinSet::new();
    for client in ["alpha", "beta"] {
        let session = if in_session { Some(Caller::open_session(&proxy, client).await) } else { None };
        for first in 0..CONNECTIONS {
            let caller = match &session {
                Some(session) => session.again(&proxy).await,
                None => Caller::connect(&proxy).await,
            };
            tasks.spawn(async move { (client, make_calls(caller, client, first, calls, in_session).await) });
        }
    }
    let mut sizes: HashMap<&str, Sizes> = HashMap::new();
    while let Some(done) = tasks.join_next().await {
        let (client, more) = done.expect("it got its own answers");
        sizes.entry(client).or_default().extend(more);
    }
    let starts = heard(&program).iter().filter(|message| message["id"] == 1).count();
    assert_eq!(starts, 1, "one program for all");

    let rows = Arc::into_inner(proxy).expect("all tasks have ended").stop().await;
    assert_eq!(rows.len(), 2 * calls);
    for row in &rows {
        let client = row["client_name"].as_str().expect("it has told");
        let number = row["rpc_id"].as_str().and_then(|id| id.parse().ok()).expect("a number");
        let (input, output) = sizes
            .get_mut(client)
            .and_then(|sizes| sizes.remove(&number))
            .expect("a call that has no row yet");
        for (column, value) in [
            ("tool_name", json!(tool(client, number))),
            ("mcp_server_instance_id", json!("inst_7")),
            ("input_bytes", json!(input)),
            ("output_bytes", json!(output)),
            ("status", json!("ok")),
            ("transport_type", json!(STDIO)),
            ("match", json!("exact")),
        ] {
            assert_eq!(row[column], value, "{column}: {row:#}");
        }
    }
    assert!(sizes.values().all(HashMap::is_empty), "every call has a row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_of_two_clients_without_sessions() {
    interleave(CALLS, "", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sessions_that_share_a_program() {
    interleave(CALLS / 5, "isolation = \"shared\"", true).await;
}
