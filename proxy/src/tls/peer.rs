//! What stands in a certificate. Only read from one that rustls has verified, or that is our own; decides nothing by itself.

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::{fmt, time::SystemTime};
use x509_cert::{
    Certificate,
    attr::AttributeTypeAndValue,
    der::{
        Decode,
        asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef},
        oid::db::rfc4519,
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Who a client is by the certificate it has shown, signed by an authority of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// `CN` of the subject, if there is exactly one.
    pub(crate) common_name: Option<String>,
    /// The names beside it, in the order of the certificate.
    pub(crate) alternative_names: Vec<AlternativeName>,
    /// SHA-256 of the whole certificate.
    pub(crate) fingerprint: [u8; 32],
}

/// A name in `subjectAltName`, as it was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AlternativeName {
    /// A host name.
    Dns(String),
    /// A URI, as SPIFFE has them.
    Uri(String),
    /// An e-mail address.
    Email(String),
}

impl ClientCertificate {
    /// Reads a verified certificate. One that this reader does not understand has no names.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Self {
        let parsed = Certificate::from_der(der).ok();
        Self {
            common_name: parsed.as_ref().and_then(common_name),
            alternative_names: parsed.as_ref().map(alternative_names).unwrap_or_default(),
            fingerprint: Sha256::digest(der).into(),
        }
    }
}

/// For people and logs: `CN=alice, DNS:laptop.example`.
impl fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { common_name, alternative_names, fingerprint } = self;
        let mut parts: Vec<String> = common_name.iter().map(|name| format!("CN={name}")).collect();
        parts.extend(alternative_names.iter().map(|name| match name {
            AlternativeName::Dns(name) => format!("DNS:{name}"),
            AlternativeName::Uri(name) => format!("URI:{name}"),
            AlternativeName::Email(name) => format!("email:{name}"),
        }));
        if parts.is_empty() {
            let hex: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
            parts.push(format!("sha256:{hex}"));
        }
        f.write_str(&parts.join(", ").escape_debug().to_string())
    }
}

/// When a certificate ends; `None` if it cannot be read.
pub(super) fn expiry(der: &CertificateDer<'_>) -> Option<SystemTime> {
    Some(Certificate::from_der(der).ok()?.tbs_certificate.validity.not_after.to_system_time())
}

/// Of several nobody can say which is meant.
fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = &certificate.tbs_certificate.subject;
    let attributes = subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = attributes.filter(|attribute| attribute.oid == rfc4519::COMMON_NAME);
    match (names.next(), names.next()) {
        (Some(name), None) => text_of(name),
        _ => None,
    }
}

/// The kinds of string that RFC 5280, 4.1.2.4 allows and anybody uses.
fn text_of(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    let utf8 = Utf8StringRef::try_from(value).map(|text| text.as_str().to_owned());
    let printable = || PrintableStringRef::try_from(value).map(|text| text.as_str().to_owned());
    let ia5 = || Ia5StringRef::try_from(value).map(|text| text.as_str().to_owned());
    let teletex = || TeletexStringRef::try_from(value).map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).or_else(|_| ia5()).or_else(|_| teletex()).ok()
}

fn alternative_names(certificate: &Certificate) -> Vec<AlternativeName> {
    let Ok(Some((_, names))) = certificate.tbs_certificate.get::<SubjectAltName>() else { return Vec::new() };
    let name = |name| match name {
        GeneralName::DnsName(name) => Some(AlternativeName::Dns(name.to_string())),
        GeneralName::UniformResourceIdentifier(name) => Some(AlternativeName::Uri(name.to_string())),
        GeneralName::Rfc822Name(name) => Some(AlternativeName::Email(name.to_string())),
        _ => None,
    };
    names.0.into_iter().filter_map(name).collect()
}
