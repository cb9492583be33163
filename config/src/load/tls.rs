//! `[proxy.tls]` and `[admin.tls]`. The files they name are not read here.

use super::found::Found;
use super::section::Section;
use crate::{ClientAuth, Problem, Tls};

/// The table `tls` of a section: certificate and key or neither, wherever each is set.
pub(super) fn read_tls(parent: &mut Section<'_, '_>) -> Option<Tls> {
    let mut section = parent.section("tls");
    let cert_file = section.read("cert_file", Found::as_path);
    let key_file = section.read("key_file", Found::as_path);
    let client_ca_file = section.read("client_ca_file", Found::as_path);
    let choices = [("required", ClientAuth::Required), ("optional", ClientAuth::Optional)];
    let client_auth = section.read("client_auth", |found| found.as_choice(&choices));
    let is_wanted = section.is_present()
        || [&cert_file, &key_file, &client_ca_file].iter().any(|file| !file.is_absent())
        || !client_auth.is_absent();
    for (key, file) in [("cert_file", &cert_file), ("key_file", &key_file)] {
        if is_wanted && file.is_absent() {
            section.report_missing(key);
        }
    }
    if client_ca_file.is_absent() && !client_auth.is_absent() {
        report_idle_client_auth(&mut section);
    }
    section.finish();
    Some(Tls {
        cert_file: cert_file.valid()?,
        key_file: key_file.valid()?,
        client_ca_file: client_ca_file.valid(),
        client_auth: client_auth.valid().unwrap_or(ClientAuth::Required),
    })
}

/// Whoever writes it believes that clients are asked for certificates.
fn report_idle_client_auth(section: &mut Section<'_, '_>) {
    let key = section.full_key("client_auth");
    let problem = Problem::new("key-unused", format!("`{key}` does nothing without `client_ca_file`"))
        .at(section.place_of(&key))
        .label("no certificate is asked for")
        .help("set `client_ca_file` to the authority whose certificates clients have");
    section.report(problem);
}
