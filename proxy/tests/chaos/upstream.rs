//! The MCP server behind the proxy: answers every call over Streamable HTTP with JSON, at once. A call may ask for
//! an answer that no database likes.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

/// A running server; it ends when dropped.
pub(crate) struct McpServer {
    /// Where it listens.
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

impl McpServer {
    /// Starts it on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener));
        Self { port, _tasks: tasks }
    }
}

async fn accept(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a fresh socket takes options");
        connections.spawn(async move {
            // A peer that hangs up, or is killed, is its own business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(serve)).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let answer = answer(&String::from_utf8_lossy(&body));
    let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
    Ok(response.body(Full::from(answer)).expect("a valid response"))
}

/// What is answered to a message. By hand: no JSON library reads or writes what the poisonous calls contain.
fn answer(message: &str) -> String {
    let id: String = message
        .split_once("\"id\":")
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
        .expect("the callers number their calls");
    let asked = message.split_once("\"answer\":\"").and_then(|(_, rest)| rest.split('"').next());
    let error = |message: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"{message}","data":"{message}"}}}}"#
        )
    };
    match asked {
        None => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#),
        Some("nul") => error(r"a\u0000b"),
        Some("raw nul") => error("a\0b"),
        Some("surrogate") => error(r"a\ud800b"),
        Some("large record") => error(&"many words ".repeat(2_000)),
        Some("20 MB") => error(&"x".repeat(20_000_000)),
        Some(other) => panic!("nobody taught the server to answer with {other}"),
    }
}
