//! What the proxy answers itself: plain text, `Proxy-Status`, and a row where a call was meant.

use crate::support::{Mcpmeter, get};

/// A port on which nothing listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[tokio::test]
async fn a_path_without_a_route_is_404_and_names_those_there_are() {
    let proxy = Mcpmeter::start("[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n");
    let (status, body) = get(proxy.proxy, "/b/mcp").await;
    assert_eq!((status, body.trim_end()), (404, "mcpmeter: no route matches this path; known: /a/"));
    assert!(proxy.stop().await.is_empty());
}

#[tokio::test]
async fn an_upstream_that_refuses_is_502_in_plain_text_and_a_row() {
    let route = format!("[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:{}\"\n", closed_port());
    let proxy = Mcpmeter::start(&route);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}"#;
    let response = post(&proxy, "/a/mcp", call).await;
    assert!(response.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{response}");
    assert!(response.contains("content-type: text/plain; charset=utf-8\r\n"), "{response}");
    assert!(response.contains("proxy-status: mcpmeter; error=connection_refused\r\n"), "{response}");
    assert!(
        response.ends_with("mcpmeter: the server refused the connection (connect_refused)\n"),
        "{response}"
    );
    let rows = proxy.stop().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0]["status"].as_str(), rows[0]["status_detail"].as_str()),
        (Some("upstream_error"), Some("unreachable"))
    );
    assert_eq!((rows[0]["tool_name"].as_str(), rows[0]["http_status"].as_u64()), (Some("add"), Some(502)));
    assert_eq!(
        (rows[0]["error_code"].as_str(), rows[0]["origin"].as_str()),
        (Some("connect_refused"), Some("upstream"))
    );
}

async fn post(proxy: &Mcpmeter, target: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(proxy.proxy).await.expect("accepted");
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len(),
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("read");
    response
}
