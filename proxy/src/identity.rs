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
mod token;
mod trusted_header;

pub(crate) use denied::Denied;
pub(crate) use key_files::examine;
pub(crate) use metadata::metadata;
pub(crate) use passing::BearerHash;

use crate::{
    headers::drop_those,
    key_ring::{KeyRing, KnownKey},
};
use credentials::Presented;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use key::KeyGate;
use key_set::{KeySet, Keys};
use mcpmeter_config as config;
use mcpmeter_observer::{AuthMethod, AuthState, Caller, Timestamp};
use passing::Passing;
use remembered::{Remembered, fingerprint};
use std::{net::IpAddr, sync::Arc, time::Instant};
use token::{BadToken, TokenRules, Verified};
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

/// Tokens of one issuer.
pub(crate) struct Tokens {
    rules: TokenRules,
    keys: KeySet,
    remembered: Remembered,
}

/// Where only valid tokens pass.
pub(crate) struct TokenGate {
    tokens: Tokens,
    scopes: Vec<String>,
    /// What the server gets in the token's place.
    upstream_authorization: Option<HeaderValue>,
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
                Self::Jwt(Box::new(TokenGate {
                    tokens: Tokens::of(tokens),
                    scopes: scopes.clone(),
                    upstream_authorization: upstream_authorization.as_ref().and_then(secret_value),
                }))
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

/// Why a token has not passed, or not yet.
enum NotPassed {
    /// Newer keys may say otherwise.
    Unsure,
    Denied(Denied),
}

impl Tokens {
    fn of(tokens: &config::Tokens) -> Self {
        Self {
            rules: TokenRules::of(tokens),
            keys: KeySet::new(&tokens.jwks),
            remembered: Remembered::default(),
        }
    }

    /// Whose token it is, and its scopes.
    fn verify(&self, token: &str, keys: &Keys) -> Result<(Arc<Caller>, Arc<[String]>), BadToken> {
        let (fingerprint, now) = (fingerprint(token), Instant::now());
        if let Some(known) = self.remembered.find(&fingerprint, keys.reading, now) {
            return Ok(known);
        }
        let mut verified = self.rules.verify(token, keys)?;
        let (lasts, scopes) = (verified.lasts, Arc::from(std::mem::take(&mut verified.scopes)));
        let caller = caller_of(verified);
        self.remembered.remember(fingerprint, (&caller, &scopes), keys.reading, (now, lasts));
        Ok((caller, scopes))
    }
}

fn caller_of(verified: Verified) -> Arc<Caller> {
    Arc::new(Caller {
        auth_method: AuthMethod::Jwt,
        auth_state: AuthState::Ok,
        user_id: Some(verified.user.into()),
        organization_id: verified.organization.map(Into::into),
        ..nobody()
    })
}

impl TokenGate {
    fn check(&self, headers: &HeaderMap, keys: Option<&Arc<Keys>>) -> Result<Arc<Caller>, NotPassed> {
        let token = match credentials::token(headers) {
            Presented::Token(token) => token,
            Presented::Nothing => return Err(NotPassed::Denied(Denied::no_token())),
            Presented::Unreadable => return Err(NotPassed::Denied(Denied::bad_token(BadToken::Malformed))),
        };
        let verified = self.tokens.verify(token, keys.ok_or(NotPassed::Unsure)?);
        let (caller, scopes) = verified.map_err(|bad| match bad {
            BadToken::UnknownKey => NotPassed::Unsure,
            bad => NotPassed::Denied(Denied::bad_token(bad)),
        })?;
        if let Some(missing) = self.scopes.iter().find(|scope| !scopes.contains(scope)) {
            return Err(NotPassed::Denied(Denied::no_scope(missing, &self.scopes, &caller)));
        }
        Ok(caller)
    }
}
