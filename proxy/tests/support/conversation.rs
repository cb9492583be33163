//! One conversation of real peers, held twice: with the server directly, and through the proxy. What the client
//! saw must be the same; what the proxy wrote down is compared with what the client saw.

use crate::support::{
    Mcpmeter,
    expected_row::ExpectedRow,
    peer::{self, PeerServer},
};
use serde_json::Value;

/// The instance, user and organisation of the routes that [`route`] makes.
pub(crate) const INSTANCE: &str = "inst_7";
/// See [`INSTANCE`].
pub(crate) const USER: &str = "u_7";
/// See [`INSTANCE`].
pub(crate) const ORGANIZATION: &str = "org_7";

/// Who talks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// `ts_client.mjs` or `py_client.py`.
    pub(crate) script: &'static str,
    /// `streamable`, `sse`, `modern` or `auto`.
    pub(crate) mode: &'static str,
    /// A name in `conversations.json`.
    pub(crate) conversation: &'static str,
    /// Further arguments, such as `--user-agent`.
    pub(crate) arguments: &'static [&'static str],
}

/// What came of a conversation.
pub(crate) struct Held {
    /// What the client saw, directly as through the proxy.
    pub(crate) steps: Vec<Value>,
    /// What the proxy stored.
    pub(crate) rows: Vec<Value>,
}

/// The table of a route with an identity, served under `/peer/`.
pub(crate) fn route(port: u16) -> String {
    format!(
        "[[route]]\nname = \"peer\"\nupstream = \"http://127.0.0.1:{port}\"\ninstance_id = \"{INSTANCE}\"\n\
         user_id = \"{USER}\"\norganization_id = \"{ORGANIZATION}\"\n"
    )
}

/// The row of an answered `tools/list` on such a route.
pub(crate) fn expected() -> ExpectedRow {
    ExpectedRow {
        user_id: Some(USER.into()),
        organization_id: Some(ORGANIZATION.into()),
        ..ExpectedRow::of_instance(INSTANCE)
    }
}

/// Holds the conversation with the server's `path` directly, and then through a proxy of its own.
pub(crate) async fn hold_twice(server: &PeerServer, path: &str, client: Client) -> Held {
    let direct = hold(&format!("http://127.0.0.1:{}{path}", server.port), client).await;
    let proxy = Mcpmeter::start(&route(server.port));
    let proxied = hold(&proxy.url(&format!("/peer{path}")), client).await;
    assert_same(&direct, &proxied);
    Held { steps: proxied, rows: proxy.stop().await }
}

/// Holds the conversation once; every answer has to be one that the conversation allows.
pub(crate) async fn hold(url: &str, client: Client) -> Vec<Value> {
    let mut arguments = vec![url, client.mode, "--conversation", client.conversation];
    arguments.extend(client.arguments);
    let (as_expected, steps) = peer::converse(client.script, &arguments).await;
    assert!(as_expected, "{client:?} at {url}: {steps:#?} (scripts/setup-tests installs the peers)");
    steps
}

/// Step by step the same. The SDKs may drop a progress notification that arrives together with the answer, so one
/// more or less is no difference.
fn assert_same(direct: &[Value], proxied: &[Value]) {
    let without_progress = |steps: &[Value]| -> Vec<Value> {
        let mut steps = steps.to_vec();
        steps.iter_mut().filter_map(Value::as_object_mut).for_each(|step| drop(step.remove("progress")));
        steps
    };
    assert_eq!(without_progress(proxied), without_progress(direct), "through the proxy as directly");
    let progress = |step: &Value| step["progress"].as_u64().unwrap_or(0);
    for (direct, proxied) in direct.iter().zip(proxied) {
        assert!(progress(direct).abs_diff(progress(proxied)) <= 1, "{direct} directly, {proxied} proxied");
    }
}

/// The rows of a conversation in which every request is answered as the client saw it. `common` is the row of an
/// answered `tools/list`; JSON-RPC ids count up from `first_id`.
pub(crate) fn expected_rows(steps: &[Value], common: &ExpectedRow, first_id: u64) -> Vec<ExpectedRow> {
    let calls = steps.iter().filter(|step| step["step"] == "list" || step["step"] == "call");
    let row = |(step, id): (&Value, u64)| ExpectedRow { rpc_id: Some(id.to_string()), ..expected_row(step, common) };
    calls.zip(first_id..).map(row).collect()
}

fn expected_row(step: &Value, common: &ExpectedRow) -> ExpectedRow {
    if step["step"] == "list" {
        let tools = step["tools"].as_array().map(Vec::len);
        return ExpectedRow { tool_count: tools, ..common.clone() };
    }
    let text = |key: &str| step[key].as_str().unwrap_or_else(|| panic!("no {key}: {step}")).to_owned();
    let call = ExpectedRow { status: text("outcome"), ..common.call(&text("tool")) };
    match step["outcome"].as_str() {
        Some("tool_error") => {
            ExpectedRow { origin: Some("upstream".into()), error_message: Some(text("text")), ..call }
        }
        Some("rpc_error") => {
            let (code, message) = (step["code"].to_string(), text("message"));
            // The TypeScript SDK 1.x puts the code in front of what the server said.
            let said = message.strip_prefix(&format!("MCP error {code}: ")).unwrap_or(&message).to_owned();
            // -32602 and -32601: the request was at fault.
            let origin = if matches!(&*code, "-32602" | "-32601") { "client" } else { "upstream" };
            ExpectedRow { origin: Some(origin.into()), error_code: Some(code), error_message: Some(said), ..call }
        }
        _ => call,
    }
}
