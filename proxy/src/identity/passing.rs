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
    /// Whose credentials pass, if they are a valid token, or else the hash of them; the server judges.
    pub(super) fn look_at(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        let hash = self.hash.load();
        if self.tokens.is_none() && hash.is_none() {
            return None;
        }
        let keys = self.tokens.as_ref().and_then(|tokens| Some((tokens, tokens.keys.any()?)));
        // A token is where it belongs, whatever else there is: nobody sheds it by another header.
        if let (Some((tokens, keys)), Presented::Token(token)) = (keys, credentials::bearer(headers))
            && let Ok((caller, _)) = tokens.verify(token, &keys)
        {
            return Some(caller);
        }
        let Presented::Token(presented) = credentials::key(headers) else { return None };
        let api_key_id = Some(hash.as_ref()?.hash(presented.as_bytes()).into());
        let (auth_method, auth_state) = (AuthMethod::Passthrough, AuthState::Unverified);
        Some(Arc::new(Caller { auth_method, auth_state, api_key_id, ..nobody() }))
    }
}
