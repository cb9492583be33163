//! TLS towards our own admin port: what has to be there is the very certificate of the configuration, whoever has signed
//! it and whatever names stand in it.

use super::{
    TlsError,
    pem::{PairFiles, PemFile},
    provider,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{path::Path, sync::Arc};

/// How to speak to the admin port.
pub(crate) struct Pinned {
    /// With the holder of the certificate's key, and nobody else.
    pub(crate) its_own: Arc<ClientConfig>,
    /// With whoever answers: for what is no secret.
    pub(crate) any: Arc<ClientConfig>,
}

/// For the port that shows the first certificate of `cert_file`. `own` is the certificate to show, and its key.
pub(crate) fn pinned(cert_file: &Path, own: Option<(&Path, &Path)>) -> Result<Pinned, TlsError> {
    let file = PemFile { key: "admin.tls.cert_file", path: cert_file };
    let leaf = file.read_certificates()?.into_iter().next();
    Ok(Pinned { its_own: build(leaf, own)?, any: build(None, own)? })
}

fn build(
    leaf: Option<CertificateDer<'static>>,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pin { leaf, provider: provider() }));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let pair = PairFiles {
                chain: PemFile { key: "--client-cert-file", path: chain },
                key: PemFile { key: "--client-key-file", path: key },
            };
            let (chain, key) = pair.read()?;
            builder.with_client_auth_cert(chain, key).map_err(|source| pair.refuse(source))?
        }
    };
    Ok(Arc::new(config))
}

/// Takes one certificate, or any; in both cases its key has to be there.
#[derive(Debug)]
struct Pin {
    leaf: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.leaf {
            Some(leaf) if leaf != end_entity => {
                Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
