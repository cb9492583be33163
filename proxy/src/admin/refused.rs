//! Why the admin port refuses a request, and what it says then: what to do, and nothing of what was sent.

use super::{AdminBody, text};
use http::{HeaderValue, Response, StatusCode, header};

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// A name that is not a loopback name, at a port that asks nobody who it is.
    ForeignHost,
    /// A page of another site wants to change something.
    CrossSite,
    /// A URL is kept in histories and logs.
    TokenInUrl,
    /// Neither token nor cookie.
    NoToken,
    /// No certificate, where one is wanted and there is no token.
    NoCertificate,
    /// Not the token.
    WrongToken,
    /// Too many wrong tokens of late.
    TooMany { seconds: u64 },
}

impl Refused {
    /// All values of the metric's label.
    pub(super) const REASONS: [&'static str; 7] = [
        "foreign_host",
        "cross_site",
        "token_in_url",
        "no_token",
        "no_certificate",
        "wrong_token",
        "too_many_wrong_tokens",
    ];

    /// The value of the metric's label.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::ForeignHost => Self::REASONS[0],
            Self::CrossSite => Self::REASONS[1],
            Self::TokenInUrl => Self::REASONS[2],
            Self::NoToken => Self::REASONS[3],
            Self::NoCertificate => Self::REASONS[4],
            Self::WrongToken => Self::REASONS[5],
            Self::TooMany { .. } => Self::REASONS[6],
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::ForeignHost | Self::CrossSite | Self::NoCertificate => StatusCode::FORBIDDEN,
            Self::TokenInUrl => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub(super) const fn advice(&self) -> &'static str {
        match self {
            Self::ForeignHost => {
                "this Host is not served here; set admin.token to be served under any name\n"
            }
            Self::CrossSite => "a page of another site may not do this\n",
            Self::TokenInUrl => {
                "a token in a URL gets into histories and logs: send it as `Authorization: Bearer TOKEN`, or log in at \
                 /login; if this was the real one, exchange it\n"
            }
            Self::NoToken => "send the token as `Authorization: Bearer TOKEN`, or log in at /login\n",
            Self::NoCertificate => "a client certificate is needed here\n",
            Self::WrongToken => "this is not the token\n",
            Self::TooMany { .. } => "too many wrong tokens; wait a minute\n",
        }
    }

    pub(super) fn into_response(self) -> Response<AdminBody> {
        let response = text(self.status(), self.advice());
        self.explain(response)
    }

    /// The headers that belong to it.
    pub(super) fn explain(self, mut response: Response<AdminBody>) -> Response<AdminBody> {
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        match self {
            Self::NoToken | Self::WrongToken => {
                let challenge = HeaderValue::from_static("Bearer realm=\"mcpmeter admin\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::TooMany { seconds } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
