//! Bodies for servers that are programs: they are read whole, so there is an end to how much is held, and for how long.

use crate::{
    judged_bodies::{shows, stalled},
    message::{call, post},
    raw::Wire,
    support::Mcpmeter,
};

/// A program that never answers.
const SILENT: &str = "[[route]]\nname = \"a\"\ncommand = [\"sleep\", \"600\"]\n";

#[tokio::test]
async fn no_more_is_held_than_there_is_room_for() {
    let policy = "[policy]\nmax_body_bytes = 65536\nmax_held_bytes = 1048576\n";
    let proxy = Mcpmeter::start(&format!("{policy}{SILENT}"));
    let _first = stalled(&proxy, "/a/mcp", 900_000).await;
    // How it comes in pieces decides which of them is the first.
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while held(&proxy).await < 800_000 {
        assert!(std::time::Instant::now() < deadline, "what is held is not counted");
    }
    let mut second = stalled(&proxy, "/a/mcp", 900_000).await;
    let refused = second.read_response().await;
    assert!(refused.text().contains("(max_held_bytes)"), "{}", refused.text());
    drop((_first, second));
    shows(&proxy, "mcpmeter_held_body_bytes 0\n").await;
    let rows = proxy.stop().await;
    assert!(
        rows.iter().any(|row| row["error_code"] == "max_held_bytes" && row["status"] == "limited"),
        "{rows:#?}"
    );
}

async fn held(proxy: &Mcpmeter) -> u64 {
    let metrics = proxy.admin("/metrics").await.1;
    let line = metrics.lines().find_map(|line| line.strip_prefix("mcpmeter_held_body_bytes "));
    line.and_then(|number| number.parse().ok()).expect("the metric")
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_a_while() {
    let proxy = Mcpmeter::start(&format!("[policy]\nbody_timeout_ms = 300\n{SILENT}"));
    let answer = stalled(&proxy, "/a/mcp", 0).await.read_response().await;
    assert_eq!((answer.status(), answer.text().contains("(body_timeout)")), (408, true), "{}", answer.text());
    let rows = proxy.stop().await;
    let told = rows.iter().map(|row| [&row["status"], &row["origin"], &row["tool_name"]]);
    assert_eq!(told.collect::<Vec<_>>(), [["cancelled", "client", "ls"]]);
}

#[tokio::test]
async fn what_no_program_gets_is_not_waited_for() {
    let proxy = Mcpmeter::start(SILENT);
    for target in ["/a/nothing", "/a/sse"] {
        let answer = stalled(&proxy, target, 900_000).await.read_response().await;
        assert!([404, 405].contains(&answer.status()), "{target}: {}", answer.status());
    }
}

#[tokio::test]
async fn while_a_program_works_its_body_takes_no_room() {
    let rule = "[[rule]]\neffect = \"deny\"\ntool = [\"rm\"]\n";
    let proxy = Mcpmeter::start(&format!("{rule}{SILENT}"));
    let body = call(1, "ls").replace("tools/call", "initialize") + &" ".repeat(300_000);
    // Whoever reads no events waits for the program's last word.
    let request = post("localhost", "/a/mcp", &body).replace(", text/event-stream", "");
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(&request[..request.len() - 1]).await;
    shows(&proxy, &format!("mcpmeter_held_body_bytes {}\n", body.len() - 1 - (4 << 10))).await;
    client.send(" ").await;
    shows(&proxy, "mcpmeter_held_body_bytes 0\n").await;
    shows(&proxy, "mcpmeter_in_flight 1\n").await;
}
