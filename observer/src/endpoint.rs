//! The `endpoint` event of a legacy server (2024-11-05): where the client shall post to, and the only event
//! whose bytes the proxy may change, because a root-absolute endpoint would lead past the route's prefix.

use bytes::{Bytes, BytesMut};

/// A stream whose first event is longer than this is no legacy stream; it is not held back any longer.
const MAX_HELD: usize = 16 << 10;

/// Where a route hangs on both sides of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Scheme and authority of the upstream, for example `http://127.0.0.1:3001`.
    pub origin: String,
    /// Path of the upstream under which the route lives, without a slash at its end; often empty.
    pub base_path: String,
    /// Path of the proxy under which the route lives, without a slash at its end; empty for a route by host.
    pub prefix: String,
}

impl Mount {
    /// The path and query that a reference from the upstream means there. `target` is the path and query
    /// of the request that was answered. `None` if it leads to another origin.
    pub fn resolve(&self, target: &str, reference: &str) -> Option<String> {
        if let Some(rest) = strip_origin(reference, &self.origin) {
            return Some(if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") });
        }
        if reference.contains("://") || reference.starts_with("//") {
            return None;
        }
        let path = target.split(['?', '#']).next().unwrap_or(target);
        Some(match reference.as_bytes().first() {
            Some(b'/') => reference.to_owned(),
            Some(b'?') => format!("{path}{reference}"),
            None => target.to_owned(),
            Some(_) => {
                let folder = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
                remove_dot_segments(&format!("{folder}{reference}"))
            }
        })
    }

    /// What a client has to be told in the place of an absolute or root-absolute reference; `None` if the
    /// reference already means the same to the client, or nothing the route can reach.
    pub fn map_reference(&self, reference: &str) -> Option<String> {
        let absolute = strip_origin(reference, &self.origin);
        let is_rooted = reference.starts_with('/') && !reference.starts_with("//");
        if absolute.is_none() && (!is_rooted || self.prefix == self.base_path) {
            return None;
        }
        let path = absolute.unwrap_or(reference);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        self.strip_base(&path).map(|inside| format!("{}{inside}", self.prefix))
    }

    /// The same for an endpoint, to which the client has to come even if it lies outside of the base path: it gets a
    /// name of its own under the prefix.
    fn map_endpoint(&self, reference: &str) -> Option<String> {
        let mapped = self.map_reference(reference);
        if mapped.is_some() || self.base_path.is_empty() {
            return mapped;
        }
        let is_rooted = reference.starts_with('/') && !reference.starts_with("//");
        let path = strip_origin(reference, &self.origin).or(is_rooted.then_some(reference))?;
        let is_outside = path.starts_with('/') && self.strip_base(path).is_none();
        is_outside.then(|| [&self.prefix, OUTSIDE, path].concat())
    }

    fn strip_base<'a>(&self, path: &'a str) -> Option<&'a str> {
        let inside = path.strip_prefix(&self.base_path)?;
        matches!(inside.as_bytes().first(), None | Some(b'/' | b'?' | b'#')).then_some(inside)
    }
}

/// Stands between a route's prefix and an endpoint outside of its base path. A path may hold it, so it means that only
/// where such an endpoint has been announced ([`crate::Instance::announces`]).
const OUTSIDE: &str = "/~";

/// What a path inside a route would be if it were an endpoint outside of its base path.
pub fn outside_of_base(inside: &str) -> Option<&str> {
    inside.strip_prefix(OUTSIDE).filter(|path| path.starts_with('/'))
}

/// What follows an origin in a URL, if the URL has that origin.
fn strip_origin<'a>(url: &'a str, origin: &str) -> Option<&'a str> {
    let rest = url
        .get(..origin.len())
        .filter(|start| start.eq_ignore_ascii_case(origin))
        .map(|_| &url[origin.len()..])?;
    matches!(rest.as_bytes().first(), None | Some(b'/' | b'?' | b'#')).then_some(rest)
}

/// RFC 3986, section 5.2.4, on the path alone.
fn remove_dot_segments(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            "." => {}
            ".." if kept.len() > 1 => drop(kept.pop()),
            ".." => {}
            other => kept.push(other),
        }
        if last && matches!(*segment, "." | "..") {
            kept.push("");
        }
    }
    format!("{}{query}", kept.join("/"))
}

/// Holds back the beginning of a stream until its first event is known, and changes that event's data if it
/// is an endpoint that would lead the client astray. Everything behind it is passed on as it is.
#[derive(Debug)]
pub struct EndpointPatch {
    mount: Mount,
    held: BytesMut,
    done: bool,
}

impl EndpointPatch {
    /// For one stream of a route.
    pub fn new(mount: Mount) -> Self {
        Self { mount, held: BytesMut::new(), done: false }
    }

    /// Takes a frame and gives out what may go on, which can be nothing yet.
    pub fn patch(&mut self, frame: Bytes) -> Bytes {
        if self.done {
            return frame;
        }
        self.held.extend_from_slice(&frame);
        let over = first_event_end(&self.held);
        if over.is_none() && self.held.len() < MAX_HELD && may_be_endpoint(&self.held) {
            // Comments are all that keeps a client from giving up on a stream on which nothing happens.
            return self.held.split_to(leading_comments(&self.held)).freeze();
        }
        self.done = true;
        let held = self.held.split().freeze();
        match over.and_then(|end| self.replacement(&held[..end])) {
            None => held,
            Some((value, replacement)) => {
                let mut patched = BytesMut::with_capacity(held.len() + replacement.len());
                patched.extend_from_slice(&held[..value.start]);
                patched.extend_from_slice(replacement.as_bytes());
                patched.extend_from_slice(&held[value.end..]);
                patched.freeze()
            }
        }
    }

    /// What is still held back when the stream ends.
    pub fn finish(&mut self) -> Bytes {
        self.done = true;
        self.held.split().freeze()
    }

    /// Where the endpoint's value stands in the event, and what has to stand there instead.
    fn replacement(&self, event: &[u8]) -> Option<(std::ops::Range<usize>, String)> {
        let (mut name, mut value) = (None, None);
        let mut at = 0;
        for line in event.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let text = line.trim_ascii_end();
            let field = |field: &[u8]| {
                let rest = text.strip_prefix(field)?.strip_prefix(b":")?;
                Some(rest.strip_prefix(b" ").unwrap_or(rest))
            };
            if let Some(event) = field(b"event") {
                name = Some(event);
            }
            if let Some(data) = field(b"data") {
                let start = at + text.len() - data.len();
                value = Some(start..at + text.len());
            }
            at += line.len();
        }
        let value = value.filter(|_| name == Some(b"endpoint"))?;
        let reference = str::from_utf8(&event[value.clone()]).ok()?;
        Some((value, self.mount.map_endpoint(reference)?))
    }
}

/// How long the whole lines at the beginning are of which no event is made: comments, `retry`, blank ones.
fn leading_comments(held: &[u8]) -> usize {
    let is_idle = |line: &&[u8]| {
        let Some((b'\n' | b'\r', text)) = line.split_last() else { return false };
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let name = text.split(|byte| *byte == b':').next().unwrap_or(text);
        !matches!(name, b"data" | b"event" | b"id")
    };
    let lines = held.split_inclusive(|byte| matches!(byte, b'\n' | b'\r'));
    lines.take_while(is_idle).map(<[u8]>::len).sum()
}

/// Where the first event ends: behind the blank line that ends it. Comments alone are no event.
fn first_event_end(held: &[u8]) -> Option<usize> {
    let mut decoder = crate::sse::Decoder::default();
    let mut rest = held;
    while let Some(item) = decoder.next_item(&mut rest) {
        if item == crate::sse::Item::EventEnd {
            return Some(held.len() - rest.len());
        }
    }
    None
}

/// Whether an unfinished first event can still turn out to be an endpoint.
fn may_be_endpoint(held: &[u8]) -> bool {
    let mut decoder = crate::sse::Decoder::default();
    let mut rest = held;
    while decoder.next_item(&mut rest).is_some() {}
    b"endpoint".starts_with(decoder.event())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(prefix: &str, base_path: &str) -> Mount {
        Mount {
            origin: "http://127.0.0.1:3001".to_owned(),
            base_path: base_path.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    /// Patches a stream cut into chunks of every size, and insists that the cut does not matter.
    fn patch(mount: &Mount, stream: &str) -> String {
        let run = |chunk: usize| {
            let mut patch = EndpointPatch::new(mount.clone());
            let mut out = BytesMut::new();
            for piece in stream.as_bytes().chunks(chunk) {
                out.extend_from_slice(&patch.patch(Bytes::copy_from_slice(piece)));
            }
            out.extend_from_slice(&patch.finish());
            String::from_utf8(out.to_vec()).expect("text")
        };
        let whole = run(stream.len());
        for chunk in 1..stream.len() {
            assert_eq!(run(chunk), whole, "in chunks of {chunk}");
        }
        whole
    }

    #[test]
    fn a_root_absolute_endpoint_gets_the_prefix() {
        for (before, after) in [
            (
                "event: endpoint\ndata: /messages/?session_id=1\n\n",
                "event: endpoint\ndata: /py/messages/?session_id=1\n\n",
            ),
            (
                ": hi\r\n\r\ndata:/m?s=1\r\nevent:endpoint\r\n\r\n",
                ": hi\r\n\r\ndata:/py/m?s=1\r\nevent:endpoint\r\n\r\n",
            ),
            ("event: endpoint\rdata: http://127.0.0.1:3001/m\r\r", "event: endpoint\rdata: /py/m\r\r"),
        ] {
            let rest = "event: endpoint\ndata: /untouched\n\ndata: {}\n\n";
            assert_eq!(patch(&mount("/py", ""), &format!("{before}{rest}")), format!("{after}{rest}"));
        }
    }

    #[test]
    fn what_leads_the_client_right_stays_as_it_is() {
        for stream in [
            "event: endpoint\ndata: message?sessionId=1\n\n",
            "event: endpoint\ndata: ?sessionid=1\n\n",
            "event: endpoint\ndata: https://other.example/m\n\n",
            "event: message\ndata: /messages\n\n",
            "data: {}\n\nevent: endpoint\ndata: /m\n\n",
            "no event at all",
        ] {
            assert_eq!(patch(&mount("/py", ""), stream), stream);
        }
        let rooted = "event: endpoint\ndata: /messages\n\n";
        assert_eq!(patch(&mount("", ""), rooted), rooted);
    }

    #[test]
    fn comments_are_not_held_back_and_the_endpoint_behind_them_is_changed() {
        let mut patch = EndpointPatch::new(mount("/py", ""));
        for part in ["\u{feff}: hi\n", "\r\n", "retry: 5\n\n", ": ping\n\n"] {
            assert_eq!(patch.patch(Bytes::from_static(part.as_bytes())), part);
        }
        assert_eq!(patch.patch(Bytes::from_static(b": a\nevent: endpoint\n")), ": a\n");
        assert_eq!(patch.patch(Bytes::from_static(b"data: /m\n\n")), "event: endpoint\ndata: /py/m\n\n");
    }

    #[test]
    fn an_event_that_is_no_endpoint_is_not_held_back() {
        let mut patch = EndpointPatch::new(mount("/py", ""));
        assert_eq!(patch.patch(Bytes::from_static(b"event: message\ndata: {")), "event: message\ndata: {");
    }

    #[test]
    fn an_endpoint_outside_of_the_base_path_gets_a_name_under_the_prefix() {
        for prefix in ["/crm", "", "/v1"] {
            let stream = |endpoint: &str| format!("event: endpoint\ndata: {endpoint}\n\n");
            let mount = mount(prefix, "/v1");
            let named = format!("{prefix}/~/messages?s=1");
            assert_eq!(patch(&mount, &stream("/messages?s=1")), stream(&named));
            assert_eq!(patch(&mount, &stream("http://127.0.0.1:3001/messages?s=1")), stream(&named));
            assert_eq!(outside_of_base(&named[prefix.len()..]), Some("/messages?s=1"));
            for endpoint in ["https://other/m", "?s=1"] {
                assert_eq!(patch(&mount, &stream(endpoint)), stream(endpoint));
            }
        }
        assert_eq!(outside_of_base("/~user/x"), None);
        assert_eq!(outside_of_base("/messages"), None);
    }

    #[test]
    fn the_base_path_is_exchanged_for_the_prefix() {
        let mount = mount("/crm", "/v1");
        assert_eq!(mount.map_reference("/v1/messages?x"), Some("/crm/messages?x".to_owned()));
        assert_eq!(mount.map_reference("http://127.0.0.1:3001/v1"), Some("/crm".to_owned()));
        assert_eq!(mount.map_reference("/v10/messages"), None);
        assert_eq!(mount.map_reference("http://127.0.0.1:30010/v1"), None);
    }

    #[test]
    fn references_resolve_as_a_client_resolves_them() {
        let mount = mount("", "");
        for (reference, expected) in [
            ("/m?s=1", Some("/m?s=1")),
            ("?s=1", Some("/a/sse?s=1")),
            ("m", Some("/a/m")),
            ("../m?x=..", Some("/m?x=..")),
            ("./m/.", Some("/a/m/")),
            ("http://127.0.0.1:3001/m", Some("/m")),
            ("https://127.0.0.1:3001/m", None),
            ("//other/m", None),
        ] {
            assert_eq!(mount.resolve("/a/sse?q", reference).as_deref(), expected, "{reference}");
        }
    }
}
