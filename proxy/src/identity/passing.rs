//! Credentials that reach the server as they are. It judges them; here they are only recognised, where that is wanted.

use super::{
    Tokens,
    credentials::{self, Presented},
    nobody,
};
use crate::keyed_hash::KeyedHash;
use arc_swap::ArcSwapOption;
use http::HeaderMap;
use mcpmeter_observer::{AuthMethod, AuthState, Caller};
use std::sync::Arc;

/// What is known of callers whose credentials pass through.
pub(crate) struct Passing {
    pub(super) tokens: Option<Tokens>,
    pub(super) hash: BearerHash,
}

/// By what credentials are told apart that nobody has checked; absent without `privacy.hash_key`. A reload may change it.
pub(crate) type BearerHash = Arc<ArcSwapOption<KeyedHash>>;

impl Passing {
    /// Whose credentials pass, if there is a valid token among them, or else a hash of them; the server judges.
    pub(super) fn look_at(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        if let Some(caller) = self.verify(headers) {
            return Some(caller);
        }
        let hash = self.hash.load();
        let Presented::Token(presented) = credentials::foremost(headers) else { return None };
        let api_key_id = Some(hash.as_ref()?.hash(presented.as_bytes()).into());
        let (auth_method, auth_state) = (AuthMethod::Passthrough, AuthState::Unverified);
        Some(Arc::new(Caller { auth_method, auth_state, api_key_id, ..nobody() }))
    }

    /// Whose the first valid token is.
    fn verify(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        let tokens = self.tokens.as_ref()?;
        let keys = tokens.keys.any()?;
        credentials::tokens(headers).find_map(|token| Some(tokens.verify(token, &keys).ok()?.0))
    }
}
