//! Bytes out equal bytes in: what an upstream and a client see through the proxy is what they see without
//! it, at the moment at which they would see it.

use crate::{
    message::{LAST_CHUNK, Message, call, chunk, post},
    raw::{Upstream, Wire},
    support::Mcpmeter,
};
use std::net::SocketAddr;

/// Headers that concern one connection only, so each side has its own.
const HOP_BY_HOP: [&str; 3] = ["connection", "keep-alive", "transfer-encoding"];

/// A request and its answer as they are written. `HOST` and `PREFIX` are put in per way.
struct Case {
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What arrived at both ends.
#[derive(Debug, PartialEq)]
struct Seen {
    request: (Vec<String>, Vec<u8>),
    answer: (Vec<String>, Vec<u8>),
}

impl Case {
    fn new(request: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) -> Self {
        Self { request: request.into(), answer: answer.into() }
    }

    /// Sends the request to an address and answers it at the upstream.
    async fn run(&self, address: SocketAddr, prefix: &str, upstream: &Upstream) -> Seen {
        let request = replace(&self.request, "HOST", &address.to_string());
        let mut client = Wire::connect(address).await;
        client.send(replace(&request, "PREFIX", prefix)).await;
        let mut server = tokio::select! {
            server = upstream.accept() => server,
            refusal = client.read_response() => panic!("refused: {refusal:?}"),
        };
        let request = server.read_request().await;
        server.send(&self.answer).await;
        drop(server);
        let head = client.read_head().await;
        let bodiless = self.request.starts_with(b"HEAD") || matches!(head.status(), 204 | 304);
        let answer = client.read_body(head, bodiless).await;
        assert!(request.complete && answer.complete, "{request:?} {answer:?}");
        Seen { request: end_to_end(&request), answer: end_to_end(&answer) }
    }
}

fn replace(bytes: &[u8], word: &str, by: &str) -> Vec<u8> {
    let Some(at) = bytes.windows(word.len()).position(|bytes| bytes == word.as_bytes()) else {
        return bytes.to_vec();
    };
    [&bytes[..at], by.as_bytes(), &bytes[at + word.len()..]].concat()
}

/// The lines of the head without those that end at each hop, and the body. Case and order count; white space
/// behind a value is not part of it.
fn end_to_end(message: &Message) -> (Vec<String>, Vec<u8>) {
    let text: String = message.head.iter().copied().map(char::from).collect();
    let is_hop = |line: &&str| {
        line.split(':').next().is_some_and(|name| HOP_BY_HOP.contains(&name.to_lowercase().as_str()))
    };
    let lines =
        text.split("\r\n").filter(|line| !is_hop(line)).map(|line| line.trim_end().to_owned()).collect();
    (lines, message.body.clone())
}

/// Runs every case directly and through the proxy, and compares what both ends saw. Gives the rows.
async fn assert_same_through_the_proxy(cases: &[Case]) -> Vec<serde_json::Value> {
    let upstreams: Vec<_> = cases.iter().map(|_| Upstream::bind()).collect();
    let routes: String =
        upstreams.iter().enumerate().map(|(at, upstream)| upstream.route(&format!("r{at}"))).collect();
    let proxy = Mcpmeter::start(&routes);
    for (at, (case, upstream)) in cases.iter().zip(&upstreams).enumerate() {
        let direct = case.run(upstream.address, "", upstream).await;
        let proxied = case.run(proxy.proxy, &format!("/r{at}"), upstream).await;
        // `Host` is compared, too: the upstream sees its own name in the place where the proxy's stood.
        assert!(proxied == direct, "case {at}:\n{}\ninstead of\n{}", show(&proxied), show(&direct));
    }
    proxy.stop().await
}

fn show(seen: &Seen) -> String {
    let short = |line: &String| line.chars().take(200).collect::<String>();
    let part = |(head, body): &(Vec<String>, Vec<u8>)| {
        let head: Vec<_> = head.iter().map(short).collect();
        format!("{}\n{} bytes: {}", head.join("\n"), body.len(), short(&body.escape_ascii().to_string()))
    };
    format!("{}\n\n{}", part(&seen.request), part(&seen.answer))
}

#[tokio::test]
async fn json_is_the_same_to_the_byte_in_both_directions() {
    let odd = "{ \"jsonrpc\":\"2.0\" ,\n\t\"id\" : 1.0, \"x\\u0041\":null, \"method\":\"tools\\u002fcall\",\
               \"params\":{\"name\":\"add\"}}\n ";
    let answer = "\u{feff}{\"result\" : {\"content\":[ ],\"isError\":false,\
                  \"unknown\":[1e400]}, \"jsonrpc\":\"2.0\", \"id\":1.0 }\r\n";
    let request = format!(
        "POST PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\nuser-AGENT: t/1\r\n\
         Content-Type: application/json; charset=UTF-8\r\n\
         ACCEPT: application/json\r\naccept: text/event-stream\r\nMCP-Protocol-Version: 2025-06-18\r\n\
         Cookie: a=b\r\n\
         X-Forwarded-For: 203.0.113.9\r\nOrigin: http://page.example\r\nConnection: keep-alive\r\n\
         authorization: Bearer t\r\nContent-Length: {}\r\nMcp-Session-Id: s\r\n\r\n{odd}",
        odd.len()
    );
    let response = format!(
        "HTTP/1.1 200 Very Well\r\nserver: x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
         Content-TYPE: application/json\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\ncontent-length: {}\r\nmcp-session-id: S\r\n\r\n{answer}",
        answer.len()
    );
    let rows = assert_same_through_the_proxy(&[Case::new(request, response)]).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0]["status"].as_str(), rows[0]["tool_name"].as_str()), (Some("ok"), Some("add")));
    assert_eq!(rows[0]["input_bytes"].as_u64(), Some(odd.len() as u64));
    assert_eq!(rows[0]["output_bytes"].as_u64(), Some(answer.len() as u64));
}

#[tokio::test]
async fn event_streams_are_the_same_to_the_byte_whatever_their_line_endings() {
    let cases: Vec<_> = ["\n", "\r\n", "\r"]
        .iter()
        .map(|end| {
            let events = "\u{feff}: hello\nretry: 10\nid: 7\nevent: message\ndata:{\"jsonrpc\":\"2.0\",\n\
                          data: \"id\":1,\ndata:\"result\":{}}\n\n:ping\n\n"
                .replace('\n', end);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                 Cache-Control: no-cache\r\n\
                 Transfer-Encoding: chunked\r\nX-Accel-Buffering: no\r\n\r\n{}{LAST_CHUNK}",
                String::from_utf8(chunk(events)).expect("text")
            );
            Case::new(post("HOST", "PREFIX/mcp", &call(1, "add")), answer)
        })
        .collect();
    let rows = assert_same_through_the_proxy(&cases).await;
    let told = |row: &serde_json::Value| {
        (row["status"].as_str() == Some("ok"), row["framing"].as_str() == Some("sse"))
    };
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), vec![(true, true); 3]);
}

#[tokio::test]
async fn streams_resumptions_deletes_and_other_methods_pass_and_are_no_calls() {
    let stream =
        "GET PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\nAccept: text/event-stream\r\nMcp-Session-Id: s\r\n";
    let events = "id: 1\ndata: \n\nid: 2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n";
    let until_close =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{events}");
    let gone = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ngone";
    let cases = [
        Case::new(format!("{stream}\r\n"), until_close.clone()),
        Case::new(format!("{stream}Last-Event-ID: 0/1\r\n\r\n"), until_close),
        Case::new(
            "DELETE PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\nMcp-Session-Id: s\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
        ),
        Case::new("DELETE PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\n\r\n", gone),
        Case::new(
            "OPTIONS PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\nOrigin: http://page.example\r\n\
             Access-Control-Request-Method: POST\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n",
        ),
        Case::new(
            "HEAD PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1234\r\n\r\n",
        ),
        Case::new(
            "PURGE PREFIX/x HTTP/1.1\r\nHost: HOST\r\n\r\n",
            "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n",
        ),
        Case::new(
            "GET PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\n\r\n",
            "HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n",
        ),
    ];
    assert_eq!(assert_same_through_the_proxy(&cases).await, [] as [serde_json::Value; 0]);
}

#[tokio::test]
async fn bodies_that_are_no_calls_pass_untouched_and_leave_no_row() {
    let bodies: [&[u8]; 7] = [
        b"{",
        b"\x00\xff\xfe\x80binary\r\n\r\n",
        b"",
        b"[1,2,3]",
        b"{\"hello\":\"world\"}",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}",
        b"\"tools/call\"",
    ];
    let cases: Vec<_> = bodies
        .iter()
        .map(|body| {
            let head = format!(
                "POST PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            // The upstream's own refusal, which probes of a server's era rely on.
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
                           Content-Length: 7\r\n\r\n{\"no\":\xff";
            Case::new([head.as_bytes(), body].concat(), answer.to_vec())
        })
        .collect();
    assert_eq!(assert_same_through_the_proxy(&cases).await, [] as [serde_json::Value; 0]);
}

#[tokio::test]
async fn encoded_bodies_pass_as_they_are() {
    let squeezed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03not really\x00\xff";
    let head = format!(
        "POST PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\nAccept-Encoding: gzip, br;q=0.5, *\r\n\
         Content-Encoding: gzip\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        squeezed.len()
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n\
         Vary: Accept-Encoding\r\nContent-Length: {}\r\n\r\n",
        squeezed.len()
    );
    let case = Case::new([head.as_bytes(), squeezed].concat(), [answer.as_bytes(), squeezed].concat());
    assert_same_through_the_proxy(&[case]).await;
}

#[tokio::test]
async fn a_target_is_never_normalised() {
    let targets = [
        "/mcp%2Fx//a/../b/?q=%20+&",
        "//mcp",
        "/a/./b;c=d/",
        "/mcp?",
        "/?",
        "/%7Euser/%41?a=/../&b[]={}|\\^",
        "/",
    ];
    let cases = targets.map(|target| {
        Case::new(
            format!("GET PREFIX{target} HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )
    });
    assert_same_through_the_proxy(&cases).await;
}

#[tokio::test]
async fn many_large_and_strange_headers_arrive_once_and_in_order() {
    let mut headers = b"Mcp-Method: tools/call\r\nX-Obs: \xe9\xff\x80\r\nX-Empty:\r\nX-TWICE: 1\r\n\
                        X-twice: 2\r\nMcp-Session-Id: "
        .to_vec();
    headers.extend([b's'; 40 << 10]);
    for number in 0..150 {
        headers.extend(format!("\r\nMcp-Param-{number}: v{number}").into_bytes());
    }
    let request = [
        b"GET PREFIX/mcp HTTP/1.1\r\nHost: HOST\r\nConnection: keep-alive\r\n".as_slice(),
        &headers,
        b"\r\n\r\n",
    ]
    .concat();
    let answer =
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\n".as_slice(), &headers, b"\r\nContent-Length: 0\r\n\r\n"]
            .concat();
    assert_same_through_the_proxy(&[Case::new(request, answer)]).await;
}

#[tokio::test]
async fn hop_by_hop_headers_end_here_and_nothing_is_added() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    let request = "GET /a/mcp HTTP/1.1\r\nHost: localhost:1\r\n\
                   Connection: close, Authorization, X-Hop, Mcp-Session-Id\r\nKeep-Alive: timeout=1\r\n\
                   X-Hop: 1\r\nProxy-Authorization: Basic x\r\nAuthorization: Bearer t\r\n\
                   Mcp-Session-Id: s\r\nX-End: 2\r\n\r\n";
    client.send(request).await;
    let mut server = upstream.accept().await;
    let seen = server.read_request().await.headers();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [
        pair("Host", &upstream.address.to_string()),
        pair("Authorization", "Bearer t"),
        pair("Mcp-Session-Id", "s"),
        pair("X-End", "2"),
    ];
    assert_eq!(seen, expected);
    server
        .send(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\n\
                 X-Hop: 1\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    let mut seen = client.read_response().await.headers();
    // The proxy's own answer to the client's `close`.
    seen.retain(|(name, value)| !(name.eq_ignore_ascii_case("connection") && value == "close"));
    assert_eq!(seen, [pair("X-End", "2"), pair("Content-Length", "0")]);
}
