//! mcpmeter with recording on. The program is the one beside the bench's own, so that both come from the same build.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    ContenderError, Identity, ROUTE, ROUTED_PATH, Running, Tls, Variant, ask_program,
    books::Books,
    credentials::{self, Presented},
};
use crate::connection::Target;
use crate::process::{Process, answers_ok, find_free_port, tethered};

pub(super) fn read_version() -> Result<String, ContenderError> {
    find_program().map(|(_, version)| version)
}

pub(super) fn start(
    upstream: SocketAddr,
    directory: &Path,
    variant: Variant,
    tls: Option<&Tls>,
) -> Result<Running, ContenderError> {
    let (program, _) = find_program()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let books = Books::open(variant.store, directory, admin);
    let file = directory.join("mcpmeter.toml");
    let Presented { identity, lines } = credentials::present(variant.identity, directory)?;
    let config =
        render_config(address, admin, upstream, &books.url(), variant) + &identity + &render_tls(tls);
    fs::write(&file, config)?;
    let mut command = tethered(&program)?;
    command.arg("serve").arg("-c").arg(file).current_dir(directory);
    // What the caller's environment says must not win over the file.
    let overriding =
        |name: &OsStr| name == "DATABASE_URL" || name.as_encoded_bytes().starts_with(b"MCPMETER_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| overriding(name)) {
        command.env_remove(name);
    }
    let credentials = match variant.identity {
        Some(Identity::ApiKey) => credentials::make_key(&program, directory, variant.store)?,
        _ => lines,
    };
    let mut process = Process::start("mcpmeter", command, &directory.join("output"))?;
    process.wait_until(|| answers_ok(admin, "/readyz"))?;
    let target =
        Target { address, path: ROUTED_PATH, credentials, tls: tls.map(|tls| Arc::clone(&tls.client)) };
    Ok(Running { target, process: Some(process), books: Some(books) })
}

fn find_program() -> Result<(PathBuf, String), ContenderError> {
    let beside = std::env::current_exe()?.with_file_name("mcpmeter");
    ask_program(std::slice::from_ref(&beside), "--version").ok_or_else(|| ContenderError::Missing {
        program: "mcpmeter",
        advice: format!("build it into {}, or leave it out with --contenders", beside.display()),
    })
}

fn render_config(
    address: SocketAddr,
    admin: SocketAddr,
    upstream: SocketAddr,
    books: &str,
    variant: Variant,
) -> String {
    let runtime =
        variant.runtime.map(|runtime| format!("runtime = \"{}\"\n", runtime.word())).unwrap_or_default();
    let workers = variant.workers.map(|workers| format!("workers = {workers}\n")).unwrap_or_default();
    let further: String = (0..variant.further_routes)
        .map(|number| format!("[[route]]\nname = \"other-{number}\"\nupstream = \"http://{upstream}\"\n\n"))
        .collect();
    format!(
        r#"[proxy]
listen = "{address}"
{runtime}{workers}
[admin]
listen = "{admin}"

[store]
url = "{books}"

[log]
level = "warn"

{further}[[route]]
name = "{ROUTE}"
upstream = "http://{upstream}"
"#
    )
}

fn render_tls(tls: Option<&Tls>) -> String {
    tls.map_or_else(String::new, |Tls { cert_file, key_file, .. }| {
        let (cert_file, key_file) = (cert_file.display(), key_file.display());
        format!("[proxy.tls]\ncert_file = \"{cert_file}\"\nkey_file = \"{key_file}\"\n")
    })
}
