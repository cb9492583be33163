//! Who calls, before anything of a request's body is read or reaches an upstream: credentials are looked for, checked as
//! the route wants it, and taken off the request. What was not checked is never claimed to have been.

mod credentials;
mod denied;
mod fetch;
mod key;
mod key_files;
mod key_set;
mod metadata;
mod passing;
mod remembered;
mod signature;
mod standing;
mod token;
mod token_gate;
mod trusted_header;

pub(crate) use denied::Denied;
pub(crate) use key_files::examine;
pub(crate) use metadata::metadata;
pub(crate) use passing::BearerHash;
pub(crate) use standing::Standing;

use crate::{
    clock::Clock,
    headers::drop_those,
    key_ring::{KeyRing, KnownKey},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use key::KeyGate;
use mcpmeter_config as config;
use mcpmeter_observer::{AuthMethod, AuthState, Caller, Timestamp};
use passing::Passing;
use std::{net::IpAddr, sync::Arc};
use token::BadToken;
use token_gate::{NotPassed, TokenGate, Tokens};
use trusted_header::TrustedHeader;

/// Where a client may have a key beside `Authorization`.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How the callers of one route are known.
pub(crate) enum Authenticator {
    /// Nobody looks.
    None,
    /// The server looks; a valid token is read on the way.
    Passthrough(Box<Passing>),
    /// By keys of our own.
    Key(Box<KeyGate>),
    /// By tokens.
    Jwt(Box<TokenGate>),
    /// By what a proxy in front of us says.
    Header(Box<TrustedHeader>),
}

/// What is known of a caller that passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Of most, nothing.
    pub(crate) caller: Option<Arc<Caller>>,
    /// Its key, which may say what else it may.
    pub(crate) key: Option<Arc<KnownKey>>,
}

/// Whether a caller passes.
pub(crate) enum Checked {
    /// It does.
    Passes(Known),
    /// It is refused.
    Denied(Box<Denied>),
    /// That cannot be told without waiting: [`Authenticator::check_slowly`].
    Later,
}

impl Authenticator {
    pub(crate) fn of(identity: &config::Identity, keys: &Arc<KeyRing>, hash: &BearerHash) -> Self {
        match identity {
            config::Identity::None => Self::None,
            config::Identity::Passthrough { tokens } => {
                let (tokens, hash) = (tokens.as_ref().map(Tokens::of), Arc::clone(hash));
                Self::Passthrough(Box::new(Passing { tokens, hash }))
            }
            config::Identity::Jwt { tokens, scopes, upstream_authorization, .. } => {
                Self::Jwt(Box::new(TokenGate::new(tokens, scopes, upstream_authorization.as_ref())))
            }
            config::Identity::Header { user, organization, networks } => {
                Self::Header(Box::new(TrustedHeader::new(user, organization.as_ref(), networks)))
            }
            config::Identity::ApiKey { upstream_authorization } => {
                Self::Key(Box::new(KeyGate::new(keys, upstream_authorization.as_ref())))
            }
        }
    }

    /// Checks a caller by its request's headers and the address that it comes from. `metadata` is where clients can learn
    /// how to get in.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        now: Timestamp,
        metadata: impl FnOnce() -> Option<String>,
    ) -> Checked {
        match self {
            Self::None => Checked::Passes(Known::of(Some(unread(headers)))),
            Self::Passthrough(passing) => Checked::Passes(Known::of(passing.look_at(headers))),
            Self::Jwt(gate) => match gate.check(headers, gate.tokens.keys.any().as_ref()) {
                Ok(caller) => Checked::Passes(Known::of(Some(caller))),
                Err(NotPassed::Unsure) => Checked::Later,
                Err(NotPassed::Denied(denied)) => Checked::Denied(Box::new(denied.with_metadata(metadata()))),
            },
            Self::Key(gate) => match gate.check(headers, now) {
                Ok(known) => Checked::Passes(known),
                Err(denied) => Checked::Denied(Box::new(denied)),
            },
            Self::Header(trusted) => match trusted.check(headers, peer) {
                Ok(caller) => Checked::Passes(Known::of(Some(caller))),
                Err(denied) => Checked::Denied(Box::new(denied)),
            },
        }
    }

    /// The same, with the issuer's keys read once more.
    pub(crate) async fn check_slowly(
        &self,
        headers: &HeaderMap,
        metadata: Option<String>,
    ) -> Result<Known, Box<Denied>> {
        let Self::Jwt(gate) = self else { return Ok(Known::default()) };
        let known = gate.tokens.keys.any();
        let keys = gate.tokens.keys.read(known.as_ref()).await;
        gate.check(headers, keys.as_ref()).map(|caller| Known::of(Some(caller))).map_err(|not_passed| {
            let denied = match not_passed {
                NotPassed::Denied(denied) => denied,
                NotPassed::Unsure if keys.is_none() => Denied::keys_unavailable(),
                NotPassed::Unsure => Denied::bad_token(BadToken::UnknownKey),
            };
            Box::new(denied.with_metadata(metadata))
        })
    }

    /// Whether somebody should call [`Self::read_keys`] beside the traffic: keys that have grown old stay in force
    /// meanwhile, and for tokens that only pass through nobody waits at all.
    pub(crate) fn wants_keys(&self) -> bool {
        let Some(tokens) = self.tokens() else { return false };
        let nobody_waits = matches!(self, Self::Passthrough(_)) || tokens.keys.any().is_some();
        nobody_waits && tokens.keys.is_due()
    }

    /// Whether an issuer's keys are needed and nobody has read them yet.
    pub(crate) fn lacks_keys(&self) -> bool {
        self.tokens().is_some_and(|tokens| tokens.keys.any().is_none())
    }

    /// Reads an issuer's keys that nobody waits for.
    pub(crate) async fn read_keys(&self) {
        if let Some(tokens) = self.tokens() {
            tokens.keys.read(None).await;
        }
    }

    fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Passthrough(passing) => passing.tokens.as_ref(),
            Self::Jwt(gate) => Some(&gate.tokens),
            Self::None | Self::Key(_) | Self::Header(_) => None,
        }
    }

    /// What a caller's stream hangs on, if that can end.
    pub(crate) fn standing(&self, known: &Known, clock: Clock) -> Option<Standing> {
        let (Self::Key(gate), Some(key)) = (self, &known.key) else { return None };
        Some(Standing { ring: Arc::clone(&gate.ring), key: Arc::clone(key), clock })
    }

    /// The headers that say who calls, where they are believed.
    pub(crate) fn told_in(&self) -> &[HeaderName] {
        if let Self::Header(trusted) = self { trusted.names() } else { &[] }
    }

    /// Takes the caller's credentials off a request, and puts the server's in their place.
    pub(crate) fn exchange_credentials(&self, headers: &mut HeaderMap) {
        let upstream = match self {
            Self::None | Self::Passthrough(_) | Self::Header(_) => return,
            Self::Key(gate) => gate.upstream_authorization.as_ref(),
            Self::Jwt(gate) => gate.upstream_authorization.as_ref(),
        };
        drop_those(headers, |name, _| *name == header::AUTHORIZATION || *name == X_API_KEY);
        if let Some(value) = upstream {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
    }
}

impl Known {
    const fn of(caller: Option<Arc<Caller>>) -> Self {
        Self { caller, key: None }
    }
}

/// A header's value that is not shown. It was checked with the configuration.
fn secret_value(secret: &config::Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Nobody has looked; whether there was something to look at is all that is said.
fn unread(headers: &HeaderMap) -> Arc<Caller> {
    let has_some = headers.contains_key(header::AUTHORIZATION) || headers.contains_key(X_API_KEY);
    let auth_state = if has_some { AuthState::Unverified } else { AuthState::Missing };
    Arc::new(Caller { auth_method: AuthMethod::None, auth_state, ..nobody() })
}

/// A caller of whom nothing is known.
fn nobody() -> Caller {
    Caller {
        auth_method: AuthMethod::None,
        auth_state: AuthState::Missing,
        api_key_id: None,
        user_id: None,
        organization_id: None,
    }
}
