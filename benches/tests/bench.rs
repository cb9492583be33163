//! The real program, with the real upstream and, where they are installed, the real proxies: every workload is answered
//! rightly. Never looks at a figure.

use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcpmeter-bench")).args(arguments).output().expect("cargo has built it")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Where each proxy may be installed.
const PROXIES: [(&str, &[&str]); 3] = [
    ("nginx", &["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"]),
    ("haproxy", &["/usr/sbin/haproxy", "/usr/bin/haproxy", "/usr/local/bin/haproxy"]),
    ("envoy", &[concat!(env!("CARGO_MANIFEST_DIR"), "/../.peers/envoy/bin/envoy")]),
];

#[test]
fn every_workload_is_answered_rightly_without_and_through_every_proxy_that_is_installed() {
    let is_installed = |paths: &[&str]| paths.iter().any(|path| Path::new(path).exists());
    let mut contenders = vec!["direct"];
    contenders.extend(PROXIES.iter().filter(|(_, paths)| is_installed(paths)).map(|(name, _)| name));
    let contenders = contenders.join(",");
    let output = bench(&["--check", "--contenders", &contenders, "--rounds", "1", "--seconds", "0.2"]);
    assert!(output.status.success(), "{}", text(&output));
    for workload in ["small-1", "small-16", "small-64", "small-256", "open", "list", "big", "sse"] {
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
