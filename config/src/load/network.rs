//! Networks of addresses: `10.0.0.0/8`, or one address. Numbers only, as for addresses to listen on.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::found::Found;
use crate::Problem;

/// Bits in front of an IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.0/104`).
const MAPPED_BITS: u8 = 96;

pub(super) fn decode_network(found: &Found<'_>) -> Result<IpNet, Problem> {
    let text = found.as_full_text()?;
    let network = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => network,
        (_, Ok(address)) => IpNet::from(address),
        _ => {
            return Err(Problem::new("value-invalid", "it is neither an IP address nor a network")
                .label("expected \"10.0.0.0/8\"")
                .help("host names are not looked up here; write \"10.0.0.0/8\" or \"2001:db8::1\""));
        }
    };
    if network.trunc() != network {
        // Either half of it may be the mistake.
        let meant = network.trunc();
        return Err(Problem::new("value-invalid", "the address has bits beyond the network")
            .label("host bits are set")
            .help(format!("write \"{meant}\" or \"{address}\"", address = network.addr())));
    }
    Ok(unmapped(network))
}

/// Addresses are compared as what they are, also where a dual-stack listener sees IPv4 behind IPv6.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let bits = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let inner = mapped.addr().to_ipv4_mapped().zip(bits);
    inner.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok()).map_or(network, IpNet::V4)
}
