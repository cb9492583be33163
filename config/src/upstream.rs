//! The URL of an upstream, cut into the parts a proxy needs, each as it was written.
//!
//! Never normalised: `%2F`, `//`, `..` and upper case mean something to some server (WIRE.md section 3.3), so
//! no URL library touches it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// An `http` or `https` URL without user, query or fragment. `Display` gives it back, less a final slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpUpstream {
    /// Whether the connection is encrypted.
    pub scheme: Scheme,
    /// Host and port as written, for `Host`: `127.0.0.1:3001`, `[::1]:3001`, `crm.internal`.
    pub authority: String,
    /// The host to connect to, without the brackets of an IPv6 address.
    pub host: String,
    /// The port as written, or the scheme's own.
    pub port: u16,
    /// The base path as written, less a final slash, because what is appended starts with one. Often empty.
    pub base_path: String,
}

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain, port 80.
    Http,
    /// TLS, port 443.
    Https,
}

/// Why a text is not the URL of an upstream. Never repeats the URL, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UpstreamError {
    /// Neither `http://` nor `https://` in front.
    #[error("the URL does not begin with http:// or https://")]
    Scheme,
    /// Something before an `@`.
    #[error("the URL holds a user or password")]
    UserInfo,
    /// A `?`.
    #[error("the URL has a query")]
    Query,
    /// A `#`.
    #[error("the URL has a fragment")]
    Fragment,
    /// No host, or one with characters no host name has.
    #[error("the URL has no valid host name or IP address")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the URL's port is not a number from 1 to 65535")]
    Port,
    /// A character that may not stand in a path, or a `%` without two hexadecimal digits.
    #[error("the URL's path has a character that must be percent-encoded")]
    Path,
}

impl FromStr for HttpUpstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = split_scheme(text)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UpstreamError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        check_path(path)?;
        Ok(Self {
            scheme,
            authority: authority.to_owned(),
            host: parse_host(host)?.to_owned(),
            port: port.unwrap_or(scheme.default_port()),
            base_path: path.strip_suffix('/').unwrap_or(path).to_owned(),
        })
    }
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), UpstreamError> {
    let (scheme, rest) = text.split_once("://").ok_or(UpstreamError::Scheme)?;
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Ok((Scheme::Http, rest)),
        _ if scheme.eq_ignore_ascii_case("https") => Ok((Scheme::Https, rest)),
        _ => Err(UpstreamError::Scheme),
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), UpstreamError> {
    // The colons inside the brackets of an IPv6 address do not separate a port.
    let port_at = match authority.rfind(']') {
        None if authority.starts_with('[') => return Err(UpstreamError::Host),
        None => authority.find(':'),
        Some(bracket) => authority.rfind(':').filter(|colon| *colon > bracket),
    };
    let Some((host, port)) = port_at.map(|at| authority.split_at(at)) else {
        return Ok((authority, None));
    };
    let digits = port.trim_start_matches(':');
    let is_number = port.len() == digits.len() + 1 && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(number) if is_number && number != 0 => Ok((host, Some(number))),
        _ => Err(UpstreamError::Port),
    }
}

fn parse_host(host: &str) -> Result<&str, UpstreamError> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').ok_or(UpstreamError::Host)?;
        return address.parse::<Ipv6Addr>().map(|_| address).map_err(|_| UpstreamError::Host);
    }
    // Underscores are no host name by the RFCs, but Docker Compose makes such names.
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.is_empty() && host.bytes().all(valid) { Ok(host) } else { Err(UpstreamError::Host) }
}

fn check_path(path: &str) -> Result<(), UpstreamError> {
    if path.contains('#') {
        return Err(UpstreamError::Fragment);
    }
    if path.contains('?') {
        return Err(UpstreamError::Query);
    }
    let bytes = path.as_bytes();
    let valid = |(at, &byte): (usize, &u8)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        // RFC 3986 section 3.3: pchar and the slash.
        _ => byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte),
    };
    if bytes.iter().enumerate().all(valid) { Ok(()) } else { Err(UpstreamError::Path) }
}

impl Scheme {
    /// The port that need not be written.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for HttpUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, authority, base_path, .. } = self;
        write!(f, "{}://{authority}{base_path}", scheme.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (Scheme, String, String, u16, String) {
        let HttpUpstream { scheme, authority, host, port, base_path } = url.parse().unwrap();
        (scheme, authority, host, port, base_path)
    }

    #[test]
    fn a_url_is_cut_into_its_parts() {
        let expected = |scheme, authority: &str, host: &str, port, base: &str| {
            (scheme, authority.to_owned(), host.to_owned(), port, base.to_owned())
        };
        assert_eq!(parts("http://h"), expected(Scheme::Http, "h", "h", 80, ""));
        assert_eq!(
            parts("HTTPS://Crm.internal"),
            expected(Scheme::Https, "Crm.internal", "Crm.internal", 443, "")
        );
        assert_eq!(parts("http://[::1]:3001/x"), expected(Scheme::Http, "[::1]:3001", "::1", 3001, "/x"));
        assert_eq!(parts("https://h_1:8443"), expected(Scheme::Https, "h_1:8443", "h_1", 8443, ""));
    }

    #[test]
    fn the_path_is_kept_as_written_but_for_the_final_slash() {
        assert_eq!(parts("http://h/").4, "");
        assert_eq!(parts("http://h/a/").4, "/a");
        assert_eq!(parts("http://h/a//b/../%2F/").4, "/a//b/../%2F");
        assert_eq!(parts("http://h/@scope/x").4, "/@scope/x");
        assert_eq!("http://h:80/A/".parse::<HttpUpstream>().unwrap().to_string(), "http://h:80/A");
    }

    #[test]
    fn every_other_url_is_refused_with_its_reason() {
        use UpstreamError::*;
        let cases = [
            ("h:3001", Scheme),
            ("ftp://h", Scheme),
            ("http:/h", Scheme),
            ("http://u:p@h", UserInfo),
            ("http://h?x=1", Query),
            ("http://h/?", Query),
            ("http://h/#top", Fragment),
            ("http://", Host),
            ("http:///x", Host),
            ("http://[::1", Host),
            ("http://[::g]", Host),
            ("http://[::1]x", Host),
            ("http://a b", Host),
            ("http://bücher.example", Host),
            ("http://h:", Port),
            ("http://h:0", Port),
            ("http://h:+80", Port),
            ("http://h:65536", Port),
            ("http://h:80:80", Port),
            ("http://h/a b", Path),
            ("http://h/ä", Path),
            ("http://h/%2", Path),
            ("http://h/\"", Path),
        ];
        for (url, reason) in cases {
            assert_eq!(url.parse::<HttpUpstream>(), Err(reason), "{url}");
        }
    }
}
