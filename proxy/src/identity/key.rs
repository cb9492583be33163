//! Callers with keys that `mcpmeter keys` has made.

use super::{
    Denied, Known,
    credentials::{self, Presented},
    secret_value,
};
use crate::key_ring::{KeyRefusal, KeyRing};
use http::{HeaderMap, HeaderValue};
use mcpmeter_config::Secret;
use mcpmeter_observer::{AuthMethod, AuthState, Caller, Text, Timestamp};
use std::sync::Arc;

/// Where only keys pass.
pub(crate) struct KeyGate {
    pub(super) ring: Arc<KeyRing>,
    /// What the server gets in the key's place.
    pub(super) upstream_authorization: Option<HeaderValue>,
}

impl KeyGate {
    pub(super) fn new(ring: &Arc<KeyRing>, upstream_authorization: Option<&Secret>) -> Self {
        Self { ring: Arc::clone(ring), upstream_authorization: upstream_authorization.and_then(secret_value) }
    }

    pub(super) fn check(&self, headers: &HeaderMap, now: Timestamp) -> Result<Known, Denied> {
        let presented = match credentials::key(headers) {
            Presented::Token(presented) => presented,
            Presented::Nothing => return Err(Denied::no_key()),
            Presented::Unreadable => return Err(Denied::bad_key(KeyRefusal::Malformed)),
        };
        let known = self.ring.find(presented, now).map_err(Denied::bad_key)?;
        let key = &known.key;
        let caller = Caller {
            auth_method: AuthMethod::ApiKey,
            auth_state: AuthState::Ok,
            api_key_id: Some(Text::clone(&key.id)),
            user_id: Some(Text::clone(&key.user_id)),
            organization_id: key.organization_id.clone(),
        };
        Ok(Known { caller: Some(Arc::new(caller)), key: Some(known) })
    }
}
