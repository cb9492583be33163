//! The admin port: probes for whoever restarts and routes, metrics whose books balance, and nothing for
//! strangers.

use crate::{
    message::{Message, SSE_HEAD, call, get_stream, json_answer, post, result},
    raw::{Upstream, Wire},
    serving::Serving,
    support::{Mcpmeter, PATIENCE},
};
use serde_json::json;
use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

async fn ask(address: SocketAddr, request: &str) -> Message {
    let mut client = Wire::connect(address).await;
    client.send(request).await;
    client.read_response().await
}

/// Samples of an OpenMetrics text by name and labels. Insists on the format: every sample belongs to a
/// declared family, none comes twice, and the text ends with its mark.
fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let text = text.strip_suffix("# EOF\n").expect("the end's mark");
    let (mut samples, mut families) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            if words.next() == Some("TYPE") {
                let family = words.next().expect("a name");
                assert!(!families.contains(&family), "{family} is declared twice");
                families.push(family);
            }
            continue;
        }
        let (key, value) = line.rsplit_once(' ').expect("a value");
        let name = key.split('{').next().expect("a name");
        let family = families.last().expect("declared before");
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} stands under {family}"));
        assert!(["", "_total", "_sum", "_count", "_bucket"].contains(&suffix), "{name}");
        let known = samples.insert(key.to_owned(), value.parse().expect("a number"));
        assert_eq!(known, None, "{key} comes twice");
    }
    samples
}

async fn metrics(proxy: &Mcpmeter) -> BTreeMap<String, f64> {
    let (status, text) = proxy.admin("/metrics").await;
    assert_eq!(status, 200);
    parse_metrics(&text)
}

/// The sum over all labels.
fn sum(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    samples.iter().filter(|(key, _)| key.split('{').next() == Some(name)).map(|(_, value)| value).sum()
}

/// Waits until the metrics are as they should be.
async fn wait_for_metrics(proxy: &Mcpmeter, wanted: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = metrics(proxy).await;
        let off: Vec<_> = wanted.iter().filter(|(name, value)| sum(&samples, name) != *value).collect();
        if off.is_empty() {
            return samples;
        }
        assert!(Instant::now() < deadline, "never {off:?}: {samples:#?}");
    }
}

#[tokio::test]
async fn probes_say_that_it_lives_and_is_ready() {
    let proxy = Mcpmeter::start(&Upstream::bind().route("a"));
    assert_eq!(proxy.admin("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(proxy.admin("/readyz").await, (200, "ok\n".to_owned()));
    let report = "[+] accepting connections\n[+] configuration\n[+] disk\nready\n";
    assert_eq!(proxy.admin("/readyz?verbose").await, (200, report.to_owned()));
    assert_eq!(proxy.admin("/nothing").await.0, 404);
    let post = ask(proxy.admin, "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(post.status(), 405);
    // None of it is to be had where clients connect.
    assert_eq!(crate::support::get(proxy.proxy, "/metrics").await.0, 404);
}

#[tokio::test]
async fn the_admin_port_serves_loopback_names_only() {
    let proxy = Mcpmeter::start(&Upstream::bind().route("a"));
    for host in ["evil.example", "localhost.evil.example:7301", "192.0.2.1"] {
        let answer = ask(proxy.admin, &get_stream(host, "/metrics")).await;
        assert_eq!(answer.status(), 403, "{host}");
        assert!(!answer.text().contains("mcpmeter_"), "{host}");
    }
    for host in ["localhost:7301", "127.0.0.1", "[::1]"] {
        assert_eq!(ask(proxy.admin, &get_stream(host, "/livez")).await.status(), 200, "{host}");
    }
}

#[tokio::test]
async fn metrics_count_every_call_and_their_books_balance() {
    let upstream = Serving::with(|request| {
        let call: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let answer = match call["params"]["name"].as_str() {
            Some("broken") => {
                json!({ "jsonrpc": "2.0", "id": call["id"], "error": { "code": -32602, "message": "no" } })
                    .to_string()
            }
            _ => result(call["id"].as_u64().expect("an id")),
        };
        json_answer(&answer)
    });
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    for id in 0..20 {
        // A caller can invent names, but they become labels only if the server knows them.
        let tool = if id % 4 == 0 { "broken" } else { "add" };
        client.send(post("localhost", "/a/mcp", &call(id, tool))).await;
        assert_eq!(client.read_response().await.status(), 200);
    }
    let samples = wait_for_metrics(&proxy, &[("mcpmeter_log_stored_total", 20.0)]).await;
    let booked = [
        "mcpmeter_log_queue_records",
        "mcpmeter_log_outbox_records",
        "mcpmeter_log_stored_total",
        "mcpmeter_log_lost_total",
    ];
    let booked: f64 = booked.iter().map(|name| sum(&samples, name)).sum();
    assert_eq!((sum(&samples, "mcpmeter_log_finished_total"), booked), (20.0, 20.0));
    assert_eq!(sum(&samples, "mcpmeter_calls_total"), 20.0);
    let add = r#"mcpmeter_calls_total{server="a",tool="add",status="ok",origin=""}"#;
    let other = r#"mcpmeter_calls_total{server="a",tool="__other__",status="rpc_error",origin="client"}"#;
    assert_eq!((samples.get(add), samples.get(other)), (Some(&15.0), Some(&5.0)), "{samples:#?}");
    assert_eq!(samples[r#"mcpmeter_call_duration_seconds_count{server="a"}"#], 20.0);
    assert_eq!(samples[r#"mcpmeter_call_duration_seconds_bucket{le="+Inf",server="a"}"#], 20.0);
    let input: usize = (0..20).map(|id| call(id, if id % 4 == 0 { "broken" } else { "add" }).len()).sum();
    assert_eq!(samples[r#"mcpmeter_message_bytes_total{direction="in"}"#], input as f64);
}

#[tokio::test]
async fn metrics_show_what_is_open_now() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let gauges = |connections: f64, in_flight: f64, streams: f64| {
        [
            ("mcpmeter_connections", connections),
            ("mcpmeter_in_flight", in_flight),
            ("mcpmeter_streams", streams),
        ]
    };
    wait_for_metrics(&proxy, &gauges(0.0, 0.0, 0.0)).await;
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    let mut stream = Wire::connect(proxy.proxy).await;
    stream.send(get_stream("localhost", "/a/mcp")).await;
    let mut events = upstream.accept().await;
    events.read_request().await;
    events.send(SSE_HEAD).await;
    stream.read_head().await;
    wait_for_metrics(&proxy, &gauges(2.0, 1.0, 1.0)).await;
    server.send(json_answer(&result(1))).await;
    client.read_response().await;
    wait_for_metrics(&proxy, &gauges(2.0, 0.0, 1.0)).await;
    drop((client, stream));
    wait_for_metrics(&proxy, &gauges(0.0, 0.0, 0.0)).await;
}

#[tokio::test]
async fn metrics_are_announced_as_openmetrics() {
    let proxy = Mcpmeter::start(&Upstream::bind().route("a"));
    let answer = ask(proxy.admin, &get_stream("localhost", "/metrics")).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type").as_deref(), Some(kind));
    let build = format!("mcpmeter_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(parse_metrics(&answer.text()).get(&build), Some(&1.0));
}
