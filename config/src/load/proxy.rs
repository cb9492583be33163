//! `[proxy]`.

use super::section::Section;
use super::{host, listen, network, tls};
use crate::{ForwardedHeader, Proxy, Runtime};

/// An hour: a drain that takes longer is a proxy that does not stop.
const MAX_DRAIN_TIMEOUT_MS: u64 = 3_600_000;
/// Ten minutes, far above any TCP stack's own patience.
pub(super) const MAX_CONNECT_TIMEOUT_MS: u64 = 600_000;

/// More than the ports of one address pair; no process holds so many.
const MAX_CONNECTIONS: u64 = 10_000_000;
/// An hour.
const MAX_HEAD_TIMEOUT_MS: u64 = 3_600_000;
/// No installation has so many proxies one behind the other.
const MAX_HOPS: u64 = 32;

pub(super) fn read_proxy(root: &mut Section<'_, '_>) -> Proxy {
    let default = Proxy::default();
    let mut section = root.section("proxy");
    let runtimes = [("per_core", Runtime::PerCore), ("shared", Runtime::Shared)];
    let forwarded_headers = [
        ("any", ForwardedHeader::Any),
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
    ];
    let proxy = Proxy {
        listen: listen::read_listen(&mut section, default.listen),
        public_hosts: section.each("public_hosts", host::decode_host).valid().unwrap_or(default.public_hosts),
        workers: section.integer("workers", default.workers, 0..=1024),
        runtime: section.choice("runtime", default.runtime, &runtimes),
        drain_timeout_ms: section.integer(
            "drain_timeout_ms",
            default.drain_timeout_ms,
            0..=MAX_DRAIN_TIMEOUT_MS,
        ),
        connect_timeout_ms: section.integer(
            "connect_timeout_ms",
            default.connect_timeout_ms,
            1..=MAX_CONNECT_TIMEOUT_MS,
        ),
        max_connections: section.integer("max_connections", default.max_connections, 0..=MAX_CONNECTIONS),
        request_head_timeout_ms: section.integer(
            "request_head_timeout_ms",
            default.request_head_timeout_ms,
            0..=MAX_HEAD_TIMEOUT_MS,
        ),
        max_headers: section.integer("max_headers", default.max_headers, 16..=16_384),
        // hyper refuses a buffer below 8 KiB; each connection may fill its buffer, so 16 MiB is a lot.
        max_header_bytes: section.integer("max_header_bytes", default.max_header_bytes, 8_192..=16_777_216),
        trusted_proxies: section
            .each("trusted_proxies", network::decode_network)
            .valid()
            .unwrap_or(default.trusted_proxies),
        forwarded_hops: section.integer("forwarded_hops", default.forwarded_hops, 1..=MAX_HOPS),
        forwarded_header: section.choice("forwarded_header", default.forwarded_header, &forwarded_headers),
        tls: tls::read_tls(&mut section),
    };
    section.finish();
    proxy
}
