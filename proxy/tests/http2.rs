//! Clients that speak HTTP/2 without TLS, by prior knowledge, in front of upstreams that speak HTTP/1.1.

use crate::{
    message::{LAST_CHUNK, SSE_HEAD, call, chunk, json_answer, result},
    raw::Upstream,
    support::Mcpmeter,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::{Duration, Instant};
use tokio::{net::TcpStream, task::JoinSet};

/// One connection, driven by a task that ends with it.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    _connection: JoinSet<hyper::Result<()>>,
}

impl Client {
    async fn connect(proxy: &Mcpmeter) -> Self {
        let stream = TcpStream::connect(proxy.proxy).await.expect("accepted");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("HTTP/2");
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Self { sender, _connection: tasks }
    }

    fn post(&self, id: u64) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + 'static {
        let request = Request::post("http://localhost/a/mcp")
            .header("content-type", "application/json")
            .header("Mcp-Session-Id", "S")
            .body(Full::new(Bytes::from(call(id, "add"))))
            .expect("valid");
        self.sender.clone().send_request(request)
    }
}

async fn next_data(response: &mut Response<Incoming>) -> Bytes {
    let frame = response.body_mut().frame().await.expect("not over").expect("not broken");
    frame.into_data().expect("data")
}

#[tokio::test]
async fn events_flow_to_it_and_hop_by_hop_headers_do_not() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let client = Client::connect(&proxy).await;
    let serve = async {
        let mut server = upstream.accept().await;
        let request = server.read_request().await;
        assert_eq!(request.start_line(), "POST /mcp HTTP/1.1");
        assert_eq!(request.header("host"), Some(upstream.address.to_string()));
        assert_eq!(request.header("mcp-session-id").as_deref(), Some("S"));
        assert_eq!(request.text(), call(1, "add"));
        // Illegal on HTTP/2, and what Node's and Python's servers send.
        server
            .send(SSE_HEAD.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n"))
            .await;
        server
    };
    let (response, mut server) = tokio::join!(client.post(1), serve);
    let mut response = response.expect("answered");
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("connection") && !response.headers().contains_key("keep-alive"));
    for event in [": soon\n\n".to_owned(), format!("data: {}\n\n", result(1))] {
        server.send(chunk(&event)).await;
        assert_eq!(next_data(&mut response).await, event);
    }
    server.send(LAST_CHUNK).await;
    let rest = response.into_body().collect().await.expect("a clean end").to_bytes();
    assert_eq!(rest, "");
    let rows = proxy.stop().await;
    assert_eq!(rows.iter().map(|row| row["status"].as_str()).collect::<Vec<_>>(), [Some("ok")]);
}

#[tokio::test]
async fn its_calls_on_one_connection_do_not_wait_for_each_other() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let client = Client::connect(&proxy).await;
    let mut waiting: JoinSet<_> = [1, 2]
        .into_iter()
        .map(|id| {
            let answer = client.post(id);
            async move {
                answer.await.expect("answered").into_body().collect().await.expect("complete").to_bytes()
            }
        })
        .collect();
    let (mut first, mut second) = (upstream.accept().await, upstream.accept().await);
    // Whichever came first: each is answered with its own id, the later one first.
    for server in [&mut second, &mut first] {
        let request: serde_json::Value =
            serde_json::from_slice(&server.read_request().await.body).expect("JSON");
        let answer = result(request["id"].as_u64().expect("an id"));
        server.send(json_answer(&answer)).await;
        assert_eq!(waiting.join_next().await.expect("one waits").expect("it ends"), answer);
    }
    assert_eq!(proxy.stop().await.len(), 2);
}

#[tokio::test]
async fn a_stream_that_it_cancels_ends_the_upstream_call_at_once_and_no_other() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let client = Client::connect(&proxy).await;
    let begin = async {
        let mut server = upstream.accept().await;
        server.read_request().await;
        server.send(SSE_HEAD).await;
        server
    };
    let (cancelled, mut of_cancelled) = tokio::join!(client.post(1), begin);
    let begin = async {
        let mut server = upstream.accept().await;
        server.read_request().await;
        server.send(SSE_HEAD).await;
        server
    };
    let (kept, mut of_kept) = tokio::join!(client.post(2), begin);
    let left = Instant::now();
    drop(cancelled.expect("answered"));
    of_cancelled.gone().await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    let answer = format!("data: {}\n\n", result(2));
    of_kept.send([chunk(&answer), LAST_CHUNK.into()].concat()).await;
    let body = kept.expect("answered").into_body().collect().await.expect("complete").to_bytes();
    assert_eq!(body, answer);
    let mut told: Vec<_> =
        proxy.stop().await.iter().map(|row| row["status"].as_str().map(str::to_owned)).collect();
    told.sort();
    assert_eq!(told, [Some("cancelled".to_owned()), Some("ok".to_owned())]);
}

#[tokio::test]
async fn an_upstream_that_dies_mid_stream_is_a_reset_of_that_stream() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let client = Client::connect(&proxy).await;
    let begin = async {
        let mut server = upstream.accept().await;
        server.read_request().await;
        server.send([SSE_HEAD.as_bytes(), &chunk("data: {\"half\":")].concat()).await;
    };
    let (response, ()) = tokio::join!(client.post(1), begin);
    response.expect("answered").into_body().collect().await.expect_err("no clean end");
    let rows = proxy.stop().await;
    assert_eq!(rows.iter().map(|row| row["status_detail"].as_str()).collect::<Vec<_>>(), [Some("aborted")]);
}
