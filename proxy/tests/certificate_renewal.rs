//! Certificates that are exchanged while the proxy runs: taken over without a restart and without the end of a connection,
//! or refused, loudly, with the old ones still in force.

use crate::{
    authority::{Authority, Signed},
    message::{call, post, result},
    raw::Wire,
    serving::Serving,
    support::{Mcpmeter, eventually},
};
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::tempdir;

const TLS: &str = "[proxy.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";

/// The certificate that new clients are shown.
async fn shown(proxy: &Mcpmeter, authority: &Authority) -> Vec<u8> {
    let stream = authority.connect(proxy.proxy, None).await.expect("trusted");
    stream.get_ref().1.peer_certificates().expect("shown")[0].to_vec()
}

fn count(proxy: &Mcpmeter, words: &str) -> usize {
    proxy.log().iter().filter(|line| line.contains(words)).count()
}

async fn refused(proxy: &Mcpmeter) -> bool {
    let (_, metrics) = proxy.admin("/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("mcpmeter_certificate_refused{role=\"proxy\""));
    line.expect("told").ends_with(" 1")
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_signal_and_without_the_end_of_a_connection() {
    let authority = Authority::new("authority");
    let (old, new) = (authority.server(), authority.server());
    let folder = tempdir().expect("a temporary folder");
    old.write(folder.path(), "cert.pem", "key.pem");
    let upstream = Serving::results();
    let mut proxy = Mcpmeter::start_in(folder, &format!("{TLS}{}", upstream.route("a")), &[]);
    let mut before = Wire::over(authority.connect(proxy.proxy, None).await.expect("trusted"));
    assert_eq!(shown(&proxy, &authority).await, old.der().to_vec());
    // Half a pair is no pair: between the two files nothing may be complained about.
    fs::write(proxy.folder().join("cert.pem"), new.pem()).expect("written");
    fs::write(proxy.folder().join("key.pem"), new.key_pem()).expect("written");
    let mut id = 0;
    // Traffic goes on all the while, on a connection from before and on new ones.
    while shown(&proxy, &authority).await != new.der().to_vec() {
        id += 1;
        before.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
        assert_eq!(before.read_response().await.text(), result(id));
    }
    proxy.wait_for_log("certificates read again");
    before.send(post("localhost", "/a/mcp", &call(0, "add"))).await;
    assert_eq!(before.read_response().await.text(), result(0));
    assert_eq!(count(&proxy, "stays in force"), 0, "{:#?}", proxy.log());
    assert_eq!(proxy.stop().await.len() as u64, id + 1);
}

/// As certbot does: `live/` has links into `archive/`, which are exchanged.
fn link(folder: &Path, to: &str) {
    for file in ["cert.pem", "key.pem"] {
        let next = folder.join("next");
        symlink(Path::new("archive").join(to).join(file), &next).expect("linked");
        fs::rename(next, folder.join(file)).expect("renamed");
    }
}

#[tokio::test]
async fn exchanged_links_are_followed() {
    let authority = Authority::new("authority");
    let pairs = [("1", authority.server()), ("2", authority.server())];
    let folder = tempdir().expect("a temporary folder");
    for (name, pair) in &pairs {
        let archive = folder.path().join("archive").join(name);
        fs::create_dir_all(&archive).expect("made");
        pair.write(&archive, "cert.pem", "key.pem");
    }
    link(folder.path(), "1");
    let mut proxy = Mcpmeter::start_in(folder, &format!("{TLS}{}", Serving::results().route("a")), &[]);
    assert_eq!(shown(&proxy, &authority).await, pairs[0].1.der().to_vec());
    link(proxy.folder(), "2");
    proxy.wait_for_log("certificates read again");
    assert_eq!(shown(&proxy, &authority).await, pairs[1].1.der().to_vec());
}

#[tokio::test]
async fn what_cannot_be_used_is_told_once_and_changes_nothing_until_it_can() {
    let authority = Authority::new("authority");
    let (old, new) = (authority.server(), authority.server());
    let folder = tempdir().expect("a temporary folder");
    old.write(folder.path(), "cert.pem", "key.pem");
    let proxy = Mcpmeter::start_in(folder, &format!("{TLS}{}", Serving::results().route("a")), &[]);
    assert!(!refused(&proxy).await);
    let write = |name: &str, text: &str| fs::write(proxy.folder().join(name), text).expect("written");
    let told = |words: &str| {
        proxy
            .log()
            .iter()
            .any(|line| line.contains("the old certificate stays in force") && line.contains(words))
    };
    // A certificate whose key is not there yet; then one that is half-written; then none at all.
    write("cert.pem", &new.pem());
    eventually("told", || told("is not the key of the certificate")).await;
    assert!(refused(&proxy).await);
    assert_eq!(shown(&proxy, &authority).await, old.der().to_vec());
    write("cert.pem", &new.pem()[..300]);
    eventually("told", || told("is damaged or cut off")).await;
    fs::remove_file(proxy.folder().join("cert.pem")).expect("removed");
    eventually("told", || told("cannot read cert_file cert.pem")).await;
    assert_eq!(shown(&proxy, &authority).await, old.der().to_vec());
    assert_eq!(count(&proxy, "the old certificate stays in force"), 3, "once each: {:#?}", proxy.log());
    new.write(proxy.folder(), "cert.pem", "key.pem");
    eventually("taken over", || count(&proxy, "certificates read again") == 1).await;
    assert_eq!(shown(&proxy, &authority).await, new.der().to_vec());
    assert!(!refused(&proxy).await);
}

#[tokio::test]
async fn a_reload_takes_other_files_and_another_authority_of_clients_over() {
    let (authority, old, new) = (Authority::new("authority"), Authority::new("old"), Authority::new("new"));
    let (first, second) = (authority.server(), authority.server());
    let folder = tempdir().expect("a temporary folder");
    first.write(folder.path(), "cert.pem", "key.pem");
    second.write(folder.path(), "other.pem", "other-key.pem");
    old.write(&folder.path().join("old-ca.pem"));
    new.write(&folder.path().join("new-ca.pem"));
    let upstream = Serving::results();
    let config = format!("{TLS}client_ca_file = \"old-ca.pem\"\n{}", upstream.route("a"));
    let mut proxy = Mcpmeter::start_in(folder, &config, &[]);
    let text = fs::read_to_string(proxy.config_file()).expect("a configuration");
    let text = text.replace("\"cert.pem\"", "\"other.pem\"").replace("\"key.pem\"", "\"other-key.pem\"");
    fs::write(proxy.config_file(), text.replace("old-ca", "new-ca")).expect("written");
    proxy.signal("HUP");
    let line = proxy.wait_for_log("configuration reloaded");
    assert_eq!(line["changed"], "proxy.tls.cert_file, proxy.tls.key_file, proxy.tls.client_ca_file");
    let ask = async |shown: &Signed| {
        let mut client = Wire::over(authority.connect(proxy.proxy, Some(shown)).await.ok()?);
        client.try_send(post("localhost", "/a/mcp", &call(1, "add"))).await.ok()?;
        client.read_to_answer().await.0
    };
    assert!(ask(&old.client("alice")).await.is_none());
    assert_eq!(ask(&new.client("alice")).await.expect("let in").text(), result(1));
    let (_, metrics) = proxy.admin("/metrics").await;
    let expiry = "mcpmeter_certificate_expiry_timestamp_seconds{role=\"proxy\",file=\"other.pem\"} ";
    assert!(metrics.contains(expiry), "{metrics}");
}
