//! What mcpmeter is told: TOML, environment and flags become one valid [`Config`], or *all* problems at once.
//!
//! Plain data. This crate opens no socket, starts no task and knows no other crate of the workspace. It reads
//! the configuration file and the secret files that file names, and nothing else. It never prints a secret:
//! not in `Debug`, not in a problem, not in the source lines a problem shows.
//!
//! `mcpmeter.toml` ([`REFERENCE`]) lists every key with its default; a test keeps the two equal.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use address::{ClientIp, ForwardedHeader, HashRotation};
pub use change::{Changes, changes};
pub use command::{Command, Isolation};
pub use identity::{Algorithm, Identity, Jwks, Tokens};
pub use ipnet::IpNet;
pub use limit::{Limit, Per, Period, Quota, Rate};
pub use load::{
    Flag, Setting, Source, load, load_file, load_without_routes, process_environment, read_text, settings,
};
pub use pattern::Pattern;
pub use policy::{Effect, Policy, Rule};
pub use privacy::{Personal, Privacy};
pub use problem::{Label, Place, Position, Problem, Problems};
pub use record::{Bodies, BodyKey, Record};
pub use route::{AuthRewrite, ProcessHint, Route, Upstream};
pub use secret::Secret;
pub use secret_pattern::SecretPattern;
pub use upstream::{HttpUpstream, Scheme, UpstreamError};
pub use warning::warnings;

mod address;
mod change;
mod command;
mod identity;
mod limit;
mod load;
mod pattern;
mod policy;
mod privacy;
mod problem;
mod record;
mod route;
mod secret;
mod secret_pattern;
mod upstream;
mod warning;

/// Every key with its default and a sentence: what `mcpmeter.toml` says when nobody has changed it.
pub const REFERENCE: &str = include_str!("../mcpmeter.toml");

/// The shortest file that works.
pub const MINIMAL: &str = include_str!("../minimal.toml");

/// Everything mcpmeter is told. One that came out of [`load()`] is valid; there is nothing left to check.
///
/// The default has no route, which [`load()`] would refuse; it is a start for programs that add their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where MCP clients connect, and with which limits.
    pub proxy: Proxy,
    /// Where people and monitoring connect.
    pub admin: Admin,
    /// Where the records go.
    pub store: Store,
    /// What of a client is kept in a record.
    pub privacy: Privacy,
    /// What is kept beside the rows.
    pub record: Record,
    /// How callers prove who they are, on routes that do not say otherwise.
    pub identity: Identity,
    /// What the program says about itself.
    pub log: Log,
    /// Who may call what.
    pub policy: Policy,
    /// How much may be called at a time, and in how much time.
    pub limits: Vec<Limit>,
    /// How much may be called in a day or a month.
    pub quotas: Vec<Quota>,
    /// The ways to the upstreams, in the order of the file. Names and hosts are unique.
    pub routes: Vec<Route>,
}

/// `[proxy]`: the side that MCP clients see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The address MCP clients connect to. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host names, lower case and without port, that a loopback listener accepts in `Host` beside the loopback
    /// names and the routes' own hosts. Anything else is refused there, against DNS rebinding.
    pub public_hosts: Vec<String>,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// How connections are spread over the workers.
    pub runtime: Runtime,
    /// How long a shutdown waits for open exchanges; those still open are then cut and recorded as such.
    pub drain_timeout_ms: u64,
    /// How long connecting to an upstream may take, TLS included; after it the call is an `upstream_error`.
    pub connect_timeout_ms: u64,
    /// The most client connections at a time, over all workers; 0 for any number. Beyond it the next ones are not
    /// refused: they wait, unanswered, until one has closed.
    pub max_connections: usize,
    /// How long a client may take to send the head of a request it has begun, or the first one of its connection,
    /// with the TLS handshake on its own before it; 0 for any time. After it the connection is closed without an
    /// answer, up to a quarter of the time later. A connection on which a request was answered may be silent for ever.
    pub request_head_timeout_ms: u64,
    /// The most header fields a request or response may have; more is answered with 431 or 502.
    pub max_headers: usize,
    /// The most bytes the head of a request or response may have; more is answered with 431 or 502.
    pub max_header_bytes: usize,
    /// Proxies in front of this one that are believed when they say whose request they bring; IPv4 networks are
    /// never written as IPv6. Empty: nobody is.
    pub trusted_proxies: Vec<IpNet>,
    /// How many entries of what they say are believed at most, counted from the last one; from 1 to 32.
    pub forwarded_hops: usize,
    /// Where they say it.
    pub forwarded_header: ForwardedHeader,
    /// Certificate and key, if the proxy itself speaks TLS.
    pub tls: Option<Tls>,
}

/// How the proxy's connections are spread over its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Each worker accepts and keeps its own connections.
    PerCore,
    /// One pool of workers shares all connections.
    Shared,
}

/// `[proxy.tls]` and `[admin.tls]`: PEM files, read by the proxy at start, at every reload, and when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// The private key of the leaf.
    pub key_file: PathBuf,
    /// The authorities whose certificates clients show; `None` if they are not asked for any.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client may come without one; means nothing without `client_ca_file`.
    pub client_auth: ClientAuth,
}

/// Whether clients have to show a certificate. One that is shown has to be valid in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// The handshake fails without one.
    Required,
    /// Clients without one are let in, and are then what they would be without TLS.
    Optional,
}

/// `[admin]`: dashboard, JSON API, metrics and probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address; never that of the proxy. Loopback, unless `token` or `tls.client_ca_file` is there.
    pub listen: SocketAddr,
    /// What everybody has to know who wants more than a probe's answer; `None` if nobody is asked.
    pub token: Option<Secret>,
    /// Certificate and key, if the port speaks TLS.
    pub tls: Option<Tls>,
}

/// `[store]`: where the records go, and how many may be on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The database.
    pub url: StoreUrl,
    /// The local file that holds records until PostgreSQL has them; not used with SQLite.
    pub outbox: PathBuf,
    /// Whether the schema is created and updated at start.
    pub migrate: bool,
    /// The shared memory in which finished calls wait until they are durable, in MiB; what does not fit is
    /// counted as lost.
    pub queue_mib: u32,
    /// Where that memory is a file, so that it outlives a killed process.
    pub queue_directory: PathBuf,
    /// How large the outbox may grow, in MiB; `None` for the smaller of 2 GiB and a tenth of its volume.
    pub outbox_max_mib: Option<u32>,
    /// How old a row may grow, in days; 0 for any age.
    pub retention_days: u32,
    /// From what age on PostgreSQL keeps rows in their compressed form, in days; 0 for never.
    pub compress_after_days: u32,
    /// How large the SQLite store may grow, in MiB, before its oldest rows go; 0 for any size.
    pub sqlite_max_mib: u32,
    /// How long a shutdown goes on shipping to PostgreSQL; what is left stays in the outbox.
    pub flush_timeout_ms: u64,
}

/// The database that holds the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// The file of an embedded SQLite database.
    Sqlite(PathBuf),
    /// A PostgreSQL URL; secret as a whole, because a password may be anywhere in it.
    Postgres(Secret),
}

/// `[log]`: what the program says about itself, on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A filter in the syntax of `tracing`: `info`, or `info,mcpmeter_journal=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines, one object per line.
    Json,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            listen: loopback(7300),
            public_hosts: Vec::new(),
            workers: 0,
            runtime: Runtime::PerCore,
            drain_timeout_ms: 10_000,
            connect_timeout_ms: 10_000,
            max_connections: 20_000,
            request_head_timeout_ms: 30_000,
            max_headers: 512,
            max_header_bytes: 256 * 1024,
            trusted_proxies: Vec::new(),
            forwarded_hops: 1,
            forwarded_header: ForwardedHeader::XForwardedFor,
            tls: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: loopback(7301), token: None, tls: None }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: StoreUrl::Sqlite(PathBuf::from("mcpmeter.db")),
            outbox: PathBuf::from("mcpmeter-outbox.db"),
            migrate: true,
            queue_mib: 16,
            queue_directory: PathBuf::from("/dev/shm"),
            outbox_max_mib: None,
            retention_days: 0,
            compress_after_days: 0,
            sqlite_max_mib: 1_024,
            flush_timeout_ms: 5_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
