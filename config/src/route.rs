//! One way from a path or a host name to one upstream, with the identity its calls are booked on.

use std::fmt;
use std::path::PathBuf;

use crate::{Bodies, Command, HttpUpstream, Identity};

/// The server behind a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// `upstream = "http://…"`: it speaks HTTP already.
    Http(HttpUpstream),
    /// `command = ["…"]`: a program that speaks stdio; the proxy runs it and is its HTTP server.
    Stdio(Command),
}

impl Upstream {
    /// The URL, if it has one.
    pub const fn as_http(&self) -> Option<&HttpUpstream> {
        match self {
            Self::Http(upstream) => Some(upstream),
            Self::Stdio(_) => None,
        }
    }
}

/// As a person reads it: the URL, or the command line.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(upstream) => upstream.fmt(f),
            Self::Stdio(command) => command.fmt(f),
        }
    }
}

/// Which process a server that speaks HTTP is, where it runs on this machine. Without it, the process that listens
/// on the upstream's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProcessHint {
    /// The one whose id the file says; read again whenever it changes.
    PidFile(PathBuf),
    /// All with this name (`comm`, at most 15 bytes on Linux) or file name of the program.
    Name(String),
    /// The one that listens on this port of this machine.
    Port(u16),
}

/// `[[route]]`: one user's MCP server instance, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique; without `host` the route is served under `/name/…`.
    pub name: String,
    /// The host name, lower case and without port, that leads here instead of the path prefix. Unique.
    pub host: Option<String>,
    /// The server behind this route.
    pub upstream: Upstream,
    /// What records call this server instance; the name unless told otherwise.
    pub instance_id: String,
    /// Whose calls these are.
    pub user_id: Option<String>,
    /// On whose account.
    pub organization_id: Option<String>,
    /// How long connecting may take; the proxy's unless told otherwise.
    pub connect_timeout_ms: u64,
    /// The most exchanges at a time; `None` for any number. One more is answered with 503 and `Retry-After`, and its
    /// calls are recorded as `limited`. A stream is none, a `GET` or a `subscriptions/listen`: it may last for ever, and
    /// connections have a limit of their own.
    pub max_exchanges: Option<u32>,
    /// How long the head of an answer may take from the end of the request on; `None` for any time. After it the
    /// client gets 504, and the call is recorded as `timeout`.
    pub first_byte_timeout_ms: Option<u64>,
    /// How long an exchange may take from its head to the end of its answer; `None` for any time. After it the client
    /// gets 504, or, where the answer has begun, a broken connection; the call is recorded as `timeout`. Neither
    /// this nor `first_byte_timeout_ms` is for streams.
    pub total_timeout_ms: Option<u64>,
    /// How long a stream may last, a `GET` or a `subscriptions/listen`; `None` for any time. After it the connection
    /// is broken, and the client makes a new one.
    pub stream_timeout_ms: Option<u64>,
    /// Whether the client's `Host` goes to the upstream instead of the upstream's own authority.
    pub preserve_host: bool,
    /// Whether the path in the `endpoint` event of the old SSE transport gets the route's prefix.
    pub rewrite_endpoint: bool,
    /// Whether `Location` headers that point at the upstream get the route's prefix.
    pub rewrite_location: bool,
    /// Which URLs of the upstream are exchanged for the client's in what it says about authorization.
    pub auth_rewrite: AuthRewrite,
    /// PEM roots trusted for this upstream beside the usual ones.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain, in PEM, that this upstream is shown; there if and only if `client_key_file` is.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key.
    pub client_key_file: Option<PathBuf>,
    /// Which process to meter; only for an upstream with a URL.
    pub process: Option<ProcessHint>,
    /// How callers prove who they are; that of all routes unless told otherwise.
    pub identity: Identity,
    /// Of which calls bodies are kept; as `record` says unless told otherwise.
    pub bodies: Bodies,
}

/// What becomes of the upstream's own URLs in its answers about authorization (WIRE.md 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRewrite {
    /// Everything passes byte for byte.
    Off,
    /// `resource_metadata` in a `WWW-Authenticate` challenge, and `resource` in Protected Resource Metadata, where
    /// they point at the upstream. A token is then asked for the proxy's URL, which the upstream has to accept.
    Urls,
}

impl Route {
    /// A route with all defaults, as a file with just `name` and `upstream` gives.
    pub fn new(name: impl Into<String>, upstream: Upstream) -> Self {
        let name = name.into();
        Self {
            host: None,
            upstream,
            instance_id: name.clone(),
            user_id: None,
            organization_id: None,
            connect_timeout_ms: crate::Proxy::default().connect_timeout_ms,
            max_exchanges: None,
            first_byte_timeout_ms: None,
            total_timeout_ms: None,
            stream_timeout_ms: None,
            preserve_host: false,
            rewrite_endpoint: true,
            rewrite_location: true,
            auth_rewrite: AuthRewrite::Off,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            process: None,
            identity: Identity::default(),
            bodies: Bodies::default(),
            name,
        }
    }
}
