//! Why a caller does not get in: what it is told, and what the record says. Never repeats what it has presented.

use super::{nobody, token::BadToken};
use crate::{answer::Content, key_ring::KeyRefusal, refusal::Refusal};
use http::{HeaderValue, Response, StatusCode, header};
use mcpmeter_observer::{AuthMethod, AuthState, Caller, Failure, Status, StatusDetail};
use std::{fmt::Write, sync::Arc};

/// A caller that is refused.
#[derive(Debug)]
pub(crate) struct Denied {
    caller: Arc<Caller>,
    failure: Box<Failure>,
    /// The parameters of the challenge (RFC 6750, 3); `None` where other credentials would not help.
    challenge: Option<String>,
}

impl Denied {
    fn new(caller: Caller, status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let failure = Failure {
            status: Status::Denied,
            detail: StatusDetail::Credentials,
            code,
            message: message.into(),
            http_status: Some(status.as_u16()),
            context: None,
        };
        let challenge = (status == StatusCode::UNAUTHORIZED).then(String::new);
        Self { caller: Arc::new(caller), failure: Box::new(failure), challenge }
    }

    pub(super) fn no_token() -> Self {
        let message = "a token is needed, as a bearer token";
        Self::new(nobody(), StatusCode::UNAUTHORIZED, "token_missing", message)
    }

    pub(super) fn bad_token(bad: BadToken) -> Self {
        let (auth_state, code, message) = match bad {
            BadToken::Malformed => {
                (AuthState::Invalid, "token_malformed", "the token is none that is accepted here")
            }
            BadToken::UnknownKey => {
                (AuthState::Invalid, "token_key_unknown", "the token's key is none of the issuer's")
            }
            BadToken::Forged => (AuthState::Invalid, "token_forged", "the token's signature is wrong"),
            BadToken::Expired => (AuthState::Expired, "token_expired", "the token is not valid now"),
            BadToken::WrongIssuer => (AuthState::Invalid, "token_issuer", "the token is from somebody else"),
            BadToken::WrongAudience => {
                (AuthState::Invalid, "token_audience", "the token is for somebody else")
            }
            BadToken::NoUser => (AuthState::Invalid, "token_user", "the token does not say whose it is"),
        };
        let caller = Caller { auth_method: AuthMethod::Jwt, auth_state, ..nobody() };
        let mut denied = Self::new(caller, StatusCode::UNAUTHORIZED, code, message);
        denied.challenge = Some(format!("error=\"invalid_token\", error_description=\"{message}\""));
        denied
    }

    pub(super) fn no_scope(missing: &str, needed: &[String], caller: &Caller) -> Self {
        let message = format!("the token lacks the scope {missing}");
        let mut denied = Self::new(caller.clone(), StatusCode::FORBIDDEN, "scope_missing", message);
        denied.challenge = Some(format!("error=\"insufficient_scope\", scope=\"{}\"", needed.join(" ")));
        denied
    }

    /// Not the caller's fault: whether its token is valid cannot be told.
    pub(super) fn keys_unavailable() -> Self {
        let caller = Caller { auth_method: AuthMethod::Jwt, auth_state: AuthState::Unverified, ..nobody() };
        let message = "tokens cannot be checked now: the issuer's keys cannot be read";
        Self::new(caller, StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", message)
    }

    pub(super) fn no_key() -> Self {
        let message = "a key is needed, as a bearer token or in the header X-API-Key";
        Self::new(nobody(), StatusCode::UNAUTHORIZED, "key_missing", message)
    }

    pub(super) fn bad_key(refusal: KeyRefusal) -> Self {
        let (auth_state, status, code, message) = match refusal {
            KeyRefusal::Malformed => {
                (AuthState::Invalid, StatusCode::UNAUTHORIZED, "key_malformed", "this is none of our keys")
            }
            KeyRefusal::Unknown => {
                (AuthState::Invalid, StatusCode::UNAUTHORIZED, "key_unknown", "there is no such key")
            }
            KeyRefusal::Expired => {
                (AuthState::Expired, StatusCode::UNAUTHORIZED, "key_expired", "the key has expired")
            }
            KeyRefusal::Revoked => {
                (AuthState::Invalid, StatusCode::UNAUTHORIZED, "key_revoked", "the key was revoked")
            }
            // Not the caller's fault.
            KeyRefusal::Unready => (
                AuthState::Unverified,
                StatusCode::SERVICE_UNAVAILABLE,
                "keys_unavailable",
                "keys cannot be checked now: they have not been read from the store yet",
            ),
        };
        let caller = Caller { auth_method: AuthMethod::ApiKey, auth_state, ..nobody() };
        let mut denied = Self::new(caller, status, code, message);
        if let Some(challenge) = &mut denied.challenge {
            *challenge = format!("error=\"invalid_token\", error_description=\"{message}\"");
        }
        denied
    }

    pub(super) fn untrusted_network() -> Self {
        let caller = Caller { auth_method: AuthMethod::Header, auth_state: AuthState::Invalid, ..nobody() };
        let message = "callers are named by a proxy, and this is not where it is";
        Self::new(caller, StatusCode::FORBIDDEN, "network_untrusted", message)
    }

    pub(super) fn no_user() -> Self {
        let caller = Caller { auth_method: AuthMethod::Header, ..nobody() };
        Self::new(caller, StatusCode::FORBIDDEN, "user_missing", "the proxy does not say who calls")
    }

    pub(super) fn unreadable_user() -> Self {
        let caller = Caller { auth_method: AuthMethod::Header, auth_state: AuthState::Invalid, ..nobody() };
        Self::new(caller, StatusCode::FORBIDDEN, "user_unreadable", "who calls cannot be read")
    }

    /// The same with a hint where to get credentials (RFC 9728, 5.1).
    pub(super) fn with_metadata(mut self, url: Option<String>) -> Self {
        if let (Some(challenge), Some(url)) = (&mut self.challenge, url) {
            let comma = if challenge.is_empty() { "" } else { ", " };
            // What the client has asked for stands in it, and must not end the quoted string.
            let url = url.replace('\\', "%5C").replace('"', "%22");
            let _ = write!(challenge, "{comma}resource_metadata=\"{url}\"");
        }
        self
    }

    /// For the record.
    pub(crate) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// For the record: as far as it is known.
    pub(crate) fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// For the client.
    pub(crate) fn into_response(self) -> Response<Content> {
        let mut response = Refusal::of_denied(&self.failure).into_response();
        let challenge = self.challenge.map(|parameters| match parameters.is_empty() {
            true => "Bearer".to_owned(),
            false => format!("Bearer {parameters}"),
        });
        if let Some(value) = challenge.and_then(|challenge| HeaderValue::from_str(&challenge).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}
