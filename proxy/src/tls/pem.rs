//! Certificates and keys out of PEM files, and what to say if there are none. Never repeats a line of a file: it may be
//! part of a key.

use rustls::{InconsistentKeys, RootCertStore, server::VerifierBuilderError};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why files of certificates cannot be used. `key` is the key of the configuration that names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// It is not there, or not for us.
    #[error("cannot read {key} {path}", path = path.display())]
    Unreadable { key: &'static str, path: PathBuf, source: io::Error },
    /// Half-written, or not PEM.
    #[error("{key} {path} is damaged or cut off: it has to be PEM, from -----BEGIN to -----END", path = path.display())]
    Damaged { key: &'static str, path: PathBuf },
    /// PEM, or anything else, without a certificate.
    #[error("{key} {path} holds no certificate: it has to have a -----BEGIN CERTIFICATE-----", path = path.display())]
    NoCertificate { key: &'static str, path: PathBuf },
    /// PEM, or anything else, without a key.
    #[error("{key} {path} holds no private key: it has to have a -----BEGIN PRIVATE KEY-----", path = path.display())]
    NoKey { key: &'static str, path: PathBuf },
    /// There is nobody to ask for a passphrase.
    #[error("{key} {path} is encrypted: take the passphrase out with `openssl pkey -in OLD -out NEW`", path = path.display())]
    EncryptedKey { key: &'static str, path: PathBuf },
    /// Each is good by itself.
    #[error("{key} {path} is not the key of the certificate in {certificate}: both have to be exchanged together",
        path = path.display(), certificate = certificate.display())]
    Mismatch { key: &'static str, path: PathBuf, certificate: PathBuf },
    /// rustls does not want it.
    #[error("cannot use {key} {path}", path = path.display())]
    Unusable { key: &'static str, path: PathBuf, source: rustls::Error },
    /// No authority.
    #[error("cannot use {key} {path}", path = path.display())]
    Authorities { key: &'static str, path: PathBuf, source: VerifierBuilderError },
    /// The cryptography lacks the protocol.
    #[error("cannot use TLS")]
    Protocol(#[source] rustls::Error),
}

/// A file that a key of the configuration names.
#[derive(Debug, Clone, Copy)]
pub(super) struct PemFile<'a> {
    pub(super) key: &'static str,
    pub(super) path: &'a Path,
}

impl PemFile<'_> {
    fn read(self) -> Result<Vec<u8>, TlsError> {
        let Self { key, path } = self;
        fs::read(path).map_err(|source| TlsError::Unreadable { key, path: path.to_owned(), source })
    }

    /// All certificates in it, in their order; at least one.
    pub(super) fn read_certificates(self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let Self { key, path } = self;
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(TlsError::NoCertificate { key, path: path.to_owned() })
            }
            Ok(certificates) => Ok(certificates),
            Err(_) => Err(TlsError::Damaged { key, path: path.to_owned() }),
        }
    }

    /// The first key in it.
    pub(super) fn read_key(self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.read()?;
        let (key, path) = (self.key, self.path.to_owned());
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            PemError::NoItemsFound if is_encrypted(&bytes) => TlsError::EncryptedKey { key, path },
            PemError::NoItemsFound => TlsError::NoKey { key, path },
            _ => TlsError::Damaged { key, path },
        })
    }

    /// Adds all certificates in it to those that are trusted.
    pub(super) fn add_to(self, roots: &mut RootCertStore) -> Result<(), TlsError> {
        for certificate in self.read_certificates()? {
            roots.add(certificate).map_err(|source| self.refuse(source))?;
        }
        Ok(())
    }

    /// rustls does not want what is in it.
    pub(super) fn refuse(self, source: rustls::Error) -> TlsError {
        TlsError::Unusable { key: self.key, path: self.path.to_owned(), source }
    }
}

/// A certificate chain, leaf first, and where its key is.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairFiles<'a> {
    pub(super) chain: PemFile<'a>,
    pub(super) key: PemFile<'a>,
}

/// A certificate chain and a key.
pub(super) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl PairFiles<'_> {
    pub(super) fn read(self) -> Result<Pair, TlsError> {
        Ok((self.chain.read_certificates()?, self.key.read_key()?))
    }

    /// Why rustls does not want the pair.
    pub(super) fn refuse(self, source: rustls::Error) -> TlsError {
        match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                key: self.key.key,
                path: self.key.path.to_owned(),
                certificate: self.chain.path.to_owned(),
            },
            // What is not about a certificate is about the key.
            rustls::Error::InvalidCertificate(_) => self.chain.refuse(source),
            _ => self.key.refuse(source),
        }
    }
}

fn is_encrypted(pem: &[u8]) -> bool {
    let words = b"ENCRYPTED PRIVATE KEY";
    pem.windows(words.len()).any(|part| part == words)
}
