//! Whose word about an address is believed, and how much of it is kept.

use mcpmeter_config::{
    ClientIp, Config, ForwardedHeader, HashRotation, Place, Problems, Source, changes, load,
};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://h\"\n";
const KEY: &str = "0123456789abcdef geheim";

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Source { text: &format!("{text}\n{ROUTE}"), environment: &environment, ..Source::default() })
}

fn codes(problems: &Problems) -> Vec<(&'static str, usize)> {
    let line = |place: &Place| if let Place::File(position) = place { position.line } else { 0 };
    problems.iter().map(|problem| (problem.code, line(&problem.place))).collect()
}

#[test]
fn trusted_proxies_are_networks_or_addresses_and_mapped_ones_are_what_they_map() {
    let text = "[proxy]\ntrusted_proxies = [\"10.0.0.0/8\", \"192.0.2.1\", \"2001:db8::/32\", \"::ffff:172.16.0.0/108\", \
                \"::ffff:10.0.0.9\", \"::/0\"]\nforwarded_hops = 3\nforwarded_header = \"forwarded\"";
    let proxy = read(text, &[]).unwrap_or_else(|problems| panic!("{problems}")).proxy;
    let networks: Vec<_> = proxy.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(
        networks,
        ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "172.16.0.0/12", "10.0.0.9/32", "::/0"]
    );
    assert_eq!((proxy.forwarded_hops, proxy.forwarded_header), (3, ForwardedHeader::Forwarded));
    let by_variable =
        read("", &[("MCPMETER_PROXY__TRUSTED_PROXIES", "127.0.0.1, ::1")]).expect("valid").proxy;
    assert_eq!(by_variable.trusted_proxies.len(), 2);
    let default = read("", &[]).expect("valid").proxy;
    assert_eq!((default.trusted_proxies.len(), default.forwarded_hops), (0, 1), "nobody is believed");
}

#[test]
fn what_is_no_network_is_refused_one_by_one() {
    let text = "[proxy]\ntrusted_proxies = [\n\"10.0.0.1/8\",\n\"localhost\",\n\"10.0.0.0/33\",\n\"\",\n7,\n\"fe80::1%eth0\",\n\
                \"10.0.0.0/8\"]\nforwarded_hops = 0\nforwarded_header = \"via\"";
    let problems = read(text, &[]).expect_err("problems");
    let invalid = "value-invalid";
    let expected = [
        (invalid, 3),
        (invalid, 4),
        (invalid, 5),
        (invalid, 6),
        ("value-type", 7),
        (invalid, 8),
        ("value-range", 10),
        ("value-choice", 11),
    ];
    assert_eq!(codes(&problems), expected, "{problems}");
    let help = problems.iter().next().and_then(|problem| problem.help.as_deref());
    assert_eq!(help, Some("write \"10.0.0.0/8\" or \"10.0.0.1\""));
}

#[test]
fn a_hash_needs_a_key_that_stands_elsewhere() {
    let missing = read("[privacy]\nclient_ip = \"hash\"", &[]).expect_err("no key");
    assert_eq!(codes(&missing), [("key-missing", 2)]);
    assert!(missing.to_string().contains("openssl rand"), "{missing}");
    let by_variable = read("", &[("MCPMETER_PRIVACY__CLIENT_IP", "hash")]).expect_err("no key");
    assert_eq!(codes(&by_variable), [("key-missing", 0)]);

    let text = "[privacy]\nclient_ip = \"hash\"\nhash_key = { env = \"KEY\" }\nhash_rotation = \"day\"";
    let privacy = read(text, &[("KEY", KEY)]).expect("valid").privacy;
    assert_eq!((privacy.client_ip, privacy.hash_rotation), (ClientIp::Hash, HashRotation::Day));
    assert_eq!(privacy.hash_key.as_ref().map(|key| key.expose()), Some(KEY));
    let text = "[privacy]\nclient_ip = \"hash\"";
    let privacy = read(text, &[("MCPMETER_PRIVACY__HASH_KEY", KEY)]).expect("valid").privacy;
    assert_eq!(privacy.hash_rotation, HashRotation::Month);
    assert_eq!(privacy.hash_key.as_ref().map(|key| key.expose()), Some(KEY));

    // One key is enough to complain about.
    let text = "[privacy]\nclient_ip = \"hash\"\nhash_key = { env = \"NOT_SET\" }";
    assert_eq!(codes(&read(text, &[]).expect_err("not set")), [("secret-unreadable", 3)]);
}

#[test]
fn no_problem_shows_a_key() {
    for (text, environment) in [
        ("[privacy]\nhash_key = \"0123456789abcdef geheim\"", &[][..]),
        ("[privacy]\nhash_key = [\"0123456789abcdef geheim\"]", &[]),
        ("[privacy]\nhash_key = \"geheim\"\nhash_kye = 1", &[]),
        ("[privacy]\nhash_key = { env = \"KEY\" }", &[("KEY", "geheim")]),
        ("", &[("MCPMETER_PRIVACY__HASH_KEY", "geheim")]),
        ("", &[("MCPMETER_PRIVACY__HASH_KYE", "geheim")]),
    ] {
        let problems = read(text, environment).expect_err(text);
        for shown in [problems.to_string(), problems.render(true), problems.to_json().to_string()] {
            assert!(!shown.contains("geheim"), "{shown}");
        }
    }
    let config = read("[privacy]\nhash_key = { env = \"KEY\" }", &[("KEY", KEY)]).expect("valid");
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn a_new_key_is_live_and_not_shown() {
    let text = "[privacy]\nhash_key = { env = \"KEY\" }";
    let [old, new] = [KEY, "another key of 16 bytes"].map(|key| read(text, &[("KEY", key)]).expect("valid"));
    let changes = changes(&old, &new);
    assert_eq!((changes.live, changes.restart), (vec!["privacy.hash_key".to_owned()], vec![]));
}
