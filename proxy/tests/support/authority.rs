//! Authorities of the tests' own making: what they sign, as files and as either end of a handshake.

use crate::raw::Wire;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::{fs, io, net::SocketAddr, path::Path, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{self, RootCertStore, server::WebPkiClientVerifier},
    server,
};

/// Somebody who signs certificates.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that an authority has signed, and its key.
pub(crate) struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// A new one.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("an authority");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Writes its certificate, for whoever is to trust it.
    pub(crate) fn write(&self, file: &Path) {
        fs::write(file, self.certificate.pem()).expect("written");
    }

    fn sign(&self, mut params: CertificateParams, common_name: &str) -> Signed {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Signed { certificate, key }
    }

    /// A server's, for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self) -> Signed {
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        self.sign(params.expect("names"), "server")
    }

    /// A client's, with this common name and an e-mail address.
    pub(crate) fn client(&self, common_name: &str) -> Signed {
        self.sign(client_params(), common_name)
    }

    /// The same, but no longer valid.
    pub(crate) fn expired_client(&self, common_name: &str) -> Signed {
        let mut params = client_params();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(params, common_name)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a certificate");
        roots
    }

    /// A client's end: trusts this authority, and shows what it is given. Succeeds only if the server was content.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        shown: Option<&Signed>,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(self.roots());
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_auth_cert(vec![shown.der()], shown.key_der()).expect("a pair"),
        };
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// A server's end that shows `own` and lets in only whom this authority has signed. Gives also the certificate that
    /// it was shown.
    pub(crate) async fn accept(
        &self,
        own: &Signed,
        stream: TcpStream,
    ) -> io::Result<(Wire<server::TlsStream<TcpStream>>, Vec<u8>)> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider());
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_client_cert_verifier(verifier.build().expect("an authority"))
            .with_single_cert(vec![own.der()], own.key_der())
            .expect("a pair");
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().expect("required")[0].to_vec();
        Ok((Wire::over(stream), shown))
    }
}

fn client_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::Rfc822Name("alice@example.com".try_into().expect("ASCII"))];
    params
}

impl Signed {
    /// The certificate alone.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The key alone.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes both under these names, each in one step, as certbot and Kubernetes do.
    pub(crate) fn write(&self, folder: &Path, certificate: &str, key: &str) {
        for (name, text) in [(certificate, self.pem()), (key, self.key_pem())] {
            let next = folder.join("next.pem");
            fs::write(&next, text).expect("written");
            fs::rename(next, folder.join(name)).expect("renamed");
        }
    }

    /// What goes over the wire.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
