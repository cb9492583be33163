//! The configuration of docker-compose.yml, with the environment that the same file gives to mcpmeter, is valid and
//! shows nothing without authentication to other machines.

use mcpmeter_config::{Config, Source, StoreUrl, load};

const COMPOSE: &str = include_str!("../../docker-compose.yml");

/// The lines `MCPMETER_…: value` of the file, with `${NAME:-default}` replaced by the default.
fn environment() -> Vec<(String, String)> {
    let variables = COMPOSE.lines().filter_map(|line| line.trim().split_once(": "));
    variables
        .filter(|(name, _)| name.starts_with("MCPMETER_"))
        .map(|(name, value)| {
            let value = match (value.split_once("${"), value.split_once('}')) {
                (Some((before, _)), Some((variable, after))) => {
                    let (_, default) = variable.split_once(":-").expect("every variable has a default");
                    format!("{before}{default}{after}")
                }
                _ => value.to_owned(),
            };
            (name.to_owned(), value)
        })
        .collect()
}

fn read() -> Config {
    let source = Source {
        path: Some("/etc/mcpmeter.toml".as_ref()),
        text: include_str!("../compose.toml"),
        environment: &environment(),
        ..Source::default()
    };
    load(&source).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn it_is_valid_and_leads_to_the_services_of_the_file() {
    let config = read();
    let StoreUrl::Postgres(url) = &config.store.url else { panic!("{:?}", config.store.url) };
    assert_eq!(url.expose(), "postgres://mcpmeter:demo@postgres/mcpmeter");
    let [route] = config.routes.as_slice() else { panic!("one route") };
    assert_eq!(route.upstream.to_string(), "http://everything:3001");
    for service in ["postgres", "everything"] {
        assert!(COMPOSE.contains(&format!("\n  {service}:\n")), "no service {service}");
    }
}

#[test]
fn its_outbox_is_on_the_volume() {
    let outbox = read().store.outbox;
    assert!(outbox.starts_with("/var/lib/mcpmeter"), "{outbox:?}");
    assert!(COMPOSE.contains("- mcpmeter:/var/lib/mcpmeter"));
}

#[test]
fn the_proxy_is_reachable_and_the_admin_port_is_not() {
    let config = read();
    assert!(config.proxy.listen.ip().is_unspecified());
    assert!(config.admin.listen.ip().is_loopback());
}
