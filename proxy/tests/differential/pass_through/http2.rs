//! Pass-through from HTTP/2: a client by prior knowledge in front of a server that speaks HTTP/1.1 sees the body that a
//! client of HTTP/1.1 sees without the program. Its own framing cannot be compared with anything, so hyper speaks it.

use crate::{
    bench::{self, Case},
    inbox::Message,
    program::Program,
    script::{client, upstream},
    server::Server,
    stage::Party,
    wire::{LAST_CHUNK, SSE_HEAD, call, chunk, notification, post, result},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use tokio::{net::TcpStream, sync::Notify, task::JoinSet};

/// What is illegal on HTTP/2, and what Node's and Python's servers send.
const HOP: &str = "\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n";

fn events() -> [String; 3] {
    let progress = notification("notifications/progress", "{}");
    [": soon\r\n\r\n".into(), format!("data: {progress}\n\n"), format!("id: 1\ndata: {}\n\n", result("1"))]
}

async fn take(server: &Server, news: &Notify) -> Party {
    loop {
        let more = news.notified();
        if let Some(taken) = server.take(b"", true) {
            return taken;
        }
        more.await;
    }
}

/// What the server receives and the client sees with HTTP/2 between the client and the program.
async fn carry_http2(head: &str) -> (Message, http::HeaderMap, Vec<u8>) {
    let (socket, address) = bench::bind();
    let news = Arc::new(Notify::new());
    let mut server = Server::default();
    server.listen(&socket, &news);
    let route = format!("[[route]]\nname = \"a\"\nupstream = \"http://{address}\"\n");
    let program = Program::start("", &route).await;
    let stream = TcpStream::connect(program.address).await.expect("accepted");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = http::Request::post("http://localhost/a/mcp")
        .header("content-type", "application/json")
        .header("mcp-session-id", "s")
        .body(Full::new(Bytes::from(call("1", "add"))))
        .expect("valid");
    let serve = async {
        let taken = take(&server, &news).await;
        taken.link.send(head.as_bytes()).await;
        taken
    };
    let (response, taken) = tokio::join!(sender.send_request(request), serve);
    let mut response = response.expect("no error of the protocol");
    let mut body = Vec::new();
    for event in events() {
        taken.link.send(&chunk(&event)).await;
        let frame = response.frame().await.expect("not over").expect("not broken");
        assert_eq!(frame.data_ref().map(|data| &data[..]), Some(event.as_bytes()), "each as it comes");
        body.extend(frame.into_data().expect("data"));
    }
    taken.link.send(LAST_CHUNK.as_bytes()).await;
    let asked = taken.link.inbox().messages[taken.message].clone();
    let headers = response.headers().clone();
    let rest = response.into_body().collect().await.expect("a clean end").to_bytes();
    assert_eq!(rest, "");
    assert_eq!(program.stop().await.rows[0]["status"], "ok");
    (asked, headers, body)
}

#[tokio::test]
async fn h2_client_h1_upstream() {
    let head = SSE_HEAD.replace("\r\n\r\n", HOP);
    let mut play = vec![
        client("c").sends(post("/mcp", call("1", "add"))),
        upstream("c").takes(""),
        upstream("c").sends(head.as_str()),
    ];
    for event in events() {
        play.extend([upstream("c").sends_chunk(event.as_str()), client("c").gets(event)]);
    }
    play.extend([upstream("c").sends(LAST_CHUNK), client("c").gets_answer()]);
    let direct = Case::new(play).run().await.direct;
    let (asked, headers, body) = carry_http2(&head).await;
    assert_eq!(body, direct.answer("c").body);
    assert_eq!(asked.body, direct.request("c").body);
    assert_eq!((asked.lines()[0].as_str(), asked.values("mcp-session-id").len()), ("POST /mcp HTTP/1.1", 1));
    assert!(!headers.contains_key("connection") && !headers.contains_key("keep-alive"), "{headers:?}");
}
