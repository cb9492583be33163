//! Where PostgreSQL is, read once from its URL into something that cannot be wrong and does not tell the
//! password.

use percent_encoding::percent_decode_str;
use std::{fmt, path::PathBuf, str::FromStr, time::Duration};
use tokio_postgres::config::{Config, SslMode};

/// How the connection is encrypted; the words are libpq's `sslmode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// `disable`, `prefer`, `require`: against listeners only; the server's certificate is not checked.
    Unchecked,
    /// `verify-full`: the certificate has to be valid for the host, by the roots in the file `sslrootcert` or
    /// else the system's.
    Verified { roots: Option<PathBuf> },
}

/// The URL of a PostgreSQL database: `postgres://user:password@host:port/database?sslmode=…`. Shown and
/// debugged without the password.
#[derive(Clone)]
pub struct PostgresUrl {
    pub(crate) config: Config,
    pub(crate) encryption: Encryption,
}

/// A text that is no usable URL of a PostgreSQL database. It never quotes the text, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum BadPostgresUrl {
    /// It does not begin with `postgres://` or `postgresql://`.
    #[error("a PostgreSQL URL begins with postgres:// or postgresql://")]
    Scheme,
    /// `sslmode` has a value that mcpmeter does not offer.
    #[error("unknown sslmode \"{0}\": expected disable, prefer, require or verify-full")]
    SslMode(String),
    /// The rest cannot be read.
    #[error("the PostgreSQL URL cannot be read")]
    Invalid(#[from] tokio_postgres::Error),
    /// No host, and no directory of a Unix socket either.
    #[error("the PostgreSQL URL names no host")]
    NoHost,
}

/// How long one attempt to connect may take, unless the URL says otherwise (`connect_timeout`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long a silent peer is taken for dead, unless the URL says otherwise.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);

impl FromStr for PostgresUrl {
    type Err = BadPostgresUrl;

    fn from_str(text: &str) -> Result<Self, BadPostgresUrl> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(BadPostgresUrl::Scheme);
        }
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut kept, mut mode, mut roots) = (Vec::new(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                // Ours to read, because tokio-postgres leaves certificates to its TLS library.
                "sslmode" => mode = Some(value()),
                "sslrootcert" => roots = Some(PathBuf::from(value())),
                _ => kept.push(pair),
            }
        }
        let mut config = Config::from_str(&format!("{address}?{}", kept.join("&")))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(BadPostgresUrl::NoHost);
        }
        let encryption = set_ssl_mode(&mut config, mode, roots)?;
        set_defaults(&mut config);
        Ok(Self { config, encryption })
    }
}

fn set_ssl_mode(
    config: &mut Config,
    mode: Option<String>,
    roots: Option<PathBuf>,
) -> Result<Encryption, BadPostgresUrl> {
    let (mode, encryption) = match mode.as_deref() {
        Some("disable") => (SslMode::Disable, Encryption::Unchecked),
        None | Some("prefer") => (SslMode::Prefer, Encryption::Unchecked),
        Some("require") => (SslMode::Require, Encryption::Unchecked),
        Some("verify-full") => (SslMode::Require, Encryption::Verified { roots }),
        Some(other) => return Err(BadPostgresUrl::SslMode(other.to_owned())),
    };
    config.ssl_mode(mode);
    Ok(encryption)
}

fn set_defaults(config: &mut Config) {
    if config.get_application_name().is_none() {
        config.application_name("mcpmeter");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(PEER_TIMEOUT);
    }
    config.keepalives(true);
}

impl PostgresUrl {
    /// The text without the password, wherever it may have got into it.
    pub(crate) fn redact(&self, text: &str) -> String {
        match self.config.get_password().map(String::from_utf8_lossy) {
            Some(password) if !password.is_empty() => text.replace(&*password, "***"),
            _ => text.to_owned(),
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.config.get_hosts().first().map_or_else(String::new, |host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        });
        let user = self.config.get_user().map_or_else(String::new, |user| format!("{user}@"));
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        write!(f, "postgres://{user}{host}:{port}/{database}")
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PostgresUrl, BadPostgresUrl> {
        text.parse()
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = read("postgres://meter:s3cret%21@db.example:6432/calls?connect_timeout=3").unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://meter@db.example:6432/calls PostgresUrl(postgres://meter@db.example:6432/calls)"
        );
        assert_eq!(url.redact("password s3cret! refused"), "password *** refused");
        assert_eq!(url.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }

    #[test]
    fn sslmode_has_the_meaning_that_libpq_gives_it() {
        let mode = |text: &str| read(text).map(|url| (url.config.get_ssl_mode(), url.encryption)).unwrap();
        assert_eq!(mode("postgres://db/calls"), (SslMode::Prefer, Encryption::Unchecked));
        assert_eq!(mode("postgres://db/calls?sslmode=require"), (SslMode::Require, Encryption::Unchecked));
        let roots = Some(PathBuf::from("/etc/ssl/db ca.pem"));
        assert_eq!(
            mode("postgres://db/calls?sslmode=verify-full&sslrootcert=/etc/ssl/db%20ca.pem"),
            (SslMode::Require, Encryption::Verified { roots })
        );
    }

    #[test]
    fn a_url_that_cannot_work_is_refused_without_quoting_it() {
        assert!(matches!(read("mysql://db"), Err(BadPostgresUrl::Scheme)));
        assert!(matches!(read("postgres://db/x?sslmode=verify-ca"), Err(BadPostgresUrl::SslMode(_))));
        let error = read("postgres://u:s3cret@db/x?colour=blue").unwrap_err();
        assert!(!crate::chain::chain(&error).contains("s3cret"), "{error:?}");
    }
}
