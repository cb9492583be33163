//! Whose request it is, by address, and how much of that a record may know (`privacy.client_ip`). Nothing else of the
//! proxy looks at addresses or at what proxies say about them.
//!
//! An address is that of a request, not of a connection: a proxy brings those of many clients over one. What is to be
//! recorded of it is worked out once and then kept for the next request of the same connection, until another address,
//! another configuration or another period of hashes comes.

mod forwarded;

use self::forwarded::Trust;
use crate::keyed_hash::{KeyedHash, Period};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderMap;
use mcpmeter_config::{ClientIp, Config, HashRotation, Secret};
use mcpmeter_observer::{Text, Timestamp};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// What hashes of addresses are made for, as the key is derived; stored hashes depend on it.
const PURPOSE: &str = "client address";

/// What is configured about addresses. A reload replaces it as a whole, also for connections that are open.
#[derive(Debug)]
pub(crate) struct AddressPolicy {
    mode: ClientIp,
    /// There in the mode that needs it.
    hash_key: Option<Secret>,
    rotation: HashRotation,
    trust: Trust,
}

/// Where the requests of one connection come from.
pub(crate) struct Origin {
    /// In its own family; absent if the connection was gone before anybody asked.
    peer: Option<IpAddr>,
    policy: Arc<ArcSwap<AddressPolicy>>,
    noted: ArcSwapOption<Noted>,
}

/// What the last request's address was recorded as.
struct Noted {
    policy: Arc<AddressPolicy>,
    address: IpAddr,
    /// In which that is what it is recorded as; absent where time does not matter.
    period: Option<Period>,
    text: Option<Text>,
}

impl AddressPolicy {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            mode: config.privacy.client_ip,
            hash_key: config.privacy.hash_key.clone(),
            rotation: config.privacy.hash_rotation,
            trust: Trust::of(&config.proxy),
        }
    }
}

impl Origin {
    /// Of a connection with this peer.
    pub(crate) fn new(peer: Option<IpAddr>, policy: Arc<ArcSwap<AddressPolicy>>) -> Self {
        // A dual-stack listener sees IPv4 clients behind a mapped address.
        Self { peer: peer.map(|peer| peer.to_canonical()), policy, noted: ArcSwapOption::empty() }
    }

    /// The address of whoever made the request with these headers: the peer's, or what trusted proxies say; `None` if they
    /// say nothing that can be believed. Never an IPv4 address written as IPv6. For limits and rules; for the record there
    /// is [`Origin::recorded`].
    pub(crate) fn address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        self.policy.load().trust.client(self.peer?, headers)
    }

    /// The same address as a record may keep it, at this instant.
    pub(crate) fn recorded(&self, headers: &HeaderMap, at: Timestamp) -> Option<Text> {
        let policy = self.policy.load();
        let address = policy.trust.client(self.peer?, headers)?;
        if let Some(noted) = &*self.noted.load()
            && noted.holds(&policy, address, at)
        {
            return noted.text.clone();
        }
        let noted = Noted::make(&policy, address, at);
        let text = noted.text.clone();
        self.noted.store(Some(Arc::new(noted)));
        text
    }
}

impl Noted {
    fn holds(&self, policy: &Arc<AddressPolicy>, address: IpAddr, at: Timestamp) -> bool {
        Arc::ptr_eq(&self.policy, policy)
            && self.address == address
            && self.period.as_ref().is_none_or(|period| period.contains(at))
    }

    fn make(policy: &Arc<AddressPolicy>, address: IpAddr, at: Timestamp) -> Self {
        let mut period = None;
        let text = match policy.mode {
            ClientIp::Off => None,
            ClientIp::Full => Some(address.to_string()),
            ClientIp::Prefix => Some(prefix_of(address)),
            // Without a key, which a valid configuration has, nothing is the safe thing to keep.
            ClientIp::Hash => policy.hash_key.as_ref().map(|key| {
                let period = period.insert(Period::of(policy.rotation, at));
                hash_of(address, &KeyedHash::of_period(key, PURPOSE, period))
            }),
        };
        Self { policy: Arc::clone(policy), address, period, text: text.map(Text::from) }
    }
}

fn prefix_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{}/24", Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

fn hash_of(address: IpAddr, hash: &KeyedHash) -> String {
    match address {
        IpAddr::V4(address) => hash.hash(&address.octets()),
        IpAddr::V6(address) => hash.hash(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpmeter_config::{MINIMAL, Source, load};

    const DAY_US: i64 = 86_400_000_000;

    fn policy(toml: &str) -> Arc<AddressPolicy> {
        let environment = [("KEY".to_owned(), "0123456789abcdef".to_owned())];
        let text = format!("{toml}\n{MINIMAL}");
        let config = load(&Source { text: &text, environment: &environment, ..Source::default() });
        Arc::new(AddressPolicy::of(&config.unwrap_or_else(|problems| panic!("{problems}"))))
    }

    fn origin(peer: &str, policy: &Arc<AddressPolicy>) -> Origin {
        Origin::new(Some(peer.parse().expect("valid")), Arc::new(ArcSwap::new(Arc::clone(policy))))
    }

    fn recorded(peer: &str, policy: &Arc<AddressPolicy>) -> Option<String> {
        origin(peer, policy).recorded(&HeaderMap::new(), Timestamp(0)).map(|text| text.to_string())
    }

    #[test]
    fn an_address_is_cut_to_its_network_by_default() {
        let [default, off, full] =
            ["", "[privacy]\nclient_ip = \"off\"", "[privacy]\nclient_ip = \"full\""].map(policy);
        for (address, prefix, whole) in [
            ("192.0.2.77", "192.0.2.0/24", "192.0.2.77"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48", "2001:db8:1:2:3::4"),
            ("::ffff:192.0.2.77", "192.0.2.0/24", "192.0.2.77"),
        ] {
            assert_eq!(recorded(address, &default).as_deref(), Some(prefix));
            assert_eq!(recorded(address, &full).as_deref(), Some(whole));
            assert_eq!(recorded(address, &off), None);
        }
        let gone = Origin::new(None, Arc::new(ArcSwap::new(full)));
        assert_eq!(gone.address(&HeaderMap::new()), None);
        assert_eq!(gone.recorded(&HeaderMap::new(), Timestamp(0)), None);
    }

    #[test]
    fn a_hash_is_that_of_the_whole_address_and_the_same_for_all_proxies_with_the_key() {
        let hash = "[privacy]\nclient_ip = \"hash\"\nhash_key = { env = \"KEY\" }";
        let (one, other) = (policy(hash), policy(hash));
        let of = |address| recorded(address, &one).expect("a hash");
        assert_eq!(Some(of("192.0.2.77")), recorded("::ffff:192.0.2.77", &other));
        assert_ne!(of("192.0.2.77"), of("192.0.2.78"));
        assert!(of("2001:db8::1").len() == 22 && !of("192.0.2.77").contains('.'));
    }

    #[test]
    fn a_connection_that_outlives_a_period_or_a_configuration_gets_another_hash() {
        let daily = "[privacy]\nclient_ip = \"hash\"\nhash_key = { env = \"KEY\" }\nhash_rotation = \"day\"";
        let current = Arc::new(ArcSwap::new(policy(daily)));
        let origin = Origin::new(Some("192.0.2.1".parse().expect("valid")), Arc::clone(&current));
        let at = |us| origin.recorded(&HeaderMap::new(), Timestamp(us)).expect("a hash");
        let (first, second) = (at(0), at(DAY_US));
        assert_ne!(first, second);
        assert_eq!((at(DAY_US - 1), at(2 * DAY_US - 1)), (first.clone(), second));
        current.store(policy(&daily.replace("day", "month")));
        let monthly = at(0);
        assert_ne!(monthly, first);
        assert!(Arc::ptr_eq(&monthly, &at(30 * DAY_US)), "made once");
        current.store(policy("[privacy]\nclient_ip = \"full\""));
        assert_eq!(&*at(0), "192.0.2.1");
    }

    #[test]
    fn each_request_of_a_trusted_proxy_has_an_address_of_its_own() {
        let trusting = policy("[proxy]\ntrusted_proxies = [\"10.0.0.0/8\"]\n[privacy]\nclient_ip = \"full\"");
        let origin = origin("::ffff:10.0.0.1", &trusting);
        for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1"] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-forwarded-for"),
                http::HeaderValue::from_static(client),
            )]);
            assert_eq!(origin.address(&headers), client.parse().ok());
            assert_eq!(origin.recorded(&headers, Timestamp(0)).as_deref(), Some(client));
        }
        assert_eq!(origin.recorded(&HeaderMap::new(), Timestamp(0)).as_deref(), Some("10.0.0.1"));
    }
}
