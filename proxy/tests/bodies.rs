//! Bodies of calls: kept where `record.bodies` wants them, without secrets, cut, encrypted, and for whoever has the key.

use crate::{
    message::{LAST_CHUNK, SSE_HEAD, call, chunk, json_answer, post, result},
    piped::{Piped, State},
    program::Session,
    raw::{Upstream, Wire},
    serving::Serving,
    spawned::run,
    support::{Mcpmeter, PATIENCE, eventually, postgres::Cluster},
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER_KEY: &str = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";

/// One of each of the kinds that a message may have.
const SECRETS: [&str; 5] = [
    "hunter2hunter2",
    "ghp_Ab3dEf6hIj9kLm2nOp",
    "4111 1111 1111 1111",
    "alice@example.com",
    "AKIAIOSFODNN7EXAMPLE",
];
/// What is said beside them, and is no secret: of a body it is kept, and nobody reads it without the key.
const WORDS: &str = "the quick brown fox";

/// A failed call is kept, or all are.
fn record(bodies: &str) -> String {
    format!("[record]\nbodies = \"{bodies}\"\nbodies_key = {{ file = \"bodies.key\" }}\n")
}

fn start(toml: &str) -> Mcpmeter {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("bodies.key"), format!("{KEY}\n")).expect("written");
    Mcpmeter::start_in(folder, toml, &[])
}

async fn exchange(proxy: &Mcpmeter, target: &str, body: &str) -> String {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", target, body)).await;
    client.read_response().await.text()
}

/// `mcpmeter body` of a call: exit code, request, answer, and everything that it said.
fn read(folder: &Path, row: &Value) -> (Option<i32>, Option<Value>, Option<Value>, String) {
    let (code, stdout, stderr) = run(folder, &["body", row["id"].as_str().expect("an id"), "--json"]);
    let told: Value = serde_json::from_str(&stdout).unwrap_or_default();
    let side = |side: &str| {
        told["bodies"].as_array().and_then(|all| all.iter().find(|body| body["side"] == side)).cloned()
    };
    (code, side("request"), side("answer"), stdout + &stderr)
}

/// The texts, once they are there: a body comes a moment after its row.
async fn texts(folder: &Path, row: &Value) -> [Option<String>; 2] {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, request, answer, said) = read(folder, row);
        if code == Some(0) {
            return [request, answer].map(|body| Some(body?["text"].as_str()?.to_owned()));
        }
        assert!(Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn both(request: &str, answer: &str) -> [Option<String>; 2] {
    [request, answer].map(|text| Some(text.to_owned()))
}

/// The number of a counter without labels, or of one with them.
async fn metric(proxy: &Mcpmeter, name: &str) -> u64 {
    let (_, text) = proxy.admin("/metrics").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// What stands in the files of a folder, but for the configuration and the key.
fn files(folder: &Path) -> Vec<u8> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_data = |path: &std::path::PathBuf| {
        path.is_file() && path.extension().is_none_or(|end| end != "toml" && end != "key")
    };
    entries.filter(is_data).flat_map(|path| fs::read(path).unwrap_or_default()).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn error(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"{WORDS}"}}}}"#)
}

/// An upstream of which calls of the tool `fail` fail.
fn serving() -> Serving {
    Serving::with(|request| {
        let call: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let id = call["id"].as_u64().unwrap_or_default();
        json_answer(&if call["params"]["name"] == "fail" { error(id) } else { result(id) })
    })
}

#[tokio::test]
async fn by_default_nothing_is_kept() {
    let upstream = serving();
    let proxy = start(&upstream.route("a"));
    exchange(&proxy, "/a/mcp", &call(1, "fail")).await;
    let rows = proxy.wait_for_rows(1).await;
    assert_eq!(metric(&proxy, "mcpmeter_bodies_kept_total").await, 0);
    proxy.signal("TERM");
    let (_, kept) = proxy.wait();
    let (code, _, _, said) = read(kept.path(), &rows[0]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no body is kept of the call") && said.contains("record.bodies is \"off\""),
        "{said}"
    );
}

#[tokio::test]
async fn errors_keeps_failed_calls_all_keeps_all_and_a_route_decides() {
    let upstream = serving();
    let routes = format!(
        "{}[route.record]\nbodies = \"all\"\n{}{}[route.record]\nbodies = \"off\"\n",
        upstream.route("all"),
        upstream.route("errors"),
        upstream.route("off"),
    );
    let proxy = start(&(record("errors") + &routes));
    for (id, route) in (1..).zip(["all", "errors", "off"]) {
        for tool in ["add", "fail"] {
            exchange(&proxy, &format!("/{route}/mcp"), &call(id, tool)).await;
        }
    }
    let list = r#"{"jsonrpc":"2.0","id":9,"method":"tools/list"}"#;
    exchange(&proxy, "/all/mcp", list).await;
    let rows = proxy.wait_for_rows(7).await;
    let find = |route: &str, tool: &str| {
        let is = |row: &&Value| row["mcp_server_instance_id"] == route && row["tool_name"] == tool;
        rows.iter().find(is).expect("a row").clone()
    };
    let folder = proxy.folder().to_owned();
    let of = async |route, tool| texts(&folder, &find(route, tool)).await;
    assert_eq!(of("all", "add").await, both(&call(1, "add"), &result(1)));
    assert_eq!(of("all", "fail").await, both(&call(1, "fail"), &error(1)));
    assert_eq!(of("errors", "fail").await, both(&call(2, "fail"), &error(2)));
    let listed = rows.iter().find(|row| row["method"] == "tools/list").expect("a row");
    assert_eq!(texts(&folder, listed).await, both(list, &result(9)));
    assert_eq!(metric(&proxy, "mcpmeter_bodies_kept_total").await, 8);
    proxy.signal("TERM");
    let (_, kept) = proxy.wait();
    for (route, tool) in [("errors", "add"), ("off", "add"), ("off", "fail")] {
        assert_eq!(read(kept.path(), &find(route, tool)).0, Some(1), "{route} {tool}");
    }
}

#[tokio::test]
async fn no_secret_is_in_a_body_and_no_body_is_on_the_disk() {
    let said = format!("{WORDS}: password={}, {}", SECRETS[0], SECRETS[1..].join(", "));
    let answer = json!({ "jsonrpc": "2.0", "id": 1, "result": {
        "content": [{ "type": "text", "text": json!({ "password": SECRETS[0], "said": said }).to_string() }],
        "structuredContent": { "api_key": SECRETS[0], "rows": [[SECRETS[2], WORDS]] } } });
    let answer = answer.to_string();
    let asked = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "add",
        "arguments": { "note": said, "password": SECRETS[0] } } });
    // As some clients write it: with escapes that mean the same.
    let asked = asked.to_string().replace("ghp_", "\\u0067hp_").replace('@', "\\u0040");
    let told = answer.clone();
    let upstream = Serving::with(move |_| json_answer(&told));
    let proxy = start(&(record("all") + &upstream.route("a")));
    assert_eq!(exchange(&proxy, "/a/mcp", &asked).await, answer, "on the wire nothing changes");
    let rows = proxy.wait_for_rows(1).await;
    let bodies = texts(proxy.folder(), &rows[0]).await.map(|text| text.expect("it is kept"));
    for body in &bodies {
        assert!(body.contains(WORDS) && body.contains("[redacted]"), "{body}");
        for secret in SECRETS {
            assert!(!body.contains(secret), "{secret} in {body}");
        }
        assert!(!body.contains("hp_Ab3d") && serde_json::from_str::<Value>(body).is_ok(), "{body}");
    }
    let (_, metrics) = proxy.admin("/metrics").await;
    let on_disk = [files(proxy.folder()), proxy.log().join("\n").into_bytes(), metrics.into_bytes()].concat();
    assert!(contains(&on_disk, "mcp_call_body"), "the store is among the files");
    for text in SECRETS.iter().chain([&WORDS, &"structuredContent", &"[redacted]"]) {
        assert!(!contains(&on_disk, text), "{text}");
    }
    // Not when it has been killed either.
    exchange(&proxy, "/a/mcp", &asked).await;
    proxy.signal("KILL");
    let (_, folder) = proxy.wait();
    let on_disk = files(folder.path());
    for text in SECRETS.iter().chain([&WORDS, &"structuredContent", &"[redacted]"]) {
        assert!(!contains(&on_disk, text), "{text}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_a_secret_at_the_cut_is_not() {
    let secret = SECRETS[1];
    let upstream = Serving::with(move |request| {
        let call: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, pad) = (call["id"].as_u64().unwrap_or_default(), "word ".repeat(150));
        // The secret moves over the cap, bit by bit.
        let text = format!("{pad}{} {secret} {}", "x".repeat(id as usize * 7), "more ".repeat(20_000));
        json_answer(&json!({ "jsonrpc": "2.0", "id": id, "result": { "text": text } }).to_string())
    });
    let proxy = start(&(record("all") + "bodies_max_bytes = 1024\n" + &upstream.route("a")));
    for id in 0..45 {
        exchange(&proxy, "/a/mcp", &call(id, "add")).await;
    }
    let rows = proxy.wait_for_rows(45).await;
    texts(proxy.folder(), &rows[44]).await;
    let mut masked = 0;
    for row in &rows {
        let (_, request, answer, said) = read(proxy.folder(), row);
        let (request, answer) = (request.expect("kept"), answer.expect("kept"));
        assert_eq!((&request["cut"], &answer["cut"]), (&json!(false), &json!(true)), "{said}");
        assert!(answer["bytes"].as_u64() > Some(100_000), "{said}");
        let text = answer["text"].as_str().expect("a text");
        assert!(text.len() <= 1024 && !text.contains("ghp_A"), "{text}");
        masked += u64::from(text.contains("[redacted GitHub token]"));
    }
    assert!(masked > 10, "{masked} of them had it before the cut");
    let (code, stdout, stderr) = run(proxy.folder(), &["body", rows[0]["id"].as_str().expect("an id")]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 2), "{stdout}{stderr}");
    assert!(stderr.contains("of which 1024 are kept"), "{stderr}");
}

#[tokio::test]
async fn of_a_stream_an_encoded_body_and_a_batch_each_call_has_its_own() {
    let upstream = Upstream::bind();
    let proxy = start(&(record("all") + &upstream.route("a")));
    let begin = async |body: &str| {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(post("localhost", "/a/mcp", body)).await;
        let mut server = upstream.accept().await;
        server.read_request().await;
        (client, server)
    };
    let (mut client, mut server) = begin(&call(1, "add")).await;
    server.send(SSE_HEAD).await;
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
    server.send(chunk(format!("data: {progress}\n\n"))).await;
    server.send(chunk(format!("id: 7\ndata: {}\n\ndata: {progress}\n\n", error(1)))).await;
    server.send(LAST_CHUNK).await;
    client.read_response().await;
    server.close().await;

    let (mut client, mut server) = begin(&call(2, "add")).await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(error(2).as_bytes()).expect("memory");
    let body = gzip.finish().expect("memory");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    server.send([head.as_bytes(), &body].concat()).await;
    client.read_response().await;
    server.close().await;

    let ping = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;
    let (mut client, mut server) = begin(&format!("[{},{ping},{}]", call(3, "add"), call(4, "add"))).await;
    let ponged = r#"{"jsonrpc":"2.0","id":5,"result":{}}"#;
    server.send(json_answer(&format!("[{}, {ponged}, {}]", error(4), result(3)))).await;
    client.read_response().await;
    server.close().await;

    // One that is never answered has what asked.
    let (client, server) = begin(&call(6, "add")).await;
    server.reset();
    drop(client);
    let rows = proxy.wait_for_rows(5).await;
    let of = async |id: &str| {
        let row = rows.iter().find(|row| row["rpc_id"] == id).expect("a row");
        texts(proxy.folder(), row).await
    };
    assert_eq!(of("1").await, both(&call(1, "add"), &error(1)));
    assert_eq!(of("2").await, both(&call(2, "add"), &error(2)));
    assert_eq!(of("3").await, both(&call(3, "add"), &result(3)));
    assert_eq!(of("4").await, both(&call(4, "add"), &error(4)));
    assert_eq!(of("6").await, [Some(call(6, "add")), None]);
}

/// Answers the first request and every one after it, with its own number.
const PROGRAM: &str = r#"n=0; while read -r line; do case "$line" in *'"id"'*)
  printf '{"jsonrpc":"2.0","id":%d,"result":{"content":[],"said":"%s"}}\n' "$n" "quick brown fox"; n=$((n+1));; esac; done"#;

#[tokio::test]
async fn servers_that_are_programs_have_them_too() {
    let command = json!(["sh", "-c", PROGRAM]);
    let proxy = start(&format!("{}[[route]]\nname = \"odd\"\ncommand = {command}\n", record("all")));
    let session = Session::open(&proxy).await;
    session.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!(session.call(1, "t").await.status(), 200);
    let rows = proxy.wait_for_rows(1).await;
    let [request, answer] = texts(proxy.folder(), &rows[0]).await.map(|text| text.expect("kept"));
    assert!(request.contains("tools/call") && answer.contains("quick brown fox"), "{request} {answer}");
}

#[tokio::test]
async fn a_client_that_speaks_stdio_has_them_if_it_is_configured() {
    let state = State::new();
    fs::write(state.path().join("bodies.key"), KEY).expect("written");
    let text = record("all") + "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
    let config = state.path().join("mcpmeter.toml");
    fs::write(&config, text).expect("written");
    let config = config.display().to_string();
    let mut piped = Piped::start(&state, &["-c", &config, "--name", "odd", "--", "sh", "-c", PROGRAM]);
    piped.initialize();
    piped.call(1, "t", &json!({ "q": WORDS }));
    piped.hang_up();
    assert_eq!(piped.wait(), Some(0), "{}", piped.complaints());
    let rows = crate::support::sqlite_rows(&state.path().join("mcpmeter.db")).await;
    let [request, answer] = texts(state.path(), &rows[0]).await.map(|text| text.expect("kept"));
    assert!(request.contains(WORDS) && answer.contains("brown fox"), "{request} {answer}");
}

#[tokio::test]
async fn keys_can_be_exchanged_and_without_the_right_one_nobody_reads_anything() {
    let upstream = serving();
    let proxy = start(&(record("all") + &upstream.route("a")));
    exchange(&proxy, "/a/mcp", &call(1, "add")).await;
    let rows = proxy.wait_for_rows(1).await;
    texts(proxy.folder(), &rows[0]).await;
    let text = fs::read_to_string(proxy.config_file()).expect("a configuration");
    fs::write(proxy.folder().join("other.key"), OTHER_KEY).expect("written");
    let rewrite = |from: &str, to: &str| {
        let next = proxy.folder().join("next.toml");
        fs::write(&next, text.replace(from, to)).expect("written");
        fs::rename(next, proxy.config_file()).expect("renamed");
    };
    // The new one first: it seals from now on, and what was sealed before can be read.
    let first = "bodies_key = { file = \"bodies.key\" }";
    rewrite(first, "bodies_key = [{ file = \"other.key\" }, { file = \"bodies.key\" }]");
    proxy.signal("HUP");
    let is_reloaded = || proxy.log().iter().any(|line| line.contains("record.bodies_key"));
    eventually("a reload", is_reloaded).await;
    exchange(&proxy, "/a/mcp", &call(2, "add")).await;
    let rows = proxy.wait_for_rows(2).await;
    assert_eq!(texts(proxy.folder(), &rows[1]).await, both(&call(2, "add"), &result(2)));
    assert_eq!(texts(proxy.folder(), &rows[0]).await, both(&call(1, "add"), &result(1)));
    rewrite(first, first);
    let (code, _, _, said) = read(proxy.folder(), &rows[1]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot decrypt") && said.contains("is not among those"), "{said}");
    rewrite(&record("all"), "");
    let (code, _, _, said) = read(proxy.folder(), &rows[1]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there is no record.bodies_key"), "{said}");
    for said in [proxy.log().join("\n"), said] {
        assert!(!said.contains("MDEyMz") && !said.contains("YWJjZGV"), "{said}");
    }
}

#[tokio::test]
async fn a_reload_turns_them_on_and_off() {
    let upstream = serving();
    let proxy = start(&upstream.route("a"));
    let text = fs::read_to_string(proxy.config_file()).expect("a configuration");
    let mut reloads = 0;
    let mut rows = Vec::new();
    for bodies in ["all", "off"] {
        fs::write(proxy.config_file(), format!("{text}{}", record(bodies))).expect("written");
        proxy.signal("HUP");
        reloads += 1;
        let done =
            || proxy.log().iter().filter(|line| line.contains("configuration reloaded")).count() >= reloads;
        eventually("a reload", done).await;
        exchange(&proxy, "/a/mcp", &call(reloads as u64, "add")).await;
        rows = proxy.wait_for_rows(reloads).await;
    }
    assert_eq!(texts(proxy.folder(), &rows[0]).await, both(&call(1, "add"), &result(1)));
    assert_eq!(metric(&proxy, "mcpmeter_bodies_kept_total").await, 2);
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_not_kept_and_counted_and_the_row_is_there() {
    let upstream = serving();
    let proxy = start(&(record("all") + &upstream.route("a")));
    let text =
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":"?"}}}"#;
    let body: Vec<u8> = text.iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect();
    let mut client = Wire::connect(proxy.proxy).await;
    let head = post("localhost", "/a/mcp", &"x".repeat(body.len()));
    let head = head.split_once("\r\n\r\n").expect("a head").0;
    client.send([head.as_bytes(), b"\r\n\r\n", &body].concat()).await;
    client.read_response().await;
    let rows = proxy.wait_for_rows(1).await;
    assert_eq!(texts(proxy.folder(), &rows[0]).await, [None, Some(result(0))]);
    assert_eq!(metric(&proxy, "mcpmeter_bodies_dropped_total{reason=\"not_utf8\"}").await, 1);
}

#[tokio::test]
async fn a_person_is_erased_with_what_was_said() {
    let upstream = serving();
    let routes = ["ann", "bob"].map(|user| format!("{}user_id = \"{user}\"\n", upstream.route(user)));
    let proxy = start(&(record("all") + &routes.concat()));
    for user in ["ann", "bob"] {
        exchange(&proxy, &format!("/{user}/mcp"), &call(1, "add")).await;
    }
    let rows = proxy.wait_for_rows(2).await;
    let [ann, bob] =
        ["ann", "bob"].map(|user| rows.iter().find(|row| row["user_id"] == user).expect("a row").clone());
    texts(proxy.folder(), &ann).await;
    texts(proxy.folder(), &bob).await;
    let folder = proxy.folder().to_owned();
    let erase = |arguments: &[&str]| {
        let (code, stdout, stderr) =
            run(&folder, &[&["erase", "--user", "ann", "--json"], arguments].concat());
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        let report: Value = serde_json::from_str(&stdout).expect("JSON");
        let rows = report["rows"].as_array().expect("rows").iter();
        rows.filter(|row| row["table"] == "mcp_call_body").filter_map(|row| row["rows"].as_u64()).sum::<u64>()
    };
    assert_eq!(erase(&["--dry-run"]), 2);
    // They go with anonymising, too.
    assert_eq!(erase(&["--anonymise", "--yes"]), 2);
    assert_eq!(erase(&["--dry-run"]), 0);
    assert_eq!(read(&folder, &ann).0, Some(1));
    assert_eq!(texts(&folder, &bob).await, both(&call(1, "add"), &result(1)));
    assert_eq!(proxy.rows().await.len(), 2);
}

#[tokio::test]
async fn postgresql_has_them_and_the_outbox_until_then() {
    let (cluster, upstream) = (Cluster::shared(), serving());
    let url = cluster.database();
    let routes = ["ann", "bob"].map(|user| format!("{}user_id = \"{user}\"\n", upstream.route(user)));
    let proxy = start(&format!("[store]\nurl = \"{url}\"\n{}{}", record("errors"), routes.concat()));
    for tool in ["add", "fail"] {
        for user in ["ann", "bob"] {
            exchange(&proxy, &format!("/{user}/mcp"), &call(1, tool)).await;
        }
    }
    let count = |what: &str| cluster.query(&url, &format!("select count(*) from mcpmeter.{what}"));
    eventually("the rows", || {
        !cluster.query(&url, "select to_regclass('mcpmeter.mcp_call_body')").is_empty()
            && count("mcp_call_body") == "4"
            && count("mcp_server_request_log") == "4"
    })
    .await;
    let id = |user: &str| {
        let select = "select id from mcpmeter.mcp_server_request_log where tool_name = 'fail' and user_id";
        json!({ "id": cluster.query(&url, &format!("{select} = '{user}'")) })
    };
    let (ann, bob) = (id("ann"), id("bob"));
    assert_eq!(texts(proxy.folder(), &ann).await, both(&call(1, "fail"), &error(1)));
    let dump =
        cluster.query(&url, "select string_agg(encode(sealed, 'escape'), '') from mcpmeter.mcp_call_body");
    assert!(!dump.contains("quick") && !dump.contains("jsonrpc"), "{dump}");
    let (code, stdout, stderr) = run(proxy.folder(), &["erase", "--user", "ann", "--yes", "--json"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_eq!(count("mcp_call_body"), "2", "{stdout}");
    assert_eq!(read(proxy.folder(), &ann).0, Some(1));
    assert_eq!(texts(proxy.folder(), &bob).await, both(&call(1, "fail"), &error(1)));
    proxy.signal("TERM");
    assert!(proxy.wait().0.success());
    assert_eq!(count("mcp_call_body"), "2");
}

#[tokio::test]
async fn what_is_kept_at_the_end_is_written_before_it() {
    let upstream = serving();
    let proxy = start(&(record("all") + &upstream.route("a")));
    for id in 0..200 {
        exchange(&proxy, "/a/mcp", &call(id, "fail")).await;
    }
    proxy.signal("TERM");
    let (status, folder) = proxy.wait();
    assert!(status.success());
    let rows = crate::support::sqlite_rows(&folder.path().join("mcpmeter.db")).await;
    assert_eq!(rows.len(), 200);
    for row in [&rows[0], &rows[198], &rows[199]] {
        let (code, _, answer, said) = read(folder.path(), row);
        assert_eq!(code, Some(0), "{said}");
        assert!(answer.is_some_and(|answer| answer["text"].to_string().contains(WORDS)), "{said}");
    }
}
