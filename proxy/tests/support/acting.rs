//! Servers that are programs: the same conversation is held with one that the client runs itself, and through the proxy
//! with one that the proxy runs. What the client saw must be the same; every call must be a row.

use crate::support::{
    Mcpmeter,
    conversation::{INSTANCE, ORGANIZATION, USER, assert_same, expected_rows},
    expected_row::{ExpectedRow, assert_rows},
    peer,
    wire_tap::WireTap,
};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;

/// What rows say of a server that is a program, however its clients speak.
pub(crate) const STDIO: &str = "STDIO";

/// A program, with a folder of its own to work on.
pub(crate) struct Program {
    pub(crate) words: Vec<String>,
    pub(crate) folder: TempDir,
}

/// Makes a fresh one.
pub(crate) type Make = fn() -> Program;

impl Program {
    /// One in an empty folder; `$FOLDER` in its words is that.
    pub(crate) fn of(words: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_str().expect("text");
        let words = words.iter().map(|word| word.replace("$FOLDER", path)).collect();
        Self { words, folder }
    }

    /// A script of `peers/`, or of a package that is installed there.
    pub(crate) fn node(script: &str, arguments: &[&str]) -> Self {
        let script = peer::peers().join(script);
        Self::of(&[&["node", script.to_str().expect("text")], arguments].concat())
    }

    /// The one that does as it is told.
    pub(crate) fn odd(arguments: &[&str]) -> Self {
        let script = peer::peers().join("acting_program.py");
        // Without packages it starts at once.
        Self::python(&[&["-S", script.to_str().expect("text")], arguments].concat())
    }

    /// In the environment of the Python SDK 2.x.
    pub(crate) fn python(words: &[&str]) -> Self {
        let python = peer::python("venv");
        Self::of(&[&[python.to_str().expect("text")], words].concat())
    }

    /// With variables that it is to have however it is run.
    pub(crate) fn with_env(mut self, variables: &[&str]) -> Self {
        let folder = self.folder.path().to_str().expect("text");
        let variables = variables.iter().map(|variable| variable.replace("$FOLDER", folder));
        self.words.splice(0..0, ["env".to_owned()].into_iter().chain(variables));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The table of a route to it with an identity, served under `/peer/`; `keys` are further lines.
    pub(crate) fn route(&self, keys: &str) -> String {
        format!(
            "[[route]]\nname = \"peer\"\ncommand = {words}\ninstance_id = \"{INSTANCE}\"\nuser_id = \"{USER}\"\n\
             organization_id = \"{ORGANIZATION}\"\n{keys}\n",
            words = json!(self.words),
        )
    }
}

/// Who talks to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    /// `ts_client.mjs` or `py_client.py`.
    pub(crate) script: &'static str,
    /// `streamable`, `sse`, `modern` or `auto`.
    pub(crate) mode: &'static str,
    /// A name in `programs.json`, or in `conversations.json`.
    pub(crate) conversation: &'static str,
}

/// What came of it.
pub(crate) struct Held {
    /// What the client saw of the program that the proxy runs.
    pub(crate) steps: Vec<Value>,
    pub(crate) rows: Vec<Value>,
    tap: WireTap,
}

const AGENT: &str = "stdio-agent/1.2 (tests; #7)";

impl Talk {
    fn conversation(&self, program: &Program) -> String {
        let all = fs::read_to_string(peer::peers().join("programs.json")).expect("a file");
        let all: Value = serde_json::from_str(&all).expect("JSON");
        match &all[self.conversation] {
            Value::Null => self.conversation.to_owned(),
            found => found.to_string().replace("$FOLDER", program.folder().to_str().expect("text")),
        }
    }

    /// Holds the conversation once.
    pub(crate) async fn hold(&self, url: &str, program: &Program) -> Vec<Value> {
        let conversation = self.conversation(program);
        let arguments = [url, self.mode, "--conversation", &conversation, "--user-agent", AGENT, "--whole"];
        let (as_expected, steps) = peer::converse(self.script, &arguments).await;
        assert!(as_expected, "{self:?} (scripts/setup-tests installs it) at {url}: {steps:#?}");
        steps
    }

    /// Holds it with a program that the client runs.
    pub(crate) async fn hold_directly(&self, make: Make) -> Vec<Value> {
        let program = make();
        let steps = self.hold(&json!(program.words).to_string(), &program).await;
        comparable(&steps, &program)
    }

    /// Holds it with a program that the proxy runs; what the client sees has to be what it saw directly.
    pub(crate) async fn hold_proxied(&self, make: Make, direct: &[Value]) -> Held {
        let program = make();
        let proxy = Mcpmeter::start(&program.route(""));
        let tap = WireTap::start(proxy.proxy.port()).await;
        let path = if self.mode == "sse" { "sse" } else { "mcp" };
        let steps =
            self.hold(&format!("http://127.0.0.1:{port}/peer/{path}", port = tap.port), &program).await;
        assert_same(direct, &comparable(&steps, &program));
        Held { steps, rows: proxy.stop().await, tap }
    }

    /// Both.
    pub(crate) async fn hold_twice(&self, make: Make) -> Held {
        let direct = self.hold_directly(make).await;
        self.hold_proxied(make, &direct).await
    }

    /// The row of an answered `tools/list` of this client, the identity of the route included.
    pub(crate) fn row(&self, protocol: &str) -> ExpectedRow {
        let session = match self.mode {
            "sse" => Some("the announced endpoint"),
            _ if protocol == "2026-07-28" => None,
            _ => Some("the only"),
        };
        let name = if self.script.starts_with("ts") { "ts-peer" } else { "py-peer" };
        ExpectedRow {
            user_id: Some(USER.into()),
            organization_id: Some(ORGANIZATION.into()),
            transport_type: STDIO,
            client_transport: if self.mode == "sse" { "SSE" } else { "STREAMABLE_HTTPS" },
            protocol_version: Some(protocol.into()),
            user_agent: Some(AGENT.into()),
            client_name: Some(name.into()),
            client_version: Some("1.0.0".into()),
            session,
            ..ExpectedRow::of_instance(INSTANCE)
        }
    }

    /// The id of the client's first call.
    fn first_id(&self, protocol: &str) -> u64 {
        match (self.script, self.mode, protocol) {
            ("ts_client.mjs", _, "2026-07-28") => 0,
            ("ts_client.mjs", ..) => 1,
            (_, "modern", _) => 1,
            (_, "auto", "2025-11-25") => 3,
            _ => 2,
        }
    }
}

/// Without what differs from run to run: the folder, and times.
fn comparable(steps: &[Value], program: &Program) -> Vec<Value> {
    let folder = program.folder().to_str().expect("text");
    let text = json!(steps).to_string().replace(folder, "$FOLDER");
    let mut steps: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    for step in &mut steps {
        let tells_time =
            ["get_file_info", "get_current_time", "convert_time"].iter().any(|tool| step["tool"] == *tool);
        if tells_time {
            let masked = step.to_string().replace(|letter: char| letter.is_ascii_digit(), "0");
            *step = serde_json::from_str(&masked).expect("JSON");
        }
        if step["tool"] == "get-resource-reference" {
            step["whole"]["content"][1]["resource"]["blob"] = Value::Null;
        }
        // A task has a number of its own.
        if step["step"] == "task" {
            step["whole"]["_meta"] = Value::Null;
        }
    }
    steps
}

impl Held {
    /// The rows are the conversation's calls as the client saw them, in its order, each with all its columns and with the
    /// bytes that were counted between client and proxy.
    pub(crate) fn assert_recorded(&self, talk: Talk, protocol: &str) {
        assert_eq!(self.steps[0]["protocol"], *protocol);
        let mut expected = expected_rows(&self.steps, &talk.row(protocol), talk.first_id(protocol));
        let calls = self.steps.iter().filter(|step| step["step"] == "list" || step["step"] == "call");
        for (row, (seen, expected)) in self.rows.iter().zip(calls.zip(&mut expected)) {
            expected.framing = framing(talk, seen, row);
        }
        assert_rows(&self.rows, &expected);
        let (calls, answers) = (self.tap.calls(), self.tap.answers());
        assert_eq!(self.rows.len(), calls.len(), "calls on the wire: {calls:?}");
        for row in &self.rows {
            let id = row["rpc_id"].as_str().expect("every client of these writes ids");
            assert_eq!(row["input_bytes"].as_u64(), Some(calls[id] as u64), "{row:#}");
            assert_eq!(row["output_bytes"].as_u64(), Some(answers[id] as u64), "{row:#}");
        }
    }
}

/// In plain JSON, unless something was said before the answer.
fn framing(talk: Talk, seen: &Value, row: &Value) -> Option<&'static str> {
    let asks = ["trigger-elicitation-request", "trigger-url-elicitation", "trigger-sampling-request"];
    if talk.mode == "sse"
        || seen["progress"].as_u64() > Some(0)
        || asks.iter().any(|tool| seen["tool"] == *tool)
    {
        return Some("sse");
    }
    // Of its own accord, the demo server asks for roots, and logs.
    if talk.conversation == "everything" && row["framing"] == "sse" { Some("sse") } else { Some("json") }
}
