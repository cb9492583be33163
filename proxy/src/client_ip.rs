//! How much of a client's address a record may know (`privacy.client_ip`). Decided once per connection, before
//! anything else sees the address.

use mcpmeter_config::ClientIp;
use mcpmeter_observer::Text;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address as a record may keep it.
pub(crate) fn minimise(address: IpAddr, mode: ClientIp) -> Option<Text> {
    // A dual-stack listener sees IPv4 clients behind a mapped address.
    let address = address.to_canonical();
    match mode {
        ClientIp::Off => None,
        ClientIp::Full => Some(address.to_string().into()),
        ClientIp::Prefix => Some(prefix_of(address).into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_to_its_network_by_default() {
        for (address, prefix) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ] {
            let address = address.parse().expect("valid");
            assert_eq!(minimise(address, ClientIp::Prefix).as_deref(), Some(prefix));
            assert_eq!(minimise(address, ClientIp::Off), None);
        }
        let full = minimise("192.0.2.77".parse().expect("valid"), ClientIp::Full);
        assert_eq!(full.as_deref(), Some("192.0.2.77"));
    }
}
