//! A server that answers a call with what its arguments ask for, and a client that says exactly what a test
//! wants: for what no SDK does on demand, and for sizes that are known to the byte. Both are hyper's.
//!
//! `arguments` may have `answer` (the message's `result` or `error`), `size` (bytes of text behind the tool's
//! name), `sse` (a progress notification, then the answer, as events), `http` (a status without JSON-RPC).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A running server; it ends when dropped.
pub(crate) struct ObedientServer {
    /// Where it listens.
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

impl ObedientServer {
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
            let connection =
                server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(serve));
            // A peer that hangs up is its own business.
            let _: Result<(), hyper::Error> = connection.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).expect("the tests send JSON");
    let wishes = &asked["params"]["arguments"];
    if let Some(status) = wishes["http"].as_u64() {
        let mut refusal = response("text/plain", "as you wish".to_owned());
        *refusal.status_mut() =
            u16::try_from(status).ok().and_then(|code| code.try_into().ok()).expect("a status");
        return Ok(refusal);
    }
    if let Some(batch) = asked.as_array() {
        let answers: Vec<_> =
            batch.iter().filter(|message| message.get("id").is_some()).map(answer).collect();
        return Ok(response("application/json", json!(answers).to_string()));
    }
    let answer = answer(&asked);
    if wishes["sse"] == true {
        let progress =
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progress": 1 } });
        return Ok(response("text/event-stream", format!("data: {progress}\n\ndata: {answer}\n\n")));
    }
    Ok(response("application/json", answer.to_string()))
}

fn response(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder().header(header::CONTENT_TYPE, content_type);
    response.body(Full::from(body)).expect("a valid response")
}

/// The answer to one request.
pub(crate) fn answer(request: &Value) -> Value {
    let mut answer = json!({ "jsonrpc": "2.0", "id": request["id"] });
    let (name, wishes) = (&request["params"]["name"], &request["params"]["arguments"]);
    if let Some(wanted) = wishes["answer"].as_object() {
        answer.as_object_mut().expect("an object").extend(wanted.clone());
    } else if let Some(tool) = name.as_str() {
        let size = wishes["size"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let text = format!("{tool}{}", "x".repeat(size));
        answer["result"] = json!({ "content": [{ "type": "text", "text": text }] });
    } else {
        answer["result"] = json!({ "tools": [{ "name": "a" }, { "name": "b" }] });
    }
    answer
}

/// One connection of a client that adds nothing to what it is told to send.
pub(crate) struct PlainClient {
    sender: client::conn::http1::SendRequest<Full<Bytes>>,
    host: HeaderValue,
    _connection: JoinSet<()>,
}

impl PlainClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("accepted");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        let (sender, connection) =
            client::conn::http1::handshake(TokioIo::new(stream)).await.expect("always succeeds");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _: Result<(), hyper::Error> = connection.await;
        });
        let host = HeaderValue::try_from(address.to_string()).expect("an authority");
        Self { sender, host, _connection: tasks }
    }

    /// Sends the body with these headers and no others but the inevitable; gives status and body.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: String,
    ) -> (u16, Bytes) {
        let mut request = Request::post(path).body(Full::from(body)).expect("a valid request");
        let given = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
        });
        request.headers_mut().extend(given);
        request.headers_mut().insert(header::HOST, self.host.clone());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = self.sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("a whole body").to_bytes())
    }
}
