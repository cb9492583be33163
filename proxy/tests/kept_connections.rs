//! Connections to an upstream are kept for the next call, given up when the upstream has closed them, and
//! nothing that was written to one is written to another.

use crate::{
    certificates::Certificate,
    message::{call, json_answer, post, result},
    raw::{End, Upstream, Wire, begin_call},
    support::Mcpmeter,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::tempdir;

/// One worker, so that the second call of a client finds the connection of the first.
fn start_with_one_worker() -> (Upstream, Mcpmeter) {
    let upstream = Upstream::bind();
    let folder = tempdir().expect("a temporary folder");
    let proxy = Mcpmeter::start_in(folder, &upstream.route("a"), &["workers = 1"]);
    (upstream, proxy)
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_call() {
    let (upstream, proxy) = start_with_one_worker();
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    for id in 1..=3 {
        server.read_request().await;
        server.send(json_answer(&result(id))).await;
        assert_eq!(client.read_response().await.text(), result(id));
        client.send(post("localhost", "/a/mcp", &call(id + 1, "add"))).await;
    }
    assert!(upstream.is_untouched(), "no second connection");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_call_and_delivers_none_twice() {
    const CALLS: u64 = 100;
    let (upstream, proxy) = start_with_one_worker();
    let mut client = Wire::connect(proxy.proxy).await;
    for id in 1..=CALLS {
        let body = call(id, "add");
        client.send(post("localhost", "/a/mcp", &body)).await;
        let mut server = tokio::select! {
            server = upstream.accept() => server,
            refusal = client.read_response() => panic!("call {id} was refused: {refusal:?}"),
        };
        assert_eq!(server.read_request().await.text(), body);
        server.send(json_answer(&result(id))).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status(), answer.text()), (200, result(id)));
        // The proxy has put it away, and has seen that it is of no use any more.
        server.close().await;
    }
    assert!(upstream.is_untouched(), "nothing was delivered twice");
    assert_eq!(proxy.stop().await.len() as u64, CALLS);
}

#[tokio::test]
async fn a_written_post_is_never_sent_again() {
    let (upstream, proxy) = start_with_one_worker();
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(json_answer(&result(1))).await;
    assert_eq!(client.read_response().await.status(), 200);
    // The second call goes over the kept connection, the third one over a new one; both are read and
    // dropped.
    let mut kept = Some(server);
    for id in [2, 3] {
        client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
        let mut server = match kept.take() {
            Some(kept) => kept,
            None => upstream.accept().await,
        };
        assert_eq!(server.read_request().await.text(), call(id, "add"));
        drop(server);
        let answer = client.read_response().await;
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.header("proxy-status").as_deref(), Some("mcpmeter; error=connection_terminated"));
        assert!(upstream.is_untouched(), "sent again");
    }
    let rows = proxy.stop().await;
    assert!(upstream.is_untouched(), "sent again");
    for row in &rows[1..] {
        let text = |key: &str| row[key].as_str();
        assert_eq!(
            (text("status"), text("status_detail"), text("error_code"), row["http_status"].as_u64()),
            (Some("upstream_error"), Some("aborted"), Some("connection_closed"), Some(502))
        );
    }
}

#[tokio::test]
async fn a_client_is_told_of_the_end_of_its_connection_only_by_its_end() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
    server.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n").await;
    server.send(result(1)).await;
    drop(server);
    let answer = client.read_response().await;
    assert!(answer.complete);
    assert_eq!(answer.text(), result(1));
    // Only the upstream's connection had to close.
    client.send(post("localhost", "/a/mcp", &call(2, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(json_answer(&result(2))).await;
    assert_eq!(client.read_response().await.text(), result(2));
    client.finish().await;
    assert_eq!(client.gone().await, End::Closed);
}

/// A server that closes each connection, unannounced, when it has been idle for so long; zero is at once. It runs on
/// threads of its own, because nothing that the test does may delay it. Gives its address, and the ids of the calls it
/// has read; it ends with the process.
fn closing_server(idle: Duration) -> (SocketAddr, Arc<Mutex<Vec<u64>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let read = Arc::<Mutex<Vec<u64>>>::default();
    let noted = Arc::clone(&read);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let noted = Arc::clone(&noted);
            thread::spawn(move || serve_until_idle(stream, idle, &noted));
        }
    });
    (address, read)
}

fn serve_until_idle(mut stream: TcpStream, idle: Duration, noted: &Mutex<Vec<u64>>) {
    stream.set_nodelay(true).expect("a socket");
    while let Some(id) = read_call(&mut stream) {
        noted.lock().expect("not poisoned").push(id);
        if stream.write_all(json_answer(&result(id)).as_bytes()).is_err() || idle.is_zero() {
            return;
        }
        stream.set_read_timeout(Some(idle)).expect("a socket");
    }
}

/// The id of the next call; `None` if there is none in time.
fn read_call(stream: &mut TcpStream) -> Option<u64> {
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 4096];
        match stream.read(&mut more) {
            Ok(count @ 1..) => bytes.extend_from_slice(&more[..count]),
            _ => return None,
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(call) = serde_json::from_str::<serde_json::Value>(body)
        {
            return call["id"].as_u64();
        }
    }
}

/// How many of the calls were refused, each made `pause` after the answer to the one before; all others were answered,
/// and none was read twice.
async fn refused(idle: Duration, pauses: impl Iterator<Item = Duration>, proxy_keys: &[&str]) -> usize {
    let (address, read) = closing_server(idle);
    let route = format!("[[route]]\nname = \"a\"\nupstream = \"http://{address}\"\n");
    let proxy = Mcpmeter::start_in(tempdir().expect("a temporary folder"), &route, proxy_keys);
    let mut client = Wire::connect(proxy.proxy).await;
    let (mut refused, mut calls) = (0, 0);
    for pause in pauses {
        // To the millisecond is not enough here: what counts is the very instant.
        let due = Instant::now() + pause;
        tokio::time::sleep(pause.saturating_sub(Duration::from_millis(2))).await;
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        calls += 1;
        client.send(post("localhost", "/a/mcp", &call(calls, "add"))).await;
        match client.read_response().await {
            answer if answer.status() == 200 => assert_eq!(answer.text(), result(calls)),
            answer => {
                assert_eq!(answer.status(), 502);
                refused += 1;
            }
        }
    }
    let mut ids = read.lock().expect("not poisoned").clone();
    let read = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), read, "a call was delivered twice");
    assert_eq!(proxy.stop().await.len() as u64, calls);
    refused
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_costs_no_call_at_whatever_instant_it_comes() {
    // Around the closing, in steps of 0.1 ms.
    let idle = Duration::from_millis(20);
    let around =
        (0..200).map(|step| idle - Duration::from_millis(4) + Duration::from_micros(100 * (step % 80)));
    // A close that crosses a written request cannot be told from one behind it; that takes a hit within microseconds, or
    // a worker that is kept from running in between, which other tests do. Without the look before each request 5 to 12
    // were seen every time.
    let mut least = usize::MAX;
    for _ in 0..8 {
        least = least.min(refused(idle, around.clone(), &["workers = 1"]).await);
        if least <= 4 {
            return;
        }
    }
    panic!("{least} of 200");
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_costs_no_call_back_to_back() {
    for keys in [&["workers = 1"][..], &["runtime = \"shared\"", "workers = 2"]] {
        let refused = refused(Duration::ZERO, std::iter::repeat_n(Duration::ZERO, 300), keys).await;
        assert!(refused <= 3, "{refused} of 300");
    }
}

#[tokio::test]
async fn a_tls_server_that_closes_after_each_answer_costs_no_call() {
    let upstream = Upstream::bind();
    let certificate = Certificate::of("localhost");
    let folder = tempdir().expect("a temporary folder");
    certificate.write_certificate(&folder.path().join("ca.pem"));
    let port = upstream.address.port();
    let route =
        format!("[[route]]\nname = \"a\"\nupstream = \"https://localhost:{port}\"\nca_file = \"ca.pem\"\n");
    let proxy = Mcpmeter::start_in(folder, &route, &["workers = 1"]);
    let served = AtomicU64::new(0);
    let serve = async {
        loop {
            let stream = upstream.next().await.into_stream();
            let mut server = certificate.accept(stream).await.expect("trusted");
            if server.next_request().await.is_some() {
                let id = served.fetch_add(1, Ordering::Relaxed);
                server.send(json_answer(&result(id))).await;
            }
            server.finish().await;
        }
    };
    let ask = async {
        let mut client = Wire::connect(proxy.proxy).await;
        let mut refused = 0;
        for id in 0..50 {
            client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
            refused += u64::from(client.read_response().await.status() != 200);
        }
        refused
    };
    let refused = tokio::select! {
        refused = ask => refused,
        () = serve => unreachable!("it serves for ever"),
    };
    assert!(refused <= 1, "{refused} of 50");
    assert!(served.load(Ordering::Relaxed) <= 50, "something was delivered twice");
}
