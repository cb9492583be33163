//! A real MCP client for tests: rmcp over Streamable HTTP. It holds one of the conversations in
//! `peers/conversations.json` and writes down what it saw, in the words the other clients in `peers/` use.
//! Never judges more than the conversation says: comparing transcripts and records is the test's work.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientConfig, Implementation, ProgressNotificationParam,
    ProtocolVersion,
};
use rmcp::service::{
    ClientLifecycleMode, NotificationContext, RunningService, ServiceError, serve_client_with_lifecycle,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, RoleClient};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Progress notifications and answers are handled by different tasks of rmcp, so a count taken when the
/// answer arrives may be short. After this long, what is missing was never sent.
const PROGRESS_WAIT: Duration = Duration::from_secs(1);

/// How the client opens the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// `initialize`: revisions up to 2025-11-25.
    Initialize,
    /// `server/discover`: 2026-07-28 and nothing else.
    Discover,
    /// Tries `Discover`, falls back to `Initialize`.
    Auto,
}

impl From<Era> for ClientLifecycleMode {
    fn from(era: Era) -> Self {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        match era {
            Era::Initialize => Self::Initialize,
            Era::Discover => Self::Discover { preferred_versions },
            Era::Auto => Self::Auto { preferred_versions, legacy_version: None },
        }
    }
}

/// What the client saw: one step per line of what the other clients print.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Transcript {
    /// The revision both sides agreed on, such as `2025-11-25`.
    pub(crate) protocol: String,
    /// Names from `tools/list`, in the server's order.
    pub(crate) tools: Vec<String>,
    /// The calls, in the conversation's order.
    pub(crate) calls: Vec<Call>,
}

/// One `tools/call` as the client saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Call {
    /// The tool that was asked for.
    pub(crate) tool: String,
    /// How it ended.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// Progress notifications that arrived.
    pub(crate) progress: usize,
}

/// How a call ended for the client. The names are those of a record's `status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// A result.
    Ok {
        /// The text parts of its content, joined.
        text: String,
    },
    /// A result with `isError`.
    ToolError {
        /// The text parts of its content, joined.
        text: String,
    },
    /// A JSON-RPC error.
    RpcError {
        /// The JSON-RPC error code.
        code: i32,
        /// Its message.
        message: String,
    },
}

impl Outcome {
    /// The word for it in `peers/conversations.json`.
    fn name(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::ToolError { .. } => "tool_error",
            Self::RpcError { .. } => "rpc_error",
        }
    }
}

/// Holds the named conversation, sending `headers` (a `user-agent`, an `authorization`) with every request.
/// Panics when an answer is not what `peers/conversations.json` expects.
pub(crate) async fn converse(
    url: &str,
    era: Era,
    conversation: &str,
    headers: &[(&str, &str)],
) -> Transcript {
    let expected = Conversation::named(conversation);
    let (client, mut progress) = connect(url, era, headers).await;
    let info = client.peer().peer_info().expect("a connected client knows its server");
    let protocol = info.protocol_version.to_string();
    let listed = client.peer().list_all_tools().await.expect("tools/list is answered");
    let tools: Vec<String> = listed.into_iter().map(|tool| tool.name.into_owned()).collect();
    for tool in &expected.tools {
        assert!(tools.contains(tool), "tools/list has no {tool}: {tools:?}");
    }
    let mut calls = Vec::new();
    for call in expected.calls {
        calls.push(call.make(&client, &mut progress).await);
    }
    client.cancel().await.expect("the client's task ends without a panic");
    Transcript { protocol, tools, calls }
}

/// Opens a conversation, to be gone on with by hand. The receiver counts progress notifications over the client's
/// whole life.
pub(crate) async fn connect(
    url: &str,
    era: Era,
    headers: &[(&str, &str)],
) -> (RunningService<RoleClient, Counting>, watch::Receiver<usize>) {
    let headers: HashMap<HeaderName, HeaderValue> = headers
        .iter()
        .map(|(name, value)| (name.parse().expect("a header name"), value.parse().expect("a header value")))
        .collect();
    let config = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(headers);
    let transport = StreamableHttpClientTransport::from_config(config);
    let (count, progress) = watch::channel(0);
    let client = serve_client_with_lifecycle(Counting(count), transport, era.into())
        .await
        .expect("the server accepts the conversation");
    (client, progress)
}

/// Counts the progress notifications it is sent.
pub(crate) struct Counting(watch::Sender<usize>);

impl ClientHandler for Counting {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(Default::default(), Implementation::new("rmcp-peer", "1.0.0"))
    }

    async fn on_progress(&self, _: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// One entry of `peers/conversations.json`.
#[derive(Deserialize)]
struct Conversation {
    tools: Vec<String>,
    calls: Vec<ExpectedCall>,
}

impl Conversation {
    fn named(name: &str) -> Self {
        let mut all: HashMap<String, Self> =
            serde_json::from_str(include_str!("../peers/conversations.json"))
                .expect("peers/conversations.json holds conversations");
        all.remove(name).unwrap_or_else(|| panic!("peers/conversations.json has no {name}"))
    }
}

/// A call to make, and what may come of it.
#[derive(Deserialize)]
struct ExpectedCall {
    tool: String,
    arguments: rmcp::model::JsonObject,
    outcomes: Vec<String>,
    text: Option<String>,
    #[serde(default)]
    progress: usize,
}

impl ExpectedCall {
    async fn make(
        self,
        client: &RunningService<RoleClient, Counting>,
        progress: &mut watch::Receiver<usize>,
    ) -> Call {
        let before = *progress.borrow_and_update();
        let params = CallToolRequestParams::new(self.tool.clone()).with_arguments(self.arguments);
        let outcome = match client.peer().call_tool(params).await {
            Ok(result) => outcome_of(&result),
            Err(ServiceError::McpError(error)) => {
                Outcome::RpcError { code: error.code.0, message: error.message.into_owned() }
            }
            Err(error) => panic!("{} got no answer: {error}", self.tool),
        };
        assert!(self.outcomes.iter().any(|name| name == outcome.name()), "{}: {outcome:?}", self.tool);
        if let (Some(wanted), Outcome::Ok { text } | Outcome::ToolError { text }) = (&self.text, &outcome) {
            assert_eq!(text, wanted, "text of {}", self.tool);
        }
        let wanted = before + self.progress;
        // Too few is not this client's verdict: a server in JSON mode may rightly send none.
        let _ = tokio::time::timeout(PROGRESS_WAIT, progress.wait_for(|count| *count >= wanted)).await;
        let progress = *progress.borrow_and_update() - before;
        Call { tool: self.tool, outcome, progress }
    }
}

fn outcome_of(result: &CallToolResult) -> Outcome {
    let text =
        result.content.iter().filter_map(|block| block.as_text()).map(|part| part.text.as_str()).collect();
    if result.is_error == Some(true) { Outcome::ToolError { text } } else { Outcome::Ok { text } }
}
