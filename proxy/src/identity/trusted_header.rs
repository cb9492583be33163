//! Callers as a proxy in front of us names them. Believed from its networks only: anybody can write a header.

use super::{
    Denied,
    credentials::{Presented, only},
    nobody,
    token::MAX_NAME,
};
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use mcpmeter_observer::{AuthMethod, AuthState, Caller, Text};
use std::{net::IpAddr, sync::Arc};

/// Which headers are believed, and from where.
pub(crate) struct TrustedHeader {
    /// That of the user, and then that of the organisation, if there is one.
    names: Vec<HeaderName>,
    networks: Vec<IpNet>,
}

impl TrustedHeader {
    pub(super) fn new(user: &HeaderName, organization: Option<&HeaderName>, networks: &[IpNet]) -> Self {
        let names = [Some(user), organization].into_iter().flatten().cloned().collect();
        Self { names, networks: networks.to_vec() }
    }

    pub(super) fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// `peer` is who has made the connection, never who it says it speaks for.
    pub(super) fn check(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Arc<Caller>, Denied> {
        let peer = peer.to_canonical();
        if !self.networks.iter().any(|network| network.contains(&peer)) {
            return Err(Denied::untrusted_network());
        }
        let mut told = self.names.iter().map(|name| name_in(headers, name));
        let user = told.next().transpose()?.flatten().ok_or_else(Denied::no_user)?;
        let organization = told.next().transpose()?;
        Ok(Arc::new(Caller {
            auth_method: AuthMethod::Header,
            auth_state: AuthState::Ok,
            user_id: Some(user),
            organization_id: organization.flatten(),
            ..nobody()
        }))
    }
}

/// The one name in a header.
fn name_in(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Text>, Denied> {
    match only(headers, name) {
        Presented::Nothing => Ok(None),
        Presented::Token(text) if text.trim().is_empty() => Ok(None),
        Presented::Token(text) if text.len() <= MAX_NAME => Ok(Some(text.trim().into())),
        Presented::Token(_) | Presented::Unreadable => Err(Denied::unreadable_user()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const USER: HeaderName = HeaderName::from_static("x-user");

    fn check(values: &[&'static str], peer: &str) -> Result<Option<Text>, &'static str> {
        let networks = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let trusted = TrustedHeader::new(&USER, None, &networks);
        let headers = values.iter().map(|value| (USER, HeaderValue::from_static(value))).collect();
        let checked = trusted.check(&headers, peer.parse().unwrap());
        checked.map(|caller| caller.user_id.clone()).map_err(|denied| denied.failure().code)
    }

    #[test]
    fn a_name_counts_from_its_networks_only() {
        for peer in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"] {
            assert_eq!(check(&["ann"], peer), Ok(Some("ann".into())), "{peer}");
        }
        for peer in ["11.1.2.3", "127.0.0.1", "2001:db9::1", "::1"] {
            assert_eq!(check(&["ann"], peer), Err("network_untrusted"), "{peer}");
        }
    }

    #[test]
    fn there_has_to_be_one_name() {
        assert_eq!(check(&[], "10.0.0.1"), Err("user_missing"));
        assert_eq!(check(&[" "], "10.0.0.1"), Err("user_missing"));
        assert_eq!(check(&["ann", "bob"], "10.0.0.1"), Err("user_unreadable"));
    }
}
