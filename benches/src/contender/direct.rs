//! No proxy: what the upstream and the load generator cost by themselves. Starts nothing.

use std::net::SocketAddr;

use super::Running;
use crate::connection::Target;
use crate::upstream;

pub(super) fn start(upstream: SocketAddr) -> Running {
    let target = Target { address: upstream, path: upstream::PATH, credentials: String::new(), tls: None };
    Running { target, process: None, books: None }
}
