//! Whose word is taken for what: honest chains, and what attackers make of them.

use super::*;
use http::HeaderValue;

/// Trusts 10.0.0.0/8 and 2001:db8:1::/48.
fn trust(hops: usize, header: ForwardedHeader) -> Trust {
    let proxies = ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().expect("a network"));
    Trust { proxies: proxies.to_vec(), hops, header }
}

fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value).expect("a value"));
    }
    headers
}

fn client(hops: usize, peer: &str, lines: &[(&'static str, &[u8])]) -> String {
    let peer = peer.parse::<IpAddr>().expect("an address").to_canonical();
    told(trust(hops, ForwardedHeader::Any).client(peer, &headers(lines)))
}

fn told(client: Option<IpAddr>) -> String {
    client.map_or(UNKNOWN.to_owned(), |address| address.to_string())
}

const LIST: &str = "x-forwarded-for";
const PAIRS: &str = "forwarded";
const PROXY: &str = "10.0.0.1";
/// Somebody behind the proxy, who must not pass for it.
const UNKNOWN: &str = "unknown";

#[test]
fn only_a_trusted_peer_is_believed() {
    let lines: &[(&str, &[u8])] = &[(LIST, b"192.0.2.1"), (PAIRS, b"for=192.0.2.1")];
    for (peer, expected) in [
        (PROXY, "192.0.2.1"),
        ("2001:db8:1::5", "192.0.2.1"),
        ("::ffff:10.0.0.1", "192.0.2.1"),
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:2::5", "2001:db8:2::5"),
        ("11.0.0.1", "11.0.0.1"),
        // The compatible form of old, which is not the mapped one.
        ("::10.0.0.1", "::a00:1"),
    ] {
        assert_eq!(client(1, peer, lines), expected, "{peer}");
    }
    let nobody = Trust { proxies: Vec::new(), hops: 32, header: ForwardedHeader::Any };
    assert_eq!(told(nobody.client(PROXY.parse().expect("valid"), &headers(lines))), PROXY);
    assert_eq!(client(3, PROXY, &[]), PROXY);
}

#[test]
fn the_list_is_walked_from_its_end_as_far_as_it_is_trusted() {
    for (hops, list, expected) in [
        (1, &b"192.0.2.1"[..], "192.0.2.1"),
        // Forged in front by the client.
        (1, b"1.2.3.4, 192.0.2.1", "192.0.2.1"),
        (9, b"1.2.3.4, 192.0.2.1", "192.0.2.1"),
        (9, b"10.9.9.9, 192.0.2.1", "192.0.2.1"),
        (2, b"1.2.3.4, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (9, b"1.2.3.4, 192.0.2.1, 10.0.0.3, 10.0.0.2", "192.0.2.1"),
        // More proxies than were said: what the last of those that count has seen.
        (1, b"192.0.2.1, 10.0.0.2", "10.0.0.2"),
        (2, b"192.0.2.1, 10.0.0.3, 10.0.0.2", "10.0.0.3"),
        // Trusted to the first entry: a proxy's own request.
        (9, b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (9, b"192.0.2.1,10.0.0.2", "192.0.2.1"),
        (9, b"\t192.0.2.1 ,  10.0.0.2\t", "192.0.2.1"),
        (9, b"192.0.2.1,, ,10.0.0.2,", "192.0.2.1"),
        (1, b"", PROXY),
        (1, b", ,", PROXY),
    ] {
        let shown = String::from_utf8_lossy(list);
        assert_eq!(client(hops, PROXY, &[(LIST, list)]), expected, "{hops} {shown}");
    }
}

#[test]
fn several_lines_are_one_list() {
    let lines: &[(&str, &[u8])] = &[(LIST, b"1.2.3.4, 192.0.2.1"), (LIST, b""), (LIST, b"10.0.0.3,10.0.0.2")];
    for (hops, expected) in [(1, "10.0.0.2"), (2, "10.0.0.3"), (3, "192.0.2.1"), (9, "192.0.2.1")] {
        assert_eq!(client(hops, PROXY, lines), expected, "{hops}");
    }
    let lines: &[(&str, &[u8])] =
        &[(PAIRS, b"for=1.2.3.4"), (PAIRS, b"for=192.0.2.1"), (PAIRS, b"for=10.0.0.2")];
    assert_eq!(client(9, PROXY, lines), "192.0.2.1");
}

#[test]
fn who_is_behind_an_entry_that_cannot_be_read_is_nobody_known() {
    for rubbish in [
        "garbage",
        "unknown",
        "_hidden",
        "192.0.2",
        "192.0.2.1.",
        "192.0.2.256",
        "0300.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:123456",
        "192.0.2.1:8o",
        "192.0.2.1 192.0.2.2",
        "[192.0.2.1]",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]80",
        "[2001:db8::1]:",
        "2001:db8::1%eth0",
        "[fe80::1%25eth0]",
        "http://192.0.2.1",
        "for=192.0.2.1",
        "\"192.0.2.1\"",
        "\u{ff11}92.0.2.1",
    ] {
        let list = format!("192.0.2.9, {rubbish}, 10.0.0.2");
        assert_eq!(client(9, PROXY, &[(LIST, list.as_bytes())]), UNKNOWN, "{rubbish}");
        assert_eq!(client(1, PROXY, &[(LIST, list.as_bytes())]), "10.0.0.2", "{rubbish}");
        assert_eq!(client(9, PROXY, &[(LIST, rubbish.as_bytes())]), UNKNOWN, "{rubbish}");
    }
    // Bytes that are no text, left of what the proxies have written.
    assert_eq!(client(9, PROXY, &[(LIST, b"\xff\xfe, 192.0.2.1, 10.0.0.2")]), "192.0.2.1");
    assert_eq!(client(9, PROXY, &[(LIST, b"192.0.2.1, \xff\xfe")]), UNKNOWN);
}

#[test]
fn ports_and_brackets_are_left_out_and_a_mapped_address_is_what_it_maps() {
    for (entry, expected) in [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1:4711", "2001:db8::1:4711"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("192.0.2.1:_port-1", "192.0.2.1"),
    ] {
        assert_eq!(client(1, PROXY, &[(LIST, entry.as_bytes())]), expected, "{entry}");
        let quoted = format!("for=\"{entry}\"");
        assert_eq!(client(1, PROXY, &[(PAIRS, quoted.as_bytes())]), expected, "{quoted}");
    }
    // A trusted proxy by its mapped address.
    assert_eq!(client(2, PROXY, &[(LIST, b"192.0.2.1, ::ffff:10.0.0.2")]), "192.0.2.1");
}

#[test]
fn pairs_are_read_as_rfc_7239_has_them() {
    for (line, expected) in [
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("proto=http; FOR = 192.0.2.60 ;by=203.0.113.43", "192.0.2.60"),
        ("for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
        ("for=192.0.2.43, for=\"[2001:db8:1::17]\"", "192.0.2.43"),
        ("for=192.0.2.43;ext=\"a,b;for=1.2.3.4\"", "192.0.2.43"),
        ("for=1.2.3.4;ext=\"a,b\", for=192.0.2.43;ext=\"c,d\", for=10.0.0.2", "192.0.2.43"),
        ("for=192.0.2.43;host=\"a\\\"b,c\"", "192.0.2.43"),
        // Said nothing, said otherwise, said twice.
        ("for=unknown", UNKNOWN),
        ("for=_hidden, for=10.0.0.2", UNKNOWN),
        ("for=\"_gazonk\"", UNKNOWN),
        ("proto=http", UNKNOWN),
        ("for=", UNKNOWN),
        ("for", UNKNOWN),
        ("192.0.2.43", UNKNOWN),
        ("for=192.0.2.43;for=192.0.2.44", UNKNOWN),
        ("for=\"192.0.2.43", UNKNOWN),
        ("for=192.0.2.43\"", UNKNOWN),
    ] {
        assert_eq!(client(9, PROXY, &[(PAIRS, line.as_bytes())]), expected, "{line}");
    }
}

#[test]
fn a_quote_that_a_client_leaves_open_spoils_nothing_that_a_proxy_adds() {
    for forged in ["for=\"", "for=\"1.2.3.4", "for=1.2.3.4;x=\"", "\"", "for=\"x\\\"", "for=\"a, for=\"b"] {
        let line = format!("{forged}, for=192.0.2.1, for=\"10.0.0.2\"");
        assert_eq!(client(9, PROXY, &[(PAIRS, line.as_bytes())]), "192.0.2.1", "{forged}");
    }
}

#[test]
fn of_two_headers_that_disagree_none_is_believed_unless_it_is_said_which_one_counts() {
    let both: &[(&str, &[u8])] = &[(LIST, b"1.2.3.4"), (PAIRS, b"for=192.0.2.1")];
    assert_eq!(client(1, PROXY, both), UNKNOWN);
    let agreeing: &[(&str, &[u8])] = &[(LIST, b"6.6.6.6, 192.0.2.1"), (PAIRS, b"for=192.0.2.1")];
    assert_eq!(client(1, PROXY, agreeing), "192.0.2.1");
    let peer = PROXY.parse().expect("valid");
    for (header, expected) in
        [(ForwardedHeader::XForwardedFor, "1.2.3.4"), (ForwardedHeader::Forwarded, "192.0.2.1")]
    {
        assert_eq!(told(trust(1, header).client(peer, &headers(both))), expected);
    }
    let other_only: &[(&str, &[u8])] = &[(PAIRS, b"for=192.0.2.1")];
    let lists_only = trust(1, ForwardedHeader::XForwardedFor);
    assert_eq!(told(lists_only.client(peer, &headers(other_only))), UNKNOWN);
    assert_eq!(told(lists_only.client(peer, &HeaderMap::new())), PROXY, "its own request");
}

#[test]
fn a_thousand_forged_entries_change_nothing() {
    let forged = "10.0.0.7, ".repeat(1_000);
    let list = format!("1.2.3.4, {forged}192.0.2.1, 10.0.0.2");
    assert_eq!(client(9, PROXY, &[(LIST, list.as_bytes())]), "192.0.2.1");
    // Even if every one of them is trusted, only so many are looked at.
    let trusted = format!("1.2.3.4, {forged}10.0.0.8, 10.0.0.2");
    assert_eq!(client(2, PROXY, &[(LIST, trusted.as_bytes())]), "10.0.0.8");
    let lines: Vec<(&str, &[u8])> =
        (0..1_000).map(|_| (LIST, &b"1.2.3.4"[..])).chain([(LIST, &b"192.0.2.1"[..])]).collect();
    assert_eq!(client(32, PROXY, &lines), "192.0.2.1");
}
