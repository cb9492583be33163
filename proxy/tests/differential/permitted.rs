//! The one place that says in what the two performances of a play may differ, and compares them in everything else.
//!
//! | difference | why |
//! |---|---|
//! | `Date` | a server's clock |
//! | `Connection`, `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`, `Proxy-Authorization`, `TE` but `trailers`, `Transfer-Encoding`, `Upgrade`, and what `Connection` names | they concern one connection only (RFC 9110, 7.6.1); the proxy has its own. Never what `Connection` must not name: `Authorization`, `Host`, `Accept*`, `Content-*`, `Mcp-*` |
//! | `Expect` | the proxy answers it itself, once the server is there |
//! | white space around a value, the framing of chunks, the kind of a premature end (FIN or reset) | not part of the message |
//! | the case of a trailer's name | hyper keeps that of headers only |
//! | how much of a message arrived that was cut off | what was on its way when it was |
//! | `Accept-Encoding` of a GET | on a route that may rewrite an `endpoint` event it is `identity`, since the event must be readable |
//! | `Location`, `Content-Location`, and the data of the first `endpoint` event | where they lead into the server, they lead back through the route's prefix |
//! | nothing waits longer than [`HELD_BACK`], and in a play of many lines a quarter of them not longer than [`USUAL`] | coarse, because the machine does other things, too; the exact figures are in the benches |
//!
//! The request's target and `Host` are *not* among them: the server sees the same ones in both performances.

use crate::{
    inbox::{Ending, Message},
    transcript::Transcript,
};
use std::time::Duration;

/// Longer than this nothing waits on its way.
const HELD_BACK: Duration = Duration::from_secs(2);
/// What the program may add to the lower quartile of many waits, which a busy machine disturbs less than the median. It
/// adds about a tenth of a millisecond; a delayed acknowledgement or a timer would add 40.
const USUAL: Duration = Duration::from_millis(20);
/// From so many waits on a quartile says something.
const MANY: usize = 20;

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// What of a play may be different because of the route that it went through.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Under which the server is mounted, if what leads into it is rewritten.
    pub(crate) prefix: Option<&'static str>,
    /// The server's own name and port.
    pub(crate) upstream: String,
}

/// Both performances have shown the same, but for what is permitted.
pub(crate) fn assert_same(direct: &Transcript, proxied: &Transcript, route: &Route) {
    assert_eq!(proxied.untaken, direct.untaken, "requests that the play does not know of");
    let actors = |told: &Transcript| told.heard.iter().map(|(actor, _)| actor.clone()).collect::<Vec<_>>();
    assert_eq!(actors(proxied), actors(direct), "who received something");
    for ((actor, direct), (_, proxied)) in direct.heard.iter().zip(&proxied.heard) {
        let as_it_is = Route { prefix: None, ..route.clone() };
        let (seen, expected) = (head(proxied, &as_it_is), head(direct, route));
        let differs = seen.iter().zip(&expected).find(|(seen, expected)| seen != expected);
        assert_eq!(differs, None, "a line of what {actor:?} received");
        let same = seen.len() == expected.len() && same_body(proxied, direct, route);
        assert!(same, "{actor:?} received {}\n\ninstead of {}", proxied.brief(), direct.brief());
    }
    assert_timely(&direct.waits, &proxied.waits);
}

/// The lines of a head that have to be the same; `route` says what has to become of a reference into the server.
fn head(message: &Message, route: &Route) -> Vec<String> {
    let lines = message.lines();
    let named: Vec<String> = message.values("connection").join(",").split(',').map(normal).collect();
    let is_get = lines[0].starts_with("GET ");
    let keep = |line: &String| {
        let (name, value) = line.split_once(':')?;
        let known = normal(name);
        let trailers = known == "te" && normal(value) == "trailers";
        let hop = HOP_BY_HOP.contains(&known.as_str()) || (named.contains(&known) && !is_end_to_end(&known));
        if (hop && !trailers) || known == "date" || (is_get && known == "accept-encoding") {
            return None;
        }
        let value = match known.as_str() {
            "location" | "content-location" => map(value.trim(), route),
            _ => value.trim().to_owned(),
        };
        Some(format!("{name}: {value}"))
    };
    [lines[0].clone()].into_iter().chain(lines[1..].iter().filter_map(keep)).collect()
}

fn normal(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

/// What `Connection` cannot name away.
fn is_end_to_end(name: &str) -> bool {
    matches!(name, "authorization" | "host")
        || ["accept", "content-", "mcp-"].iter().any(|start| name.starts_with(start))
}

fn same_body(proxied: &Message, direct: &Message, route: &Route) -> bool {
    let trailers = |message: &Message| message.trailers.to_ascii_lowercase();
    if proxied.ending != direct.ending || trailers(proxied) != trailers(direct) {
        return false;
    }
    let expected = map_endpoint(&direct.body, route);
    if direct.ending == Ending::Cut {
        let shorter = expected.len().min(proxied.body.len());
        return expected[..shorter] == proxied.body[..shorter];
    }
    expected == proxied.body
}

/// A stream's body as a client of the route has to see it.
fn map_endpoint(body: &[u8], route: &Route) -> Vec<u8> {
    const EVENT: &[u8] = b"event: endpoint";
    let Some(event) = memchr::memmem::find(body, EVENT) else { return body.to_vec() };
    let is_first = memchr::memmem::find(&body[..event], b"data:").is_none();
    let Some(data) = memchr::memmem::find(&body[event..], b"data: ").filter(|_| is_first) else {
        return body.to_vec();
    };
    let from = event + data + b"data: ".len();
    let to = from + body[from..].iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(0);
    let mapped = map(&String::from_utf8_lossy(&body[from..to]), route);
    [&body[..from], mapped.as_bytes(), &body[to..]].concat()
}

/// Where a reference of the server leads a client of the route.
fn map(reference: &str, route: &Route) -> String {
    let Some(prefix) = route.prefix else { return reference.to_owned() };
    let inside = reference.strip_prefix(&format!("http://{}", route.upstream));
    match inside.unwrap_or(reference) {
        path if path.starts_with('/') && !path.starts_with("//") => format!("{prefix}{path}"),
        elsewhere => elsewhere.to_owned(),
    }
}

fn assert_timely(direct: &[Duration], proxied: &[Duration]) {
    let longest = proxied.iter().max().copied().unwrap_or_default();
    assert!(longest < HELD_BACK, "something was held back for {longest:?}");
    if proxied.len() >= MANY {
        let (direct, proxied) = (lower_quartile(direct), lower_quartile(proxied));
        assert!(proxied < direct + USUAL, "lines wait {proxied:?} instead of {direct:?}");
    }
}

fn lower_quartile(waits: &[Duration]) -> Duration {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    waits[waits.len() / 4]
}
