//! A real MCP server for tests: rmcp's Streamable HTTP service on a free loopback port, every revision it
//! speaks on one URL. It has the same four tools as the Python and TypeScript servers in `peers/`.
//! Never imitates a quirk: what it puts on the wire is what rmcp puts there.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, ProgressNotificationParam, RequestMetaObject};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Pause between two progress notifications of `slow`: long enough that they are separate writes.
const STEP: Duration = Duration::from_millis(20);

/// How the server answers. The 2026-07-28 revision has no sessions, whatever `sessions` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RmcpServerOptions {
    /// Plain JSON answers instead of SSE. rmcp honours it only without `sessions`, or at 2026-07-28, and
    /// still answers `slow` with SSE, because progress has to go somewhere.
    pub(crate) json_response: bool,
    /// Give every `initialize` an `Mcp-Session-Id`, keep the session, and prime its streams with event ids.
    pub(crate) sessions: bool,
}

impl Default for RmcpServerOptions {
    fn default() -> Self {
        Self { json_response: false, sessions: true }
    }
}

/// A running server. Dropping it closes its sessions, its connections and its port, a moment later.
pub(crate) struct RmcpServer {
    address: SocketAddr,
    config: StreamableHttpServerConfig,
    tasks: JoinSet<()>,
}

impl RmcpServer {
    /// Starts the server on a free port of 127.0.0.1; it accepts connections when this returns.
    pub(crate) async fn start(options: RmcpServerOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback always has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let config = StreamableHttpServerConfig::default()
            .with_json_response(options.json_response)
            .with_legacy_session_mode(options.sessions);
        let service = StreamableHttpService::new(|| Ok(FourTools), Default::default(), config.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, service));
        Self { address, config, tasks }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes everything, as dropping does; when this returns, the port refuses connections.
    pub(crate) async fn stop(mut self) {
        self.config.cancellation_token.cancel();
        self.tasks.shutdown().await;
    }
}

impl Drop for RmcpServer {
    fn drop(&mut self) {
        self.config.cancellation_token.cancel();
    }
}

/// Serves connections until it is aborted; the inner set then takes every connection with it.
async fn accept(listener: TcpListener, service: StreamableHttpService<FourTools, LocalSessionManager>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let service = TowerToHyperService::new(service.clone());
        connections.spawn(async move {
            stream.set_nodelay(true).expect("a fresh TCP socket takes options");
            // A client that hangs up is its own business: tests do it on purpose.
            let _: Result<(), hyper::Error> = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Addends {
    a: i64,
    b: i64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Text {
    text: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Steps {
    steps: u32,
}

#[derive(Clone)]
struct FourTools;

#[tool_router]
impl FourTools {
    #[tool(description = "The sum of two numbers")]
    fn add(&self, Parameters(Addends { a, b }): Parameters<Addends>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "The text it was given")]
    fn echo(&self, Parameters(Text { text }): Parameters<Text>) -> String {
        text
    }

    #[tool(description = "Always a tool error")]
    fn fail(&self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text("this tool always fails")])
    }

    #[tool(description = "Takes a while and reports progress")]
    async fn slow(
        &self,
        Parameters(Steps { steps }): Parameters<Steps>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<String, ErrorData> {
        for step in 1..=steps {
            tokio::time::sleep(STEP).await;
            let Some(token) = meta.get_progress_token() else { continue };
            let progress =
                ProgressNotificationParam::new(token, f64::from(step)).with_total(f64::from(steps));
            client
                .notify_progress(progress)
                .await
                .map_err(|e| ErrorData::internal_error(e.to_string(), None))?;
        }
        Ok(format!("done after {steps} steps"))
    }
}

#[tool_handler]
impl ServerHandler for FourTools {}
