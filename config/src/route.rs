//! One way from a path or a host name to one upstream, with the identity its calls are booked on.

use std::path::PathBuf;

use crate::Upstream;

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
    /// Whether the client's `Host` goes to the upstream instead of the upstream's own authority.
    pub preserve_host: bool,
    /// Whether the path in the `endpoint` event of the old SSE transport gets the route's prefix.
    pub rewrite_endpoint: bool,
    /// Whether `Location` headers that point at the upstream get the route's prefix.
    pub rewrite_location: bool,
    /// PEM roots trusted for this upstream beside the usual ones.
    pub ca_file: Option<PathBuf>,
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
            preserve_host: false,
            rewrite_endpoint: true,
            rewrite_location: true,
            ca_file: None,
            name,
        }
    }
}
