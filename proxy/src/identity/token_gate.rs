//! Callers with tokens of an issuer: whose token it is, and whether that is enough.

use super::{
    Denied,
    credentials::{self, Presented},
    key_set::{KeySet, Keys},
    nobody,
    remembered::{Remembered, fingerprint},
    secret_value,
    token::{BadToken, TokenRules, Verified},
};
use http::{HeaderMap, HeaderValue};
use mcpmeter_config as config;
use mcpmeter_observer::{AuthMethod, AuthState, Caller};
use std::{sync::Arc, time::Instant};

/// Tokens of one issuer.
pub(crate) struct Tokens {
    rules: TokenRules,
    pub(super) keys: KeySet,
    remembered: Remembered,
}

/// Where only valid tokens pass.
pub(crate) struct TokenGate {
    pub(super) tokens: Tokens,
    scopes: Vec<String>,
    /// What the server gets in the token's place.
    pub(super) upstream_authorization: Option<HeaderValue>,
}

/// Why a token has not passed, or not yet.
pub(super) enum NotPassed {
    /// Newer keys may say otherwise.
    Unsure,
    Denied(Denied),
}

impl Tokens {
    pub(super) fn of(tokens: &config::Tokens) -> Self {
        Self {
            rules: TokenRules::of(tokens),
            keys: KeySet::new(&tokens.jwks),
            remembered: Remembered::default(),
        }
    }

    /// Whose token it is, and its scopes.
    pub(super) fn verify(&self, token: &str, keys: &Keys) -> Result<(Arc<Caller>, Arc<[String]>), BadToken> {
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
    pub(super) fn new(tokens: &config::Tokens, scopes: &[String], upstream: Option<&config::Secret>) -> Self {
        let upstream_authorization = upstream.and_then(secret_value);
        Self { tokens: Tokens::of(tokens), scopes: scopes.to_vec(), upstream_authorization }
    }

    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        keys: Option<&Arc<Keys>>,
    ) -> Result<Arc<Caller>, NotPassed> {
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
