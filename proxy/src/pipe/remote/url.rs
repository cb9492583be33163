//! The URL of `--url`: what a configuration takes for an upstream, and a query besides, which hosted servers often want.

use http::uri::PathAndQuery;
use mcpmeter_config::{HttpUpstream, UpstreamError};
use std::str::FromStr;

/// An `http` or `https` URL without a user.
#[derive(Debug, Clone)]
pub(crate) struct RemoteUrl {
    pub(crate) upstream: HttpUpstream,
    /// Path and query, as they were written.
    pub(crate) target: PathAndQuery,
}

/// Why a text is not one. Never repeats the URL, which may hold a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RemoteUrlError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the URL's query has a character that must be percent-encoded")]
    Query,
}

impl FromStr for RemoteUrl {
    type Err = RemoteUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let base = text.split('?').next().unwrap_or(text);
        let upstream: HttpUpstream = base.parse()?;
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        let target = rest.find(['/', '?']).map_or("/", |start| &rest[start..]);
        let target = if target.starts_with('?') { format!("/{target}") } else { target.to_owned() };
        let target = target.parse().map_err(|_| RemoteUrlError::Query)?;
        Ok(Self { upstream, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_stay_as_they_were_written() {
        for (text, authority, target) in [
            ("http://127.0.0.1:3001/mcp", "127.0.0.1:3001", "/mcp"),
            ("https://a.example/mcp/", "a.example", "/mcp/"),
            ("https://a.example", "a.example", "/"),
            ("https://a.example?key=1", "a.example", "/?key=1"),
            ("https://a.example/x%2Fy?key=a%20b&c=/d", "a.example", "/x%2Fy?key=a%20b&c=/d"),
        ] {
            let url: RemoteUrl = text.parse().expect("valid");
            assert_eq!((url.upstream.authority.as_str(), url.target.as_str()), (authority, target), "{text}");
        }
        for text in ["ftp://a", "http://u:p@a/", "http://a/#x", "http://a/?b c", "a.example"] {
            assert!(text.parse::<RemoteUrl>().is_err(), "{text}");
        }
    }
}
