//! One conversation of real peers, held twice: with the server directly, and through the proxy. What the client
//! saw must be the same; what the proxy wrote down is held against what the client saw and what was on the wire.

use crate::support::{
    Mcpmeter,
    expected_row::{ExpectedRow, assert_rows},
    peer,
    rmcp_client::{self, Era},
    wire_tap::WireTap,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of the route.
pub(crate) const INSTANCE: &str = "inst_7";
pub(crate) const USER: &str = "u_7";
pub(crate) const ORGANIZATION: &str = "org_7";

/// Who talks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// A client in `peers/`.
    Script {
        /// `ts_client.mjs` or `py_client.py`.
        script: &'static str,
        /// `streamable`, `sse`, `modern` or `auto`.
        mode: &'static str,
        /// A name in `conversations.json`.
        conversation: &'static str,
        /// Further arguments, such as `--user-agent`.
        arguments: &'static [&'static str],
    },
    /// rmcp's client, with the headers it shall send.
    Rmcp(Era, &'static [(&'static str, &'static str)]),
}

/// What came of a conversation through the proxy.
pub(crate) struct Held {
    /// What the client saw, directly as through the proxy.
    pub(crate) steps: Vec<Value>,
    /// What the proxy stored.
    pub(crate) rows: Vec<Value>,
    calls: BTreeMap<String, usize>,
    answers: BTreeMap<String, usize>,
}

/// The table of a route with an identity, served under `/peer/`.
pub(crate) fn route(port: u16) -> String {
    format!(
        "[[route]]\nname = \"peer\"\nupstream = \"http://127.0.0.1:{port}\"\ninstance_id = \"{INSTANCE}\"\n\
         user_id = \"{USER}\"\norganization_id = \"{ORGANIZATION}\"\n"
    )
}

/// The row of an answered `tools/list` on such a route, by a client that told nothing about itself.
pub(crate) fn on_route() -> ExpectedRow {
    ExpectedRow {
        user_id: Some(USER.into()),
        organization_id: Some(ORGANIZATION.into()),
        ..ExpectedRow::of_instance(INSTANCE)
    }
}

/// Holds the conversation with the server's `path` directly, and then through a proxy of its own.
pub(crate) async fn hold_twice(server: u16, path: &str, client: Client) -> Held {
    let direct = hold(&format!("http://127.0.0.1:{server}{path}"), client).await;
    let tap = WireTap::start(server).await;
    let proxy = Mcpmeter::start(&route(tap.port));
    let steps = hold(&proxy.url(&format!("/peer{path}")), client).await;
    assert_same(&direct, &steps);
    Held { steps, rows: proxy.stop().await, calls: tap.calls(), answers: tap.answers() }
}

/// Holds the conversation once; every answer has to be one that the conversation allows.
pub(crate) async fn hold(url: &str, client: Client) -> Vec<Value> {
    match client {
        Client::Script { script, mode, conversation, arguments } => {
            let arguments = [&[url, mode, "--conversation", conversation], arguments].concat();
            let (as_expected, steps) = peer::converse(script, &arguments).await;
            assert!(as_expected, "{client:?} (scripts/setup-tests installs it) at {url}: {steps:#?}");
            steps
        }
        Client::Rmcp(era, headers) => {
            let seen = rmcp_client::converse(url, era, "fixture", headers).await;
            let mut steps = vec![json!({ "step": "connect", "protocol": seen.protocol })];
            steps.push(json!({ "step": "list", "tools": seen.tools }));
            for call in seen.calls {
                let mut step = json!(call);
                step["step"] = "call".into();
                steps.push(step);
            }
            steps
        }
    }
}

/// Step by step the same. The SDKs in other languages may drop a progress notification that arrives together
/// with the answer, so one more or less is no difference.
pub(crate) fn assert_same(direct: &[Value], proxied: &[Value]) {
    let without_progress = |steps: &[Value]| -> Vec<Value> {
        let mut steps = steps.to_vec();
        steps.iter_mut().filter_map(Value::as_object_mut).for_each(|step| drop(step.remove("progress")));
        steps
    };
    for (direct, proxied) in without_progress(direct).iter().zip(without_progress(proxied)) {
        assert_eq!(proxied, *direct, "through the proxy as directly");
    }
    assert_eq!(proxied.len(), direct.len(), "as many steps as directly");
    let progress = |step: &Value| step["progress"].as_u64().unwrap_or(0);
    for (direct, proxied) in direct.iter().zip(proxied) {
        assert!(progress(direct).abs_diff(progress(proxied)) <= 1, "{direct} directly, {proxied} proxied");
    }
}

impl Held {
    /// The protocol revision that the client says was agreed on.
    pub(crate) fn protocol(&self) -> &Value {
        &self.steps[0]["protocol"]
    }

    /// The rows are the conversation's calls as the client saw them, in its order, and every one of them has all
    /// its columns right. `common` is the row of an answered `tools/list`; ids count up from `first_id`; `adjust`
    /// says what else distinguishes a row.
    pub(crate) fn assert_recorded(&self, common: &ExpectedRow, first_id: u64, adjust: fn(&mut ExpectedRow)) {
        let mut expected = expected_rows(&self.steps, common, first_id);
        expected.iter_mut().for_each(adjust);
        assert_rows(&self.rows, &expected);
        self.assert_bytes_on_the_wire();
    }

    /// As many rows as there were calls, each with the bytes that were counted between proxy and server.
    pub(crate) fn assert_bytes_on_the_wire(&self) {
        assert_eq!(self.rows.len(), self.calls.len(), "calls on the wire: {:?}", self.calls);
        for row in &self.rows {
            let id = row["rpc_id"].as_str().expect("every client of these writes ids");
            assert_eq!(row["input_bytes"].as_u64(), Some(self.calls[id] as u64), "{row:#}");
            assert_eq!(row["output_bytes"].as_u64(), Some(self.answers[id] as u64), "{row:#}");
        }
    }
}

/// The rows of what a client saw, as [`Held::assert_recorded`] has it.
pub(crate) fn expected_rows(steps: &[Value], common: &ExpectedRow, first_id: u64) -> Vec<ExpectedRow> {
    let calls = steps.iter().filter(|step| step["step"] == "list" || step["step"] == "call");
    let row =
        |(step, id): (_, u64)| ExpectedRow { rpc_id: Some(id.to_string()), ..expected_row(step, common) };
    calls.zip(first_id..).map(row).collect()
}

fn expected_row(step: &Value, common: &ExpectedRow) -> ExpectedRow {
    if step["step"] == "list" {
        return ExpectedRow { tool_count: step["tools"].as_array().map(Vec::len), ..common.clone() };
    }
    let text = |key: &str| step[key].as_str().unwrap_or_else(|| panic!("no {key}: {step}")).to_owned();
    let call = common.call(&text("tool"));
    match step["outcome"].as_str() {
        Some("tool_error") => call.failed("tool_error", "upstream", None, &text("text")),
        Some("rpc_error") => {
            let (code, message) = (step["code"].to_string(), text("message"));
            assert_eq!(code, "-32602", "all that these servers complain of is a tool that they do not have");
            // The TypeScript SDK 1.x puts the code in front of what the server said.
            let said = message.strip_prefix(&format!("MCP error {code}: ")).unwrap_or(&message);
            call.failed("rpc_error", "client", Some(&code), said)
        }
        _ => call,
    }
}
