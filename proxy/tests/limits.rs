//! What the configuration allows a client, a server and an exchange: what happens when it is reached, that what must not
//! be touched by it is not, and that none of it applies unasked.

use crate::{
    certificates::Certificate,
    message::{LAST_CHUNK, Message, SSE_HEAD, call, chunk, get_stream, json_answer, post, result},
    raw::{End, Upstream, Wire, begin_call},
    support::{Mcpmeter, eventually},
};
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};
use tempfile::tempdir;
use tokio::net::TcpStream;

/// `(status, status_detail, origin, error_code, http_status)`.
type Ending<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<u64>);

fn ending(row: &Value) -> Ending<'_> {
    let text = |key: &str| row[key].as_str();
    (text("status"), text("status_detail"), text("origin"), text("error_code"), row["http_status"].as_u64())
}

fn start(upstream: &Upstream, route_keys: &str, proxy_keys: &[&str]) -> Mcpmeter {
    let folder = tempdir().expect("a temporary folder");
    Mcpmeter::start_in(folder, &format!("{}{route_keys}\n", upstream.route("a")), proxy_keys)
}

/// One call on an open connection, served by whoever accepts.
async fn call_on(client: &mut Wire, upstream: &Upstream, id: u64) {
    client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(json_answer(&result(id))).await;
    assert_eq!(client.read_response().await.text(), result(id));
    server.close().await;
}

fn is_told(proxy: &Mcpmeter, words: &str) -> bool {
    proxy.log().iter().any(|line| line.contains(words))
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served_when_one_closes() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", &["max_connections = 2", "workers = 2"]);
    let (mut first, mut second) = (Wire::connect(proxy.proxy).await, Wire::connect(proxy.proxy).await);
    call_on(&mut first, &upstream, 1).await;
    call_on(&mut second, &upstream, 2).await;
    let mut third = Wire::connect(proxy.proxy).await;
    third.send(post("localhost", "/a/mcp", &call(3, "late"))).await;
    eventually("a word about it", || is_told(&proxy, "proxy.max_connections is reached")).await;
    // Those inside are served on; the third one is not, and is not refused either.
    call_on(&mut first, &upstream, 4).await;
    call_on(&mut second, &upstream, 5).await;
    assert!(upstream.is_untouched());
    drop(first);
    let mut server = upstream.accept().await;
    assert_eq!(server.read_request().await.text(), call(3, "late"));
    server.send(json_answer(&result(3))).await;
    assert_eq!(third.read_response().await.text(), result(3));
    assert_eq!(proxy.stop().await.len(), 5);
}

/// A POST with as many header fields as asked for, and a head of exactly so many bytes.
fn large_post(fields: usize, head_bytes: usize) -> Vec<u8> {
    let body = call(1, "add");
    // Host, Content-Type, Accept and Content-Length are four of them.
    let plain = post("localhost", "/a/mcp", &body);
    let (head, body) = plain.split_once("\r\n\r\n").expect("a head");
    let mut head = head.to_owned();
    for number in 0..fields - 4 {
        head.push_str(&format!("\r\nX-{number:04}: "));
    }
    head.push_str(&"v".repeat(head_bytes - head.len() - 4));
    format!("{head}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn a_request_of_512_fields_and_256_kib_passes_and_a_larger_one_is_431() {
    const KIB_256: usize = 256 << 10;
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", &[]);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(large_post(512, KIB_256)).await;
    let mut server = upstream.accept().await;
    let seen = server.read_request().await;
    assert_eq!((seen.headers().len(), seen.text()), (512, call(1, "add")));
    server.send(json_answer(&result(1))).await;
    assert_eq!(client.read_response().await.status(), 200);
    server.close().await;
    for request in [large_post(513, 64 << 10), large_post(300, 2 * KIB_256)] {
        let mut client = Wire::connect(proxy.proxy).await;
        // The answer may come before all has been taken.
        let _ = client.try_send(request).await;
        assert_eq!(client.read_head().await.status(), 431);
        client.gone().await;
    }
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn an_answer_whose_head_is_larger_than_allowed_is_502() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", &["max_headers = 20", "max_header_bytes = 16384"]);
    let answer = |fields: usize, bytes: usize| {
        let extra: String =
            (0..fields - 1).map(|number| format!("X-{number}: {}\r\n", "v".repeat(bytes / fields))).collect();
        format!("HTTP/1.1 200 OK\r\n{extra}Content-Length: 0\r\n\r\n")
    };
    for (answer, status) in [(answer(20, 8000), 200), (answer(21, 100), 502), (answer(10, 40_000), 502)] {
        let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
        // The proxy may have had enough before all is written.
        let _ = server.try_send(answer).await;
        assert_eq!(client.read_head().await.status(), status);
        server.close().await;
    }
}

/// The least that is sure to be reached by what goes on, and far more than a look takes.
const HEAD_TIMEOUT: &str = "request_head_timeout_ms = 600";

#[tokio::test]
async fn a_half_sent_head_is_disconnected_in_time_and_nothing_else_is() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", &[HEAD_TIMEOUT]);
    // What may last: a stream, a call, an upload, an idle connection.
    let mut stream = Wire::connect(proxy.proxy).await;
    stream.send(get_stream("localhost", "/a/mcp")).await;
    let mut events = upstream.accept().await;
    events.read_request().await;
    events.send(SSE_HEAD).await;
    stream.read_head().await;
    let (mut waiting, mut busy) = begin_call(&proxy, &upstream, 1).await;
    let mut uploading = Wire::connect(proxy.proxy).await;
    let upload = post("localhost", "/a/mcp", &call(2, "add"));
    let (begun, rest) = upload.split_at(upload.len() - 10);
    uploading.send(begun).await;
    let mut receiving = upstream.accept().await;
    receiving.read_head().await;
    let mut idle = Wire::connect(proxy.proxy).await;
    call_on(&mut idle, &upstream, 3).await;
    // What may not.
    let mut again = Wire::connect(proxy.proxy).await;
    call_on(&mut again, &upstream, 4).await;
    let begun_at = Instant::now();
    let mut slow = Vec::new();
    for said in
        ["", "P", "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nX: ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(said).await;
        slow.push(client);
    }
    again.send("POST /a/mcp HTTP/1.1\r\n").await;
    slow.push(again);
    for mut client in slow {
        let answered = client.got().len();
        client.gone().await;
        assert!(begun_at.elapsed() >= Duration::from_millis(550), "{:?}", begun_at.elapsed());
        let said = &client.got()[answered..];
        assert!(!said.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(said));
    }
    call_on(&mut idle, &upstream, 5).await;
    uploading.send(rest).await;
    receiving.read_until("}}").await;
    receiving.send(json_answer(&result(2))).await;
    assert_eq!(uploading.read_response().await.text(), result(2));
    busy.send(json_answer(&result(1))).await;
    assert_eq!(waiting.read_response().await.text(), result(1));
    events.send(chunk(": still there\n\n")).await;
    assert_eq!(stream.read_chunk().await.expect("not cut"), b": still there\n\n");
}

#[tokio::test]
async fn a_trickle_of_bytes_makes_a_head_last_no_longer() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", &[HEAD_TIMEOUT]);
    let mut client = Wire::connect(proxy.proxy).await;
    let begun_at = Instant::now();
    client.send("POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nX: ").await;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while client.try_send("y").await.is_ok() {
        assert!(begun_at.elapsed() < Duration::from_secs(10), "still connected");
        ticks.tick().await;
    }
    assert!(begun_at.elapsed() >= Duration::from_millis(550));
}

#[tokio::test]
async fn a_tls_client_that_does_not_finish_its_handshake_is_disconnected() {
    let upstream = Upstream::bind();
    let certificate = Certificate::of("localhost");
    let folder = tempdir().expect("a temporary folder");
    certificate.write(folder.path());
    let tls = "[proxy.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
    let proxy = Mcpmeter::start_in(folder, &format!("{tls}{}", upstream.route("a")), &[HEAD_TIMEOUT]);
    let mut silent = Wire::connect(proxy.proxy).await;
    let stream = TcpStream::connect(proxy.proxy).await.expect("accepted");
    let mut half = Wire::over(certificate.connect(stream, "localhost", &[]).await.expect("trusted"));
    half.send("POST /a/mcp HT").await;
    silent.gone().await;
    half.gone().await;
}

#[tokio::test]
async fn one_exchange_too_many_is_503_and_a_limited_row_and_streams_do_not_count() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "max_exchanges = 2", &["workers = 2"]);
    let mut stream = Wire::connect(proxy.proxy).await;
    stream.send(get_stream("localhost", "/a/mcp")).await;
    let mut events = upstream.accept().await;
    events.read_request().await;
    events.send(SSE_HEAD).await;
    stream.read_head().await;
    let (mut first, mut of_first) = begin_call(&proxy, &upstream, 1).await;
    let (second, mut of_second) = begin_call(&proxy, &upstream, 2).await;
    let mut third = Wire::connect(proxy.proxy).await;
    for id in [3, 4] {
        third.send(post("localhost", "/a/mcp", &call(id, "refused"))).await;
        let refusal = third.read_response().await;
        assert_eq!((refusal.status(), refusal.header("retry-after").as_deref()), (503, Some("1")));
        assert_eq!(
            refusal.header("proxy-status").as_deref(),
            Some("mcpmeter; error=connection_limit_reached")
        );
    }
    assert!(upstream.is_untouched());
    // An exchange takes its room until its answer has ended, or its client has left.
    let head = SSE_HEAD.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    of_first.send([head.as_bytes(), &chunk(": begun\n\n")].concat()).await;
    first.read_until(": begun\n\n").await;
    third.send(post("localhost", "/a/mcp", &call(5, "refused"))).await;
    assert_eq!(third.read_response().await.status(), 503);
    of_first.send([chunk(format!("data: {}\n\n", result(1))), LAST_CHUNK.into()].concat()).await;
    first.read_until(LAST_CHUNK).await;
    let (mut fourth, mut of_fourth) = begin_call(&proxy, &upstream, 6).await;
    drop(second);
    of_second.gone().await;
    of_fourth.send(json_answer(&result(6))).await;
    assert_eq!(fourth.read_response().await.text(), result(6));
    let rows = proxy.stop().await;
    let refused: Vec<_> = rows.iter().filter(|row| row["tool_name"] == "refused").map(ending).collect();
    let expected = (Some("limited"), Some("unreachable"), Some("proxy"), Some("max_exchanges"), Some(503));
    assert_eq!((rows.len(), refused), (6, vec![expected; 3]));
}

#[tokio::test]
async fn a_reload_changes_the_limit_for_the_exchanges_that_are_there() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "max_exchanges = 1", &[]);
    let (_first, _of_first) = begin_call(&proxy, &upstream, 1).await;
    let mut second = Wire::connect(proxy.proxy).await;
    second.send(post("localhost", "/a/mcp", &call(2, "add"))).await;
    assert_eq!(second.read_response().await.status(), 503);
    let text = fs::read_to_string(proxy.config_file()).expect("a file");
    fs::write(proxy.config_file(), text.replace("max_exchanges = 1", "max_exchanges = 2")).expect("written");
    proxy.signal("HUP");
    eventually("a reload", || is_told(&proxy, "configuration reloaded")).await;
    let (_third, _of_third) = begin_call(&proxy, &upstream, 3).await;
    second.send(post("localhost", "/a/mcp", &call(4, "add"))).await;
    assert_eq!(second.read_response().await.status(), 503, "the first one still counts");
}

#[tokio::test]
async fn a_server_that_does_not_begin_its_answer_in_time_is_504_and_a_timeout_row() {
    for key in ["first_byte_timeout", "total_timeout"] {
        let upstream = Upstream::bind();
        let proxy = start(&upstream, &format!("{key}_ms = 200"), &[]);
        let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
        let answer = client.read_response().await;
        assert_eq!(answer.status(), 504);
        assert_eq!(answer.header("proxy-status").as_deref(), Some("mcpmeter; error=http_response_timeout"));
        // Whatever it does goes nowhere, so it is told.
        server.gone().await;
        // The client's connection goes on.
        call_on(&mut client, &upstream, 2).await;
        let rows = proxy.stop().await;
        let expected = (Some("timeout"), Some("aborted"), Some("upstream"), Some(key), Some(504));
        assert_eq!(ending(&rows[0]), expected);
        assert!(rows[0]["duration_ms"].as_f64().is_some_and(|duration| duration >= 190.0), "{:?}", rows[0]);
        assert_eq!((rows.len(), rows[1]["status"].as_str()), (2, Some("ok")));
    }
}

#[tokio::test]
async fn the_first_byte_is_waited_for_from_the_end_of_the_upload_and_no_further() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "first_byte_timeout_ms = 300", &[]);
    let mut client = Wire::connect(proxy.proxy).await;
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    let (begun, rest) = request.split_at(request.len() - 10);
    client.send(begun).await;
    let mut server = upstream.accept().await;
    server.read_head().await;
    // Somebody else's answer is overdue meanwhile; this one is not even asked for.
    let (mut other, _of_other) = begin_call(&proxy, &upstream, 2).await;
    assert_eq!(other.read_response().await.status(), 504);
    client.send(rest).await;
    server.read_until("}}").await;
    server.send(SSE_HEAD).await;
    client.read_head().await;
    // Once it has begun, it may take its time.
    let (mut other, _of_other) = begin_call(&proxy, &upstream, 3).await;
    assert_eq!(other.read_response().await.status(), 504);
    let event = format!("data: {}\n\n", result(1));
    server.send([chunk(&event), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.read_chunk().await.expect("not cut"), event.as_bytes());
    let rows = proxy.stop().await;
    let mut told: Vec<_> = rows.iter().map(|row| row["status"].as_str().unwrap_or("none")).collect();
    told.sort_unstable();
    assert_eq!(told, ["ok", "timeout", "timeout"]);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_breaks_off_and_never_looks_complete() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "total_timeout_ms = 200", &[]);
    let half = "data: {\"half\":\n";
    let heads = [
        format!("{SSE_HEAD}{:x}\r\n{half}\r\n", half.len()),
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{half}"),
    ];
    for begun in &heads {
        let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
        server.send(begun).await;
        let head = client.read_head().await;
        let answer = client.read_body(head, false).await;
        assert_eq!((answer.status(), answer.complete), (200, false));
        server.gone().await;
    }
    let rows = proxy.stop().await;
    let expected = (Some("timeout"), Some("aborted"), Some("upstream"), Some("total_timeout"), Some(200));
    assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [expected, expected]);
}

/// Answers for as long as anybody takes it; returns when nobody does any more.
async fn answer_for_ever(server: &mut Wire, head: &str) {
    let piece = chunk(": a line that nobody reads\n\n".repeat(1000));
    server.send(head).await;
    while server.try_send(&piece).await.is_ok() {}
}

#[tokio::test]
async fn a_client_that_reads_nothing_cannot_hold_an_answer_open() {
    for keys in ["total_timeout_ms = 300\nmax_exchanges = 1", "stream_timeout_ms = 300"] {
        let is_stream = keys.starts_with("stream");
        let upstream = Upstream::bind();
        let proxy = start(&upstream, keys, &[]);
        let mut client = Wire::connect_narrow(proxy.proxy).await;
        let request = if is_stream { listen_request() } else { post("localhost", "/a/mcp", &call(1, "add")) };
        client.send(request).await;
        let mut server = upstream.accept().await;
        server.read_request().await;
        answer_for_ever(&mut server, SSE_HEAD).await;
        if !is_stream {
            let rows = proxy.wait_for_rows(1).await;
            let expected =
                (Some("timeout"), Some("aborted"), Some("upstream"), Some("total_timeout"), Some(200));
            assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [expected]);
            // Its room is free again.
            let (mut other, mut of_other) = begin_call(&proxy, &upstream, 2).await;
            of_other.send(json_answer(&result(2))).await;
            assert_eq!(other.read_response().await.text(), result(2));
            other.close().await;
        }
        // Its connection is closed, too; what it had been sent is there to be read, without an end.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !proxy.admin("/metrics").await.1.contains(
            "mcpmeter_connections 0
",
        ) {
            assert!(Instant::now() < deadline, "the connection stays open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (read, _) = client.read_to_end().await;
        assert!(!read.ends_with(LAST_CHUNK.as_bytes()));
        proxy.signal("TERM");
        assert!(proxy.wait().0.success());
    }
}

fn listen_request() -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}"#;
    post("localhost", "/a/mcp", body).replacen(
        "\r\n",
        "\r\nMcp-Method: subscriptions/listen\r\nMCP-Protocol-Version: 2026-07-28\r\n",
        1,
    )
}

#[tokio::test]
async fn a_call_is_no_stream_because_a_header_says_so_that_its_revision_does_not_know() {
    for version in ["", "MCP-Protocol-Version: 2025-11-25\r\n"] {
        let upstream = Upstream::bind();
        let proxy = start(&upstream, "first_byte_timeout_ms = 100\nmax_exchanges = 1", &[]);
        let lines = format!("\r\nMcp-Method: subscriptions/listen\r\n{version}");
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(post("localhost", "/a/mcp", &call(1, "add")).replacen("\r\n", &lines, 1)).await;
        let mut server = upstream.accept().await;
        server.read_request().await;
        assert_eq!(client.read_response().await.status(), 504, "{version}");
    }
}

#[tokio::test]
async fn streams_are_cut_by_their_own_limit_only() {
    for (keys, is_cut) in
        [("first_byte_timeout_ms = 100\ntotal_timeout_ms = 100", false), ("stream_timeout_ms = 300", true)]
    {
        let upstream = Upstream::bind();
        let proxy = start(&upstream, keys, &[]);
        for request in [get_stream("localhost", "/a/mcp"), listen_request()] {
            let mut client = Wire::connect(proxy.proxy).await;
            client.send(&request).await;
            let mut server = upstream.accept().await;
            server.read_request().await;
            server.send(SSE_HEAD).await;
            client.read_head().await;
            if is_cut {
                assert_eq!(client.read_chunk().await, None);
                server.gone().await;
                continue;
            }
            // A call that is cut shows that the limit is in force, and that its time has passed.
            for _ in 0..2 {
                let (mut other, _of_other) = begin_call(&proxy, &upstream, 2).await;
                assert_eq!(other.read_response().await.status(), 504);
            }
            server.send(chunk(": still there\n\n")).await;
            assert_eq!(client.read_chunk().await.expect("not cut"), b": still there\n\n");
            drop(client);
            server.gone().await;
        }
    }
}

/// A port whose queue of connections is full, so that the kernel answers nobody who connects.
fn deaf_port() -> (socket2::Socket, Vec<std::net::TcpStream>, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(0).expect("a socket");
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queued.push(stream);
    }
    (socket, queued, address.port())
}

#[tokio::test]
async fn the_time_to_connect_is_part_of_the_calls() {
    let (_socket, _queued, port) = deaf_port();
    let route = format!(
        "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:{port}\"\nconnect_timeout_ms = 300\n"
    );
    let proxy = Mcpmeter::start(&route);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    assert_eq!(client.read_response().await.status(), 504);
    // Who waits to be invited is not, because there is nobody to upload to.
    let expecting =
        post("localhost", "/a/mcp", &call(2, "add")).replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1);
    let head = expecting.split_inclusive("\r\n\r\n").next().expect("a head");
    let mut patient = Wire::connect(proxy.proxy).await;
    patient.send(head).await;
    let refusal: Message = patient.read_head().await;
    assert_eq!(refusal.status(), 504);
    drop(patient);
    let rows = proxy.stop().await;
    let expected =
        (Some("timeout"), Some("unreachable"), Some("upstream"), Some("connect_timeout"), Some(504));
    assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [expected]);
    assert!(rows[0]["duration_ms"].as_f64().is_some_and(|duration| duration >= 290.0), "{:?}", rows[0]);
}

#[tokio::test]
async fn without_limits_there_are_none() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", &["request_head_timeout_ms = 0", "max_connections = 0"]);
    let mut clients = Vec::new();
    for id in 0..40 {
        clients.push(begin_call(&proxy, &upstream, id).await);
    }
    for (id, (client, server)) in clients.iter_mut().enumerate() {
        server.send(json_answer(&result(id as u64))).await;
        assert_eq!(client.read_response().await.text(), result(id as u64));
    }
    let mut half = Wire::connect(proxy.proxy).await;
    half.send("POST /a/mcp HTTP/1.1\r\n").await;
    half.finish().await;
    assert_eq!(half.gone().await, End::Closed);
}
