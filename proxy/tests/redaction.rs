//! What a server or a client says in secret reaches the other side as it is, and nothing that is kept: no row, no file, no
//! log line, no metric.

use crate::{
    message::{call, json_answer, post},
    program::Session,
    raw::{Upstream, Wire},
    support::{Mcpmeter, eventually},
};
use serde_json::json;
use std::{fs, path::Path};

/// One of each of the kinds that a message may have, and one of the operator's.
const SECRETS: [&str; 6] = [
    "hunter2hunter2",
    "ghp_Ab3dEf6hIj9kLm2nOp",
    "4111 1111 1111 1111",
    "alice@example.com",
    "090-1234-5678",
    "E-123456",
];

fn message() -> String {
    format!("no: password={}, {}", SECRETS[0], SECRETS[1..].join(", "))
}

/// A call that is answered with an error in which everything is told.
async fn fail(proxy: &Mcpmeter, upstream: &Upstream, id: u64) {
    let error = json!({ "code": -32000, "message": message(), "data": { "stack": [message()], "token": SECRETS[1] } });
    let body = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(id, SECRETS[3]))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(json_answer(&body)).await;
    assert_eq!(client.read_response().await.text(), body, "on the wire nothing changes");
}

/// What stands in the files of a folder, but for the configuration.
fn files(folder: &Path) -> Vec<u8> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.is_file() && path.extension().is_none_or(|end| end != "toml"));
    files.flat_map(|path| fs::read(path).unwrap_or_default()).collect()
}

#[tokio::test]
async fn no_secret_is_in_a_row_a_file_a_log_line_or_a_metric() {
    let upstream = Upstream::bind();
    let privacy = "[privacy]\nredact = [{ name = \"employee\", pattern = 'E-\\d{6}' }]\n";
    let proxy = Mcpmeter::start(&format!("{privacy}{}", upstream.route("a")));
    for id in 1..=3 {
        fail(&proxy, &upstream, id).await;
    }
    let rows = proxy.wait_for_rows(3).await;
    let said = "no: password=[redacted], [redacted GitHub token], [redacted card number], [redacted e-mail address], \
                [redacted phone number], [redacted employee]";
    assert_eq!(rows[0]["error_message"], said);
    assert_eq!(rows[0]["tool_name"], "[redacted e-mail address]");
    let (_, metrics) = proxy.admin("/metrics").await;
    let kept = [files(proxy.folder()), proxy.log().join("\n").into_bytes(), metrics.into_bytes()].concat();
    for secret in SECRETS {
        let is_kept = kept.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!is_kept, "{secret}");
    }
    assert!(kept.windows(said.len()).any(|bytes| bytes == said.as_bytes()), "the rows were among the files");
}

#[tokio::test]
async fn a_reload_applies_new_patterns_to_routes_that_have_not_changed() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    fail(&proxy, &upstream, 1).await;
    let text = fs::read_to_string(proxy.config_file()).expect("a configuration");
    let privacy =
        "[privacy]\nkeep = [\"email\"]\n[[privacy.redact]]\nname = \"employee\"\npattern = 'E-\\d{6}'\n";
    fs::write(proxy.config_file(), format!("{text}{privacy}")).expect("written");
    proxy.signal("HUP");
    let is_reloaded = || proxy.log().iter().any(|line| line.contains("privacy.redact, privacy.keep"));
    eventually("a reload", is_reloaded).await;
    fail(&proxy, &upstream, 2).await;
    let rows = proxy.stop().await;
    let message = |row: usize| rows[row]["error_message"].as_str().expect("a message").to_owned();
    assert!(
        message(0).contains("[redacted e-mail address]") && message(0).contains("E-123456"),
        "{}",
        message(0)
    );
    assert!(
        message(1).contains("alice@example.com") && message(1).contains("[redacted employee]"),
        "{}",
        message(1)
    );
}

#[tokio::test]
async fn what_a_program_says_before_it_dies_is_logged_without_its_secrets() {
    let script = format!(
        "read -r line; echo '{{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{{}}}}'; read -r line; read -r line; \
         echo {} password={} >&2; exit 3",
        SECRETS[1], SECRETS[0]
    );
    let command = json!(["sh", "-c", script]);
    let mut proxy = Mcpmeter::start(&format!("[[route]]\nname = \"odd\"\ncommand = {command}\n"));
    let session = Session::open(&proxy).await;
    session.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!(session.call(1, "t").await.status(), 502);
    let line = proxy.wait_for_log("exited with status 3");
    assert_eq!(line["stderr"], "[redacted GitHub token] password=[redacted]");
    let rows = proxy.wait_for_rows(1).await;
    assert!(rows[0]["error_detail"].to_string().contains("password=[redacted]"), "{}", rows[0]);
}
