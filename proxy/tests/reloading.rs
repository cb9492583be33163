//! A new configuration is taken over while traffic goes on, on SIGHUP or when the file changes; a broken
//! one is not.

use crate::{
    message::{Message, SSE_HEAD, call, chunk, get_stream, json_answer, post, result},
    raw::{Upstream, Wire},
    serving::Serving,
    support::{Mcpmeter, eventually},
};
use serde_json::Value;
use std::fs;

/// Puts another text into the configuration in one step, as an editor or Kubernetes does.
fn rewrite(proxy: &Mcpmeter, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(proxy.config_file()).expect("a configuration");
    let next = proxy.folder().join("next.toml");
    fs::write(&next, change(text)).expect("written");
    fs::rename(next, proxy.config_file()).expect("renamed");
}

/// Everything behind the sections that are not routes.
fn with_routes(text: &str, routes: &str) -> String {
    let rest = text.split("[[route]]").next().expect("a first part");
    format!("{rest}{routes}")
}

fn reloads(proxy: &Mcpmeter) -> usize {
    proxy.log().iter().filter(|line| line.contains("configuration reloaded")).count()
}

/// Changes the configuration and asks for a reload; waits for it.
pub(crate) async fn reload(proxy: &Mcpmeter, change: impl FnOnce(String) -> String) {
    let before = reloads(proxy);
    rewrite(proxy, change);
    proxy.signal("HUP");
    eventually("a reload", || reloads(proxy) > before).await;
}

async fn ask(proxy: &Mcpmeter, target: &str) -> Message {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", target, &call(1, "add"))).await;
    client.read_response().await
}

#[tokio::test]
async fn routes_come_and_go_and_what_is_open_goes_on() {
    let (old, new) = (Upstream::bind(), Serving::results());
    let proxy = Mcpmeter::start(&old.route("old"));
    // A stream, a connection between two calls, and a call on its way: all on the route that goes.
    let mut stream = Wire::connect(proxy.proxy).await;
    stream.send(get_stream("localhost", "/old/mcp")).await;
    let mut events = old.accept().await;
    events.read_request().await;
    events.send(SSE_HEAD).await;
    stream.read_head().await;
    let mut waiting = Wire::connect(proxy.proxy).await;
    waiting.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(waiting.read_response().await.status(), 404);
    let mut calling = Wire::connect(proxy.proxy).await;
    calling.send(post("localhost", "/old/mcp", &call(1, "add"))).await;
    let mut server = old.accept().await;
    server.read_request().await;

    reload(&proxy, |text| with_routes(&text, &new.route("new"))).await;
    let gone = ask(&proxy, "/old/mcp").await;
    assert_eq!(
        (gone.status(), gone.text().as_str()),
        (404, "mcpmeter: no route matches this path; known: /new/\n")
    );
    assert_eq!(ask(&proxy, "/new/mcp").await.text(), result(1));
    assert!(old.is_untouched());

    events.send(chunk("data: still here\n\n")).await;
    stream.read_until("data: still here\n\n").await;
    waiting.send(post("localhost", "/new/mcp", &call(2, "add"))).await;
    assert_eq!(waiting.read_response().await.text(), result(2));
    server.send(json_answer(&result(1))).await;
    assert_eq!(calling.read_response().await.text(), result(1));
    let rows = proxy.stop().await;
    let told: Vec<_> =
        rows.iter().map(|row| (row["mcp_server_instance_id"].as_str(), row["status"].as_str())).collect();
    assert_eq!(told, [(Some("old"), Some("ok")), (Some("new"), Some("ok")), (Some("new"), Some("ok"))]);
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&upstream.route("old"));
    rewrite(&proxy, |text| with_routes(&text, &upstream.route("new")));
    eventually("a reload", || reloads(&proxy) == 1).await;
    assert_eq!(ask(&proxy, "/new/mcp").await.status(), 200);
    assert_eq!(ask(&proxy, "/old/mcp").await.status(), 404);
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_every_reason_is_logged() {
    let upstream = Serving::results();
    let mut proxy = Mcpmeter::start(&upstream.route("a"));
    rewrite(&proxy, |text| with_routes(&text, "[[route]]\nname = \"b\"\nupstrem = \"http://h\"\n[proxi]\n"));
    proxy.signal("HUP");
    let line = proxy.wait_for_log("the configuration was not changed");
    let message = line["message"].as_str().expect("a text");
    for problem in
        ["mcpmeter.toml:10:1", "unknown key `route.upstrem`", "`upstream`?", "unknown section `proxi`"]
    {
        assert!(message.contains(problem), "{message}");
    }
    assert_eq!(ask(&proxy, "/a/mcp").await.status(), 200);
    // Nor does a file that is not there.
    fs::remove_file(proxy.config_file()).expect("removed");
    let told = || proxy.log().iter().filter(|line| line.contains("was not changed")).count();
    let before = told();
    proxy.signal("HUP");
    eventually("a second refusal", || told() > before).await;
    assert_eq!(ask(&proxy, "/a/mcp").await.status(), 200);
    assert_eq!(reloads(&proxy), 0);
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_named_and_the_others_are_made() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    reload(&proxy, |text| {
        let text = text.replace("[log]\n", "[log]\nlevel = \"debug\"\n");
        text.replace("[proxy]\n", "[proxy]\nmax_headers = 64\npublic_hosts = [\"mcp.example\"]\n")
            + "[privacy]\nclient_ip = \"full\"\n"
    })
    .await;
    let lines: Vec<Value> = proxy.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let keys: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "this change takes effect at the next start")
        .filter_map(|line| line["key"].as_str())
        .collect();
    assert_eq!(keys, ["proxy.max_headers", "log.level"]);
    let reloaded = lines.iter().find(|line| line["message"] == "configuration reloaded").expect("logged");
    assert_eq!(reloaded["changed"], "proxy.public_hosts, privacy.client_ip");
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("mcp.example", "/a/mcp", &call(1, "add"))).await;
    assert_eq!(client.read_response().await.status(), 200);
    assert_eq!(proxy.stop().await[0]["client_ip"].as_str(), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_legacy_conversation_goes_on_over_a_reload() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut stream = Wire::connect(proxy.proxy).await;
    stream.send(get_stream("localhost", "/a/sse")).await;
    let mut events = upstream.accept().await;
    events.read_request().await;
    events.send([SSE_HEAD.as_bytes(), &chunk("event: endpoint\ndata: /m?s=1\n\n")].concat()).await;
    stream.read_until("/a/m?s=1\n\n").await;
    reload(&proxy, |text| text + "connect_timeout_ms = 77\n" + &upstream.route("b")).await;
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/m?s=1", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    events.send(chunk(format!("data: {}\n\n", result(1)))).await;
    stream.read_until(result(1)).await;
    let rows = proxy.wait_for_rows(1).await;
    assert_eq!((rows[0]["status"].as_str(), rows[0]["match"].as_str()), (Some("ok"), Some("exact")));
}

#[tokio::test]
async fn clients_stay_where_they_are_when_a_server_changes_hands() {
    let upstream = Upstream::bind();
    let address = upstream.address.to_string();
    let proxy = Mcpmeter::start(&upstream.route("a").replace(&address, &format!("{address}/base")));
    let mut stream = Wire::connect(proxy.proxy).await;
    stream.send(get_stream("localhost", "/a/sse")).await;
    let mut events = upstream.accept().await;
    events.read_request().await;
    // Within reach because it was announced, and only for that.
    events.send([SSE_HEAD.as_bytes(), &chunk("event: endpoint\ndata: /m?s=1\n\n")].concat()).await;
    stream.read_until("/a/~/m?s=1\n\n").await;
    let mut begun = Wire::connect(proxy.proxy).await;
    begun.send(post("localhost", "/a/~/m?s=1", &call(1, "before"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    begun.read_response().await;
    reload(&proxy, |text| text + "user_id = \"somebody\"\n").await;
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/~/m?s=1", &call(2, "behind"))).await;
    let mut server = upstream.accept().await;
    assert_eq!(server.read_request().await.start_line(), "POST /m?s=1 HTTP/1.1");
    server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    for id in [1, 2] {
        events.send(chunk(format!("data: {}\n\n", result(id)))).await;
        stream.read_until(result(id)).await;
    }
    let mut rows = proxy.wait_for_rows(2).await;
    rows.sort_by_key(|row| row["rpc_id"].as_str().map(str::to_owned));
    let told =
        rows.iter().map(|row| (row["tool_name"].as_str(), row["user_id"].as_str(), row["match"].as_str()));
    let exact = Some("exact");
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(Some("before"), None, exact), (Some("behind"), Some("somebody"), exact)]
    );
}

#[tokio::test]
async fn no_call_suffers_from_reloads() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    let mut id = 0;
    for round in 0..10 {
        let before = reloads(&proxy);
        rewrite(&proxy, |text| {
            with_routes(&text, &format!("{}user_id = \"u{round}\"\n", upstream.route("a")))
        });
        proxy.signal("HUP");
        while reloads(&proxy) == before {
            id += 1;
            client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
            assert_eq!(client.read_response().await.text(), result(id));
        }
    }
    assert_eq!(proxy.stop().await.len() as u64, id);
}
