//! Who may see what at the admin port (`[admin] token`, `[admin.tls] client_ca_file`). Probes are for everybody. The token
//! never comes in a URL, and nothing here ever repeats it.
//!
//! Where neither is configured the port is on loopback and open. Then `Host` has to be a loopback name, because a web page
//! can point its own name at 127.0.0.1; where somebody is asked for, that page has nothing to show.

use super::{
    attempts::{Attempts, Wrong},
    refused::Refused,
    session::Sessions,
    site,
};
use crate::{
    gate,
    tls::{Certificate, ClientCertificate},
};
use arc_swap::ArcSwapOption;
use http::{HeaderMap, Request, header};
use mcpmeter_config::{self as config, ClientAuth, Secret};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use sha2::{Digest, Sha256};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};
use subtle::ConstantTimeEq;
use tokio::sync::{Notify, futures::Notified};
use tracing::{info, warn};

/// What is in front of the admin port, and can change while it is open. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) access: Arc<Access>,
    /// `[admin.tls]`.
    pub(crate) certificate: Option<Certificate>,
}

/// What is asked of whom.
pub(crate) struct Access {
    /// SHA-256 of the token: what is compared has one length, and the token itself is nowhere.
    token: ArcSwapOption<[u8; 32]>,
    /// Clients are asked for a certificate, but one may come without.
    is_certificate_optional: bool,
    knows_certificates: bool,
    sessions: Sessions,
    /// Tells everybody who is connected that the token has changed.
    exchanged: Notify,
    attempts: Attempts,
    cookie: String,
    is_encrypted: bool,
    counted: Family<ReasonLabels, Counter>,
    logins: Counter,
}

/// Who is at the other end of a connection.
pub(super) struct Visitor {
    pub(super) address: IpAddr,
    pub(super) certificate: Option<ClientCertificate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

impl Access {
    /// For a port that listens at `bound`.
    pub(crate) fn new(admin: &config::Admin, bound: SocketAddr, registry: &mut Registry) -> Self {
        let authorities = admin.tls.as_ref().filter(|tls| tls.client_ca_file.is_some());
        let counted = Family::<ReasonLabels, Counter>::default();
        for reason in Refused::REASONS {
            drop(counted.get_or_create(&ReasonLabels { reason }));
        }
        registry.register("admin_refused", "Requests that the admin port has refused", counted.clone());
        let logins = Counter::default();
        registry.register("admin_logins", "Tokens that were exchanged for a cookie", logins.clone());
        let is_encrypted = admin.tls.is_some();
        if admin.token.is_some() && !is_encrypted && !bound.ip().to_canonical().is_loopback() {
            warn!("the admin token crosses the network unencrypted: set [admin.tls]");
        }
        // Cookies know no ports; only __Host- keeps a page without TLS from setting one.
        let prefix = if is_encrypted { "__Host-" } else { "" };
        Self {
            token: ArcSwapOption::from_pointee(admin.token.as_ref().map(digest)),
            is_certificate_optional: authorities.is_some_and(|tls| tls.client_auth == ClientAuth::Optional),
            knows_certificates: authorities.is_some(),
            sessions: Sessions::default(),
            exchanged: Notify::new(),
            attempts: Attempts::default(),
            cookie: format!("{prefix}mcpmeter-{port}", port = bound.port()),
            is_encrypted,
            counted,
            logins,
        }
    }

    /// Takes another token over, if there is to be one as there was before. Who had the old one is asked again, and what
    /// they are being told ends.
    pub(crate) fn exchange_token(&self, token: Option<&Secret>) {
        let (Some(known), Some(token)) = (self.token.load_full(), token.map(digest)) else { return };
        if *known != token {
            self.token.store(Some(Arc::new(token)));
            self.sessions.clear();
            self.exchanged.notify_waiters();
            info!("the admin token has changed; who was logged in has to log in again");
        }
    }

    /// The token changes, at some time from now on.
    pub(super) fn token_exchanged(&self) -> Notified<'_> {
        self.exchanged.notified()
    }

    /// Whether there is a token to log in with.
    pub(super) fn has_token(&self) -> bool {
        self.token.load().is_some()
    }

    /// What no request may do, whoever sends it.
    pub(super) fn screen<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let host = gate::host_of(request.uri(), request.headers());
        let is_open = !self.has_token() && !self.knows_certificates;
        if is_open && host.is_some_and(|host| !gate::is_loopback_name(host)) {
            return Err(Refused::ForeignHost);
        }
        if request.uri().query().is_some_and(names_token) {
            return Err(Refused::TokenInUrl);
        }
        if !request.method().is_safe() && !site::is_own(request.headers(), request.uri()) {
            return Err(Refused::CrossSite);
        }
        Ok(())
    }

    /// Whether this request may see what not everybody may.
    pub(super) fn admit(&self, headers: &HeaderMap, visitor: &Visitor) -> Result<(), Refused> {
        let shows_certificate = visitor.certificate.is_some();
        if !self.has_token() {
            let admitted = shows_certificate || !self.knows_certificates;
            return if admitted { Ok(()) } else { Err(Refused::NoCertificate) };
        }
        if self.is_certificate_optional && shows_certificate {
            return Ok(());
        }
        if let Some(token) = bearer(headers) {
            return self.check(token, visitor);
        }
        let is_logged_in = site::cookies(headers, &self.cookie).any(|session| self.sessions.is_open(session));
        if is_logged_in { Ok(()) } else { Err(Refused::NoToken) }
    }

    /// Whether it is the token. Whoever has it is never kept waiting; wrong ones are told so a few times a minute.
    fn check(&self, token: &[u8], visitor: &Visitor) -> Result<(), Refused> {
        let wanted = self.token.load();
        let given: [u8; 32] = Sha256::digest(token).into();
        if wanted.as_ref().is_some_and(|wanted| bool::from(wanted.ct_eq(&given))) {
            return Ok(());
        }
        match self.attempts.note_wrong(visitor.address, Instant::now()) {
            Wrong::First(network) => {
                warn!(client.network = network, "somebody has tried a wrong token at the admin port");
                Err(Refused::WrongToken)
            }
            Wrong::Again => Err(Refused::WrongToken),
            Wrong::TooMany { seconds } => Err(Refused::TooMany { seconds }),
        }
    }

    /// Exchanges the token for a session; gives the cookie.
    pub(super) fn log_in(&self, token: &[u8], visitor: &Visitor) -> Result<String, Refused> {
        self.check(token, visitor)?;
        self.logins.inc();
        let session = self.sessions.open(Instant::now());
        Ok(self.set_cookie(&session, Sessions::LIFETIME.as_secs()))
    }

    /// Ends the session of a request; gives the cookie that takes it away.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> String {
        site::cookies(headers, &self.cookie).for_each(|session| self.sessions.close(session));
        self.set_cookie("", 0)
    }

    fn set_cookie(&self, value: &str, seconds: u64) -> String {
        let secure = if self.is_encrypted { "; Secure" } else { "" };
        let name = &self.cookie;
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    /// Counts a refusal.
    pub(super) fn count(&self, refused: &Refused) {
        self.counted.get_or_create(&ReasonLabels { reason: refused.reason() }).inc();
    }
}

fn digest(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.expose()).into()
}

/// RFC 6750, 2.1.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether a query tries to carry a token (RFC 6750, 2.3 and what people type).
fn names_token(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| ["token", "access_token"].iter().any(|known| name.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const TOKEN: &str = "0123456789abcdef01234567";

    fn access(token: Option<&str>, tls: Option<ClientAuth>) -> Access {
        let file = || "file".into();
        let tls = tls.map(|client_auth| config::Tls {
            cert_file: file(),
            key_file: file(),
            client_ca_file: Some(file()),
            client_auth,
        });
        let admin = config::Admin { token: token.map(Secret::new), tls, ..config::Admin::default() };
        Access::new(&admin, ([127, 0, 0, 1], 7301).into(), &mut Registry::default())
    }

    fn visitor(has_certificate: bool) -> Visitor {
        let certificate =
            || ClientCertificate { common_name: None, alternative_names: Vec::new(), fingerprint: [0; 32] };
        Visitor { address: [192, 0, 2, 1].into(), certificate: has_certificate.then(certificate) }
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn what_is_configured_is_asked_for() {
        use ClientAuth::{Optional, Required};
        let right = with(&format!("Bearer {TOKEN}"));
        for (token, tls, headers, has_certificate, is_admitted) in [
            (None, None, HeaderMap::new(), false, true),
            (Some(TOKEN), None, HeaderMap::new(), false, false),
            (Some(TOKEN), None, right.clone(), false, true),
            (None, Some(Required), HeaderMap::new(), true, true),
            (None, Some(Optional), HeaderMap::new(), false, false),
            (None, Some(Optional), right.clone(), false, false),
            (None, Some(Optional), HeaderMap::new(), true, true),
            // Two locks are two locks.
            (Some(TOKEN), Some(Required), HeaderMap::new(), true, false),
            (Some(TOKEN), Some(Required), right.clone(), true, true),
            (Some(TOKEN), Some(Optional), HeaderMap::new(), true, true),
            (Some(TOKEN), Some(Optional), right, false, true),
        ] {
            let admitted = access(token, tls).admit(&headers, &visitor(has_certificate));
            assert_eq!(admitted.is_ok(), is_admitted, "{token:?} {tls:?} {headers:?} {has_certificate}");
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let access = access(Some(TOKEN), None);
        for value in
            ["Bearer ", "Bearer 0123456789abcdef0123456", "Bearer x", &format!("Basic {TOKEN}"), TOKEN]
        {
            assert!(access.admit(&with(value), &visitor(false)).is_err(), "{value}");
        }
        for value in [format!("bearer {TOKEN}"), format!("Bearer  {TOKEN} ")] {
            assert!(access.admit(&with(&value), &visitor(false)).is_ok(), "{value}");
        }
    }

    #[test]
    fn another_token_ends_the_sessions_of_the_old_one_and_none_changes_nothing() {
        let access = access(Some(TOKEN), None);
        let cookie = access.log_in(TOKEN.as_bytes(), &visitor(false)).expect("the token");
        let pair = cookie.split(';').next().expect("a pair");
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(pair).expect("a value"))]);
        assert!(access.admit(&headers, &visitor(false)).is_ok());
        access.exchange_token(None);
        access.exchange_token(Some(&Secret::new(TOKEN)));
        assert!(access.admit(&headers, &visitor(false)).is_ok());
        access.exchange_token(Some(&Secret::new("another-token-of-some-length")));
        assert!(access.admit(&headers, &visitor(false)).is_err());
        assert!(access.admit(&with(&format!("Bearer {TOKEN}")), &visitor(false)).is_err());
    }

    #[test]
    fn a_token_in_a_query_is_seen_in_every_spelling() {
        for query in ["token=x", "a=b&Token=x", "access_token=x", "%74oken=x", "token"] {
            assert!(names_token(query), "{query}");
        }
        for query in ["verbose", "tokens=3", "q=token"] {
            assert!(!names_token(query), "{query}");
        }
    }
}
