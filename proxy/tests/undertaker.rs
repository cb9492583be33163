//! The process that ends our programs when we cannot: with real groups and its pipe, and behind a real mcpmeter.

use crate::{
    program::{Session, in_session, is_running, odd, text_of},
    support::{Mcpmeter, eventually, program},
};
use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// `mcpmeter undertake`, ready.
async fn start() -> Child {
    let child = program().arg("undertake").stdin(Stdio::piped()).spawn().expect("it starts");
    eventually("it is deaf to SIGTERM", || catches(child.id(), 15)).await;
    child
}

/// Whether a process has a handler for a signal.
fn catches(pid: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(caught.trim(), 16).is_ok_and(|caught| caught & (1 << (signal - 1)) != 0)
}

/// A shell that leads a group of its own, once it has done what comes before the file.
async fn lead(folder: &Path, name: &str, script: &str) -> Child {
    let ready = folder.join(name);
    let mut command = Command::new("sh");
    command.args(["-c", &script.replace("READY", &format!("touch {}", ready.display()))]);
    let child = command.process_group(0).stdin(Stdio::null()).spawn().expect("sh is there");
    eventually("it is ready", || ready.exists()).await;
    child
}

/// The processes of a group that run.
fn running_in(group: u32) -> usize {
    let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
    let all = fs::read_dir("/proc").expect("procfs").flatten().filter_map(stat);
    let is_of = |stat: &String| {
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() != Some("Z") && fields.nth(1) == Some(&group.to_string())
    };
    all.filter(is_of).count()
}

fn send(signal: &str, pid: u32) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[tokio::test]
async fn what_is_left_is_ended_in_order_then_by_force_and_what_had_ended_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let bye = folder.path().join("bye");
    let script = format!("trap 'touch {}; exit' TERM; READY; while :; do sleep 0.02; done", bye.display());
    let mut polite = lead(folder.path(), "polite", &script).await;
    let mut deaf = lead(folder.path(), "deaf", "trap '' TERM; sleep 60 & READY; wait").await;
    let mut done = lead(folder.path(), "done", "READY; exec sleep 60").await;
    let mut undertaker = start().await;
    let mut pipe = undertaker.stdin.take().expect("piped");
    let told = format!("+{}\n+{}\n+{}\n-{}\n+0\n+1\n+-1\n", polite.id(), deaf.id(), done.id(), done.id());
    pipe.write_all(told.as_bytes()).expect("it reads");
    drop(pipe);
    assert!(undertaker.wait().expect("ours").success());
    eventually("both groups are gone", || running_in(polite.id()) + running_in(deaf.id()) == 0).await;
    assert!(bye.exists(), "it was asked first");
    assert_eq!(running_in(done.id()), 1, "its number may be somebody else's by now");
    done.kill().expect("it runs");
    for child in [&mut polite, &mut deaf, &mut done] {
        child.wait().expect("ours");
    }
}

#[tokio::test]
async fn signals_that_are_meant_for_mcpmeter_do_not_end_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut left = lead(folder.path(), "left", "READY; exec sleep 60").await;
    let mut undertaker = start().await;
    for signal in ["INT", "TERM", "HUP"] {
        send(signal, undertaker.id());
    }
    let mut pipe = undertaker.stdin.take().expect("piped");
    pipe.write_all(format!("+{}\n", left.id()).as_bytes()).expect("it reads");
    drop(pipe);
    assert!(undertaker.wait().expect("ours").success());
    eventually("the group is gone", || running_in(left.id()) == 0).await;
    left.wait().expect("ours");
}

/// The undertaker among the children of a mcpmeter.
fn undertaker_of(mcpmeter: u32) -> Option<u32> {
    let all = fs::read_dir("/proc").expect("procfs").flatten();
    let is_it = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1);
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(&mcpmeter.to_string()) && line.ends_with(b"\0undertake\0")
    };
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_it)
}

#[tokio::test]
async fn when_it_is_killed_another_takes_over() {
    let mcpmeter = Mcpmeter::start(&odd(&["--ignores-term"], ""));
    let first = Session::open(&mcpmeter).await;
    let old = text_of(&first.call(1, "pid").await);
    let gone = undertaker_of(mcpmeter.pid()).expect("it has one");
    send("KILL", gone);
    eventually("it is dead", || !is_running(&gone.to_string())).await;
    let second = Session::open(&mcpmeter).await;
    let new = text_of(&second.call(1, "pid").await);
    let next = undertaker_of(mcpmeter.pid()).expect("another");
    assert_ne!(next, gone);
    assert!(!Path::new(&format!("/proc/{gone}")).exists(), "the old one is no zombie");
    mcpmeter.signal("KILL");
    eventually("nobody is left", || in_session(&old) + in_session(&new) == 0).await;
    eventually("it has ended, too", || !is_running(&next.to_string())).await;
}

#[tokio::test]
async fn it_ends_with_an_mcpmeter_that_ends_in_order_and_is_small() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    assert_eq!(text_of(&session.call(1, "echo a").await), "a");
    let undertaker = undertaker_of(mcpmeter.pid()).expect("it has one");
    let status = fs::read_to_string(format!("/proc/{undertaker}/status")).expect("procfs");
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
    let own: u64 = own.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(own < 4 << 10, "{own} KiB that are not its program file");
    assert_eq!(fs::read_link(format!("/proc/{undertaker}/cwd")).expect("procfs"), Path::new("/"));
    let open = fs::read_dir(format!("/proc/{undertaker}/fd")).expect("procfs").flatten();
    let sockets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let sockets = sockets.filter(|target| target.to_string_lossy().starts_with("socket:"));
    assert_eq!(sockets.count(), 0, "none of ours");
    mcpmeter.stop().await;
    eventually("it has ended", || !is_running(&undertaker.to_string())).await;
}
