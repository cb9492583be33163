//! Programs behind the proxy that do everything wrong: each is a clear error for the client and the operator, and
//! nothing hangs, leaks or stays behind.

use crate::{
    message::call,
    program::{Session, ask, in_session, is_running, odd, text_of},
    support::{Mcpmeter, PATIENCE, eventually},
};
use serde_json::Value;

fn last(rows: &[Value]) -> &Value {
    rows.last().expect("a row")
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_502_and_says_so() {
    let mut mcpmeter =
        Mcpmeter::start("[[route]]\nname = \"odd\"\ncommand = [\"no-such-program-7\", \"x\"]\n");
    let answer = Session::try_open(&mcpmeter).await;
    assert_eq!(
        (answer.status(), answer.text().trim()),
        (502, "mcpmeter: the server could not be started (spawn_failed)")
    );
    let log = mcpmeter.wait_for_log("could not be started");
    assert!(
        log["error"].as_str().is_some_and(|error| error.contains("no program `no-such-program-7`")),
        "{log}"
    );
}

#[tokio::test]
async fn a_program_that_exits_at_once_is_502_and_its_last_words_are_logged() {
    let mut mcpmeter = Mcpmeter::start(&odd(&["--exits", "3"], ""));
    let answer = Session::try_open(&mcpmeter).await;
    assert_eq!(
        (answer.status(), answer.text().trim()),
        (502, "mcpmeter: the server's process has ended (process_exited)")
    );
    let log = mcpmeter.wait_for_log("exited with status 3");
    assert_eq!(log["stderr"], "cannot begin");
}

#[tokio::test]
async fn a_program_that_never_answers_is_ended() {
    let mcpmeter = Mcpmeter::start(&odd(&["--silent"], "start_timeout_ms = 300"));
    let answer = Session::try_open(&mcpmeter).await;
    assert_eq!(answer.status(), 504, "{}", answer.text());
    mcpmeter.signal("TERM");
    assert!(mcpmeter.wait().0.success());
}

#[tokio::test]
async fn stdout_noise() {
    let mcpmeter = Mcpmeter::start(&odd(&["--banner"], ""));
    let session = Session::open(&mcpmeter).await;
    assert_eq!(text_of(&session.call(1, "noise").await), "quiet again");
    assert_eq!(text_of(&session.call(2, "echo a").await), "a");
}

#[tokio::test]
async fn stderr_flood() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    assert_eq!(text_of(&session.call(1, "flood").await), "dry again");
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_program_and_memory_stays_flat() {
    let mcpmeter = Mcpmeter::start(&odd(&[], "max_message_mib = 2"));
    let session = Session::open(&mcpmeter).await;
    let before = resident_kib(mcpmeter.pid());
    let answer = session.call(1, "huge 100").await;
    let expected = "mcpmeter: the server sent a message that is too long (message_too_long)";
    assert_eq!((answer.status(), answer.text().trim()), (502, expected));
    let grown = resident_kib(mcpmeter.pid()).saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
    assert_eq!(session.call(2, "echo a").await.status(), 404, "its session is over");
    let rows = mcpmeter.wait_for_rows(2).await;
    assert_eq!(
        (&rows[0]["status"], &rows[0]["error_code"]),
        (&"upstream_error".into(), &"message_too_long".into())
    );
}

#[tokio::test]
async fn a_long_message_passes() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    assert!(session.call(1, "huge 20").await.body.len() > 20_000_000);
    let long = call(2, &format!("echo {}", "z".repeat(20_000_000)));
    assert_eq!(text_of(&session.send(&long).await).len(), 20_000_000);
}

#[tokio::test]
async fn a_request_that_is_too_long_is_413() {
    let mcpmeter = Mcpmeter::start(&odd(&[], "max_message_mib = 1"));
    let session = Session::open(&mcpmeter).await;
    let answer = session.send(&call(1, &"z".repeat(1 << 20))).await;
    assert_eq!(answer.status(), 413);
    assert!(answer.text().contains("longer than 1 MiB (max_message_mib)"));
    assert_eq!(text_of(&session.call(2, "echo a").await), "a");
}

#[tokio::test]
async fn a_program_that_stops_reading_is_told_no_more_than_is_kept() {
    let mcpmeter = Mcpmeter::start(&odd(&[], "max_message_mib = 1"));
    let session = Session::open(&mcpmeter).await;
    let _waiting = session.begin(&call(1, "deaf")).await;
    let notice = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"y":"{}"}}}}"#,
        "z".repeat(1 << 19)
    );
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(session.send(&notice).await.status());
    }
    let taken = statuses.iter().take_while(|status| **status == 202).count();
    assert!(
        (16..=19).contains(&taken) && statuses[taken..].iter().all(|status| *status == 502),
        "{statuses:?}"
    );
    assert_eq!(session.delete().await, 200);
}

#[tokio::test]
async fn child_crash() {
    let mut mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"p"}}}"#;
    let mut streaming = session.begin(body).await;
    streaming.read_until("\"progressToken\":\"p\"").await;
    let mut waiting = session.begin(&call(2, "hold")).await;
    let mut asked = 10;
    while text_of(&session.call(asked, "held").await) != "2" {
        asked += 1;
    }
    let crashing = session.call(3, "crash").await;
    assert_eq!(
        (crashing.status(), crashing.text().trim()),
        (502, "mcpmeter: the server's process has ended (process_exited)")
    );
    assert_eq!(waiting.read_response().await.status(), 502);
    let (_, end) = streaming.read_to_end().await;
    assert_eq!(end, crate::raw::End::Closed, "without a last chunk");
    assert!(!streaming.got().ends_with(b"0\r\n\r\n"));
    assert_eq!(session.call(4, "echo a").await.status(), 404);
    mcpmeter.wait_for_log("was killed by signal 11 (SIGSEGV)");
    // The client begins anew, and has another program.
    let again = Session::open(&mcpmeter).await;
    assert_eq!(text_of(&again.call(1, "echo b").await), "b");
    let rows = mcpmeter.stop().await;
    let crashed: Vec<_> = rows.iter().filter(|row| row["error_code"] == "process_exited").collect();
    assert_eq!(crashed.len(), 3, "{rows:#?}");
    for row in crashed {
        assert_eq!((&row["status"], &row["status_detail"]), (&"upstream_error".into(), &"aborted".into()));
        assert!(row["error_message"].as_str().is_some_and(|message| message.contains("SIGSEGV")), "{row}");
    }
}

#[tokio::test]
async fn tree_kill() {
    let mcpmeter = Mcpmeter::start(&odd(&["--ignores-term"], ""));
    let session = Session::open(&mcpmeter).await;
    let pid = text_of(&session.call(1, "pid").await);
    session.call(2, "family").await;
    eventually("its family runs", || in_session(&pid) >= 3).await;
    assert_eq!(session.delete().await, 200);
    eventually("nobody of the session is left", || in_session(&pid) == 0).await;
}

#[tokio::test]
async fn nothing_survives_a_proxy_that_is_killed() {
    let mcpmeter = Mcpmeter::start(&odd(&["--ignores-term"], ""));
    let session = Session::open(&mcpmeter).await;
    let pid = text_of(&session.call(1, "pid").await);
    session.call(2, "family").await;
    mcpmeter.signal("KILL");
    eventually("nobody of the session is left", || in_session(&pid) == 0).await;
}

#[tokio::test]
async fn nothing_survives_a_pipe_that_is_killed() {
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let script = "trap '' TERM HUP; sleep 600 & echo $$ >&2; while :; do sleep 1; done";
    let mut pipe = crate::support::program()
        .args(["stdio", "--", "sh", "-c", script])
        .env("XDG_STATE_HOME", folder.path())
        .env("MCPMETER_STORE__QUEUE_DIRECTORY", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let said = BufReader::new(pipe.stderr.take().expect("piped")).lines().map_while(Result::ok);
    // The program says its number, and the proxy that it has got so far, in either order.
    let said: Vec<_> = said.take(2).collect();
    let session = said.iter().find(|line| line.parse::<u32>().is_ok()).expect("a process id").clone();
    assert!(in_session(&session) >= 2);
    pipe.kill().expect("it runs");
    pipe.wait().expect("it ends");
    eventually("nobody of the session is left", || in_session(&session) == 0).await;
}

#[tokio::test]
async fn a_stop_ends_the_programs_first_and_leaves_nobody() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let pid = text_of(&session.call(1, "pid").await);
    let _stream = session.listen().await;
    let rows = mcpmeter.stop().await;
    assert_eq!((in_session(&pid), last(&rows)["status"].as_str()), (0, Some("ok")));
}

#[tokio::test]
async fn env_clean() {
    let mcpmeter = Mcpmeter::start(&odd(&[], "env = { GIVEN = \"it\" }"));
    let session = Session::open(&mcpmeter).await;
    let env: Value = serde_json::from_str(&text_of(&session.call(1, "env").await)).expect("JSON");
    assert_eq!(env["GIVEN"], "it");
    // What the proxy has itself, from the test. (Which variables there are is tested where there is no pyenv.)
    let handed_down = ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"];
    assert!(handed_down.iter().all(|name| std::env::var_os(name).is_some() && env[name].is_null()), "{env}");
}

#[tokio::test]
async fn more_processes_than_allowed_are_503() {
    let mcpmeter = Mcpmeter::start(&odd(&[], "max_processes = 2"));
    let first = Session::open(&mcpmeter).await;
    let _second = Session::open(&mcpmeter).await;
    let third = Session::try_open(&mcpmeter).await;
    assert_eq!(
        (third.status(), third.header("retry-after").as_deref()),
        (503, Some("1")),
        "{}",
        third.text()
    );
    first.delete().await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while Session::try_open(&mcpmeter).await.status() != 200 {
        assert!(std::time::Instant::now() < deadline, "there is no room again");
    }
}

#[tokio::test]
async fn a_program_that_nobody_uses_is_ended() {
    let mcpmeter = Mcpmeter::start(&odd(&[], "idle_timeout_ms = 700"));
    let session = Session::open(&mcpmeter).await;
    let pid = text_of(&session.call(1, "pid").await);
    let stream = session.listen().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert!(is_running(&pid), "a stream is a use");
    stream.close().await;
    eventually("it is gone", || in_session(&pid) == 0).await;
    assert_eq!(session.call(2, "echo a").await.status(), 404);
}

#[tokio::test]
async fn a_shared_program_that_keeps_crashing_is_started_later_and_later() {
    let mcpmeter = Mcpmeter::start(&odd(&["modern"], ""));
    let headers = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: crash\r\n";
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"crash","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(ask(mcpmeter.proxy, "/odd/mcp", headers, body).await.status());
    }
    assert_eq!(statuses, [502, 502, 502, 503, 503], "after half a second, after one, then not for two");
}

#[tokio::test]
async fn a_hundred_sessions_left_in_every_way_leave_nothing() {
    let mcpmeter = Mcpmeter::start(&odd(&[], "idle_timeout_ms = 1000\nmax_processes = 200"));
    // The first of everything may stay: the host's thread, the undertaker.
    let first = Session::open(&mcpmeter).await;
    first.delete().await;
    eventually("the first is gone", || children(mcpmeter.pid()) == 1).await;
    let before = descriptors(mcpmeter.pid());
    for round in 0..10 {
        let mut leaving = tokio::task::JoinSet::new();
        for way in 0..10 {
            let session = Session::open(&mcpmeter).await;
            leaving.spawn(async move { leave(session, way).await });
        }
        while let Some(left) = leaving.join_next().await {
            left.expect("it leaves");
        }
        assert!(round < 10);
    }
    eventually("no program is left", || children(mcpmeter.pid()) == 1).await;
    eventually("no descriptor is left", || descriptors(mcpmeter.pid()) <= before).await;
}

/// The ways a client can go.
async fn leave(session: Session, way: u32) {
    match way {
        0 => assert_eq!(session.delete().await, 200),
        1 => drop(session),
        2 => drop(session.listen().await),
        3 => session.listen().await.reset(),
        4 => drop(session.begin(&call(1, "hold")).await),
        5 => session.begin(&call(1, "hold")).await.reset(),
        6 => {
            let open = session.begin(&call(1, "never")).await;
            session.delete().await;
            drop(open);
        }
        7 => assert_eq!(session.call(1, "exit 0").await.status(), 502),
        8 => assert_eq!(session.call(1, "crash").await.status(), 502),
        _ => {
            let stream = session.listen().await;
            session.call(1, "family").await;
            drop(stream);
        }
    }
}

/// Processes whose parent it is, zombies included.
fn children(parent: u32) -> usize {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let all = std::fs::read_dir("/proc").expect("procfs").flatten().filter_map(stat);
    let is_child = |stat: &String| {
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1) == Some(&parent.to_string())
    };
    all.filter(is_child).count()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("procfs").count()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
