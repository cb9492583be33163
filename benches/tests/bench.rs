//! The real program, with the real upstream and, where it is installed, the real nginx: every workload is answered
//! rightly. Never looks at a figure.

use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcpmeter-bench")).args(arguments).output().expect("cargo has built it")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn every_workload_is_answered_rightly_without_and_through_nginx() {
    let nginx = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"]
        .iter()
        .any(|path| Path::new(path).exists());
    let contenders = if nginx { "direct,nginx" } else { "direct" };
    let output = bench(&["--check", "--contenders", contenders, "--rounds", "1", "--seconds", "0.2"]);
    assert!(output.status.success(), "{}", text(&output));
    for workload in ["small-1", "small-16", "small-64", "open", "list", "big", "sse"] {
        assert!(text(&output).contains(&format!("{workload} ")), "{}", text(&output));
    }
}

#[test]
fn a_debug_build_refuses_to_print_figures() {
    if cfg!(debug_assertions) {
        let output = bench(&["--contenders", "direct", "--only", "small-1"]);
        assert!(!output.status.success());
        assert!(text(&output).contains("this is a debug build"), "{}", text(&output));
    }
}

#[test]
fn an_unknown_workload_is_wrong_usage_and_the_known_ones_are_named() {
    let output = bench(&["--only", "tiny"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("small-1, small-16"), "{}", text(&output));
}
