//! The real program between real MCP clients and servers, one file per behaviour.

#![expect(clippy::large_futures, reason = "the future of a test is made once, not per exchange")]

mod addresses;
mod admin_access;
mod attacks;
mod authorization;
mod bodies;
mod cancelling;
mod certificate_renewal;
mod command_line;
mod concurrency;
mod doctor;
mod encryption;
mod endings;
mod erase;
mod every_column;
mod forwarding;
mod held_for_programs;
mod hosts;
mod http2;
mod identity_headers;
mod identity_keys;
mod identity_tokens;
mod judged_bodies;
mod kept_connections;
mod keys;
mod legacy_sse;
mod limits;
mod memory;
mod mutual_tls;
mod odd_messages;
mod own_answers;
mod peers_fastmcp;
mod peers_in_talks;
mod peers_inspector;
mod peers_probing;
mod peers_python;
mod peers_python1;
mod peers_rmcp;
mod peers_typescript;
mod peers_under_load;
mod permission;
mod planted_secrets;
mod probes;
mod process_meter;
mod redaction;
mod redirects;
mod reloading;
mod run_command;
mod stdio_cases;
mod stdio_command;
mod stdio_programs;
mod stdio_protocol;
mod stdio_real_servers;
mod stdio_shared;
mod stdio_talking;
mod stdio_url;
mod stopping;
mod stores;
mod streaming;
mod support;
mod undertaker;
mod watching;

// Both ends of the wire by hand, for the tests of bytes and endings.
#[path = "support/authority.rs"]
mod authority;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/message.rs"]
mod message;
#[path = "support/piped.rs"]
mod piped;
#[path = "support/program.rs"]
mod program;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/recording_server.rs"]
mod recording_server;
#[path = "support/scripted_http.rs"]
mod scripted_http;
#[path = "support/serving.rs"]
mod serving;
#[path = "support/spawned.rs"]
mod spawned;
#[path = "support/token_issuer.rs"]
mod token_issuer;
