//! What an upstream says about authorization, in the client's terms (`auth_rewrite = "urls"`, WIRE.md 3.3): a client
//! checks that the server's metadata name the URL it has dialled, and an upstream that does not know the proxy names
//! its own. Touches only `resource_metadata` of a challenge and `resource` of Protected Resource Metadata (RFC 9728),
//! and those only where they point at the upstream; never the issuer, scopes, or anything else.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};
use mcpmeter_observer::{EndpointPatch, Mount};
use std::ops::Range;

/// Where the metadata of a resource lie: in front of the resource's own path.
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";
/// Documents about authorization, each of which has the path of what it describes behind its own name.
const DOCUMENTS: [&str; 3] =
    [METADATA, "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
/// Metadata are not that long; what is, passes as it is.
const MAX_HELD: usize = 64 << 10;
const CHALLENGE_PARAMETER: &str = "resource_metadata";

/// A target that asks for a document about authorization: the document's name, and what lies behind that.
pub(crate) fn split_document(target: &str) -> Option<(&str, &str)> {
    let document = DOCUMENTS.into_iter().find(|document| strip_path(target, document).is_some())?;
    Some(target.split_at(document.len()))
}

/// What follows a path in another one, if that begins with whole segments of it.
fn strip_path<'a>(path: &'a str, start: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(start)?;
    matches!(rest.as_bytes().first(), None | Some(b'/' | b'?' | b'#')).then_some(rest)
}

/// A route as one client sees it.
#[derive(Debug, Clone)]
pub(crate) struct PublicUrl {
    /// `https://mcp.example.com`
    origin: String,
    mount: Mount,
}

impl PublicUrl {
    /// By what the client dialled. A proxy in front of us that speaks TLS for us says so in `X-Forwarded-Proto`.
    pub(crate) fn of(parts: &Parts, mount: &Mount, speaks_tls: bool) -> Option<Self> {
        Self::dialled(&parts.uri, &parts.headers, mount, speaks_tls)
    }

    /// The same from what it needs of a request's head.
    pub(crate) fn dialled(uri: &Uri, headers: &HeaderMap, mount: &Mount, speaks_tls: bool) -> Option<Self> {
        let authority = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => headers.get(header::HOST)?.to_str().ok()?,
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(is_plain) {
            return None;
        }
        let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        let scheme = match forwarded.and_then(|value| value.split(',').next()).map(str::trim) {
            Some(scheme @ ("http" | "https")) => scheme,
            _ if speaks_tls => "https",
            _ => "http",
        };
        Some(Self { origin: format!("{scheme}://{authority}"), mount: mount.clone() })
    }

    /// What the client calls the server behind the route, or a part of it.
    pub(crate) fn resource(&self, inside: &str) -> String {
        [&self.origin, &self.mount.prefix, inside].concat()
    }

    /// Where the metadata of what the client has asked for lie, by the path that it has dialled.
    pub(crate) fn metadata_url(&self, path: &str) -> String {
        [&self.origin, METADATA, path].concat()
    }

    /// The client's URL for one of the upstream's; `None` if that is none.
    fn map(&self, url: &str) -> Option<String> {
        let Mount { origin, base_path, prefix } = &self.mount;
        let own = url.get(..origin.len())?;
        let path = own.eq_ignore_ascii_case(origin).then(|| &url[origin.len()..])?;
        if let Some(of) = strip_path(path, METADATA) {
            let inside = if of.is_empty() { of } else { strip_path(of, base_path)? };
            return Some([&self.origin, METADATA, prefix, inside].concat());
        }
        Some([&self.origin, prefix, strip_path(path, base_path)?].concat())
    }

    /// Changes the challenges of a 401 or 403.
    pub(crate) fn rewrite_challenges(&self, headers: &mut HeaderMap) {
        for (name, value) in headers.iter_mut() {
            if name == header::WWW_AUTHENTICATE
                && let Some(changed) = value.to_str().ok().and_then(|text| self.rewrite_challenge(text))
                && let Ok(changed) = HeaderValue::from_str(&changed)
            {
                *value = changed;
            }
        }
    }

    fn rewrite_challenge(&self, challenge: &str) -> Option<String> {
        // One header may hold several challenges, each with the parameter.
        let (mut changed, mut copied, mut from) = (String::new(), 0, 0);
        while let Some(at) = find_parameter(challenge, from) {
            from = at.end + usize::from(challenge[at.end..].starts_with('"'));
            if let Some(url) = self.map(&challenge[at.clone()]) {
                changed.push_str(&challenge[copied..at.start]);
                changed.push_str(&url);
                copied = at.end;
            }
        }
        (copied > 0).then(|| changed + &challenge[copied..])
    }
}

/// Where the URL of the next `resource_metadata` stands, within its quotes. `at` is outside of any quotes.
fn find_parameter(challenge: &str, mut at: usize) -> Option<Range<usize>> {
    let bytes = challenge.as_bytes();
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at = string_end(bytes, at)?;
            continue;
        }
        let is_word_start = at == 0 || matches!(bytes[at - 1], b' ' | b'\t' | b',');
        let name = challenge.get(at..at + CHALLENGE_PARAMETER.len());
        if is_word_start && name.is_some_and(|name| name.eq_ignore_ascii_case(CHALLENGE_PARAMETER)) {
            let behind = &challenge[at + CHALLENGE_PARAMETER.len()..];
            let value = behind.trim_start().strip_prefix('=')?.trim_start();
            let start = challenge.len() - value.len();
            return match value.as_bytes().first()? {
                b'"' => Some(start + 1..string_end(bytes, start)? - 1),
                _ => Some(start..start + value.find([',', ' ', '\t']).unwrap_or(value.len())),
            };
        }
        at += 1;
    }
    None
}

/// Behind the closing quote of the string that begins at `start`, in JSON and HTTP alike.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Holds metadata back until they are complete, to change their `resource`.
#[derive(Debug)]
pub(crate) struct ResourcePatch {
    url: PublicUrl,
    held: BytesMut,
    passes: bool,
}

impl ResourcePatch {
    pub(crate) fn new(url: PublicUrl) -> Self {
        Self { url, held: BytesMut::new(), passes: false }
    }

    fn patch(&mut self, frame: Bytes) -> Bytes {
        if self.passes {
            return frame;
        }
        self.held.extend_from_slice(&frame);
        self.passes = self.held.len() > MAX_HELD;
        if self.passes { self.held.split().freeze() } else { Bytes::new() }
    }

    fn finish(&mut self) -> Bytes {
        let held = self.held.split().freeze();
        let Some(at) = (!self.passes).then(|| find_resource(&held)).flatten() else { return held };
        let resource: Option<String> = serde_json::from_slice(&held[at.clone()]).ok();
        let Some(url) = resource.and_then(|resource| self.url.map(&resource)) else { return held };
        // Nothing in a URL of these parts needs an escape but what the upstream wrote itself.
        let url = serde_json::Value::String(url).to_string();
        [&held[..at.start], url.as_bytes(), &held[at.end..]].concat().into()
    }
}

/// Where the value of the outermost `resource` stands, with its quotes. Of two, the last is what readers take.
fn find_resource(json: &[u8]) -> Option<Range<usize>> {
    let skip_space = |at: usize| at + json[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let (mut at, mut depth, mut found) = (0, 0_u32, None);
    while at < json.len() {
        match json[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = string_end(json, at)?;
                let colon = skip_space(end);
                if depth == 1 && json.get(colon) == Some(&b':') {
                    let value = skip_space(colon + 1);
                    if &json[at..end] == b"\"resource\"" && json.get(value) == Some(&b'"') {
                        found = Some(value..string_end(json, value)?);
                    }
                    at = colon + 1;
                } else {
                    at = end;
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The changes that an answer's body may need; there is never more than one.
#[derive(Debug)]
pub(crate) enum BodyPatch {
    /// The `endpoint` event of a legacy stream.
    Endpoint(EndpointPatch),
    /// The `resource` of metadata.
    Resource(ResourcePatch),
}

impl BodyPatch {
    /// Takes a frame and gives out what may go on, which can be nothing yet.
    pub(crate) fn patch(&mut self, frame: Bytes) -> Bytes {
        match self {
            Self::Endpoint(patch) => patch.patch(frame),
            Self::Resource(patch) => patch.patch(frame),
        }
    }

    /// What is still held back when the body ends.
    pub(crate) fn finish(&mut self) -> Bytes {
        match self {
            Self::Endpoint(patch) => patch.finish(),
            Self::Resource(patch) => patch.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(prefix: &str, base_path: &str) -> PublicUrl {
        let mount = Mount {
            origin: "http://127.0.0.1:3001".to_owned(),
            base_path: base_path.to_owned(),
            prefix: prefix.to_owned(),
        };
        PublicUrl { origin: "https://mcp.example".to_owned(), mount }
    }

    #[test]
    fn urls_of_the_upstream_become_the_clients_and_others_stay() {
        let at_prefix = public("/a", "");
        for (url, expected) in [
            ("http://127.0.0.1:3001/mcp", Some("https://mcp.example/a/mcp")),
            ("http://127.0.0.1:3001", Some("https://mcp.example/a")),
            (
                "http://127.0.0.1:3001/.well-known/oauth-protected-resource/mcp",
                Some("https://mcp.example/.well-known/oauth-protected-resource/a/mcp"),
            ),
            (
                "http://127.0.0.1:3001/.well-known/oauth-protected-resource",
                Some("https://mcp.example/.well-known/oauth-protected-resource/a"),
            ),
            ("http://127.0.0.1:30012/mcp", None),
            ("https://127.0.0.1:3001/mcp", None),
            ("https://login.example/", None),
        ] {
            assert_eq!(at_prefix.map(url).as_deref(), expected, "{url}");
        }
        let by_host = public("", "/v1");
        assert_eq!(by_host.map("http://127.0.0.1:3001/v1/mcp").as_deref(), Some("https://mcp.example/mcp"));
        assert_eq!(by_host.map("http://127.0.0.1:3001/v10/mcp"), None);
    }

    #[test]
    fn one_parameter_changes_and_the_rest_of_the_challenge_stays() {
        let public = public("/a", "");
        let metadata = "http://127.0.0.1:3001/.well-known/oauth-protected-resource/mcp";
        let ours = "https://mcp.example/.well-known/oauth-protected-resource/a/mcp";
        let challenge = |url: &str| {
            format!(
                "Basic realm=\"resource_metadata=x \\\" y\", Bearer error=\"invalid_token\",  Resource_Metadata = \"{url}\", scope=\"a b\""
            )
        };
        assert_eq!(public.rewrite_challenge(&challenge(metadata)), Some(challenge(ours)));
        assert_eq!(public.rewrite_challenge(&challenge("https://other.example/x")), None);
        for broken in ["Bearer", "Bearer resource_metadata", "Bearer resource_metadata=\"http://127", "\""] {
            assert_eq!(public.rewrite_challenge(broken), None);
        }
    }

    #[test]
    fn the_outermost_resource_changes_whatever_the_chunks() {
        let before = r#"{ "jwks":{"resource":"http://127.0.0.1:3001/x"}, "resource" : "http:\/\/127.0.0.1:3001/mcp" ,"authorization_servers":["http://127.0.0.1:3001/"]}"#;
        let after = before.replace(r"http:\/\/127.0.0.1:3001/mcp", "https://mcp.example/a/mcp");
        for size in 1..=before.len() {
            let mut patch = ResourcePatch::new(public("/a", ""));
            let mut out = Vec::new();
            for piece in before.as_bytes().chunks(size) {
                out.extend(patch.patch(Bytes::copy_from_slice(piece)));
            }
            out.extend(patch.finish());
            assert_eq!(String::from_utf8(out).expect("text"), after);
        }
    }

    #[test]
    fn what_is_no_metadata_passes() {
        let long =
            format!("{{\"x\":\"{}\",\"resource\":\"http://127.0.0.1:3001/mcp\"}}", "y".repeat(MAX_HELD));
        for text in [
            "",
            "[]",
            "{\"resource\":1}",
            "{\"resource\":\"",
            "\"resource\":\"http://127.0.0.1:3001\"",
            &long,
        ] {
            let mut patch = ResourcePatch::new(public("/a", ""));
            let first = patch.patch(Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!([first, patch.finish()].concat(), text.as_bytes());
        }
    }
}
