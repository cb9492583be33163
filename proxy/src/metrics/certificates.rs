//! What Prometheus is told about certificates: when they expire, and whether newer ones were refused.

use crate::tls::{Certificates, State};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::time::UNIX_EPOCH;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabels {
    role: &'static str,
    file: String,
}

/// Takes the certificates as they are now.
pub(super) fn show(registry: &mut Registry, certificates: &Certificates) {
    let (expiry, refused) = (Family::<FileLabels, Gauge>::default(), Family::<FileLabels, Gauge>::default());
    for State { role, file, expires, is_refused } in certificates.states() {
        let labels = FileLabels { role, file: file.display().to_string() };
        if let Some(expires) = expires {
            let seconds = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            expiry.get_or_create(&labels).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
        refused.get_or_create(&labels).set(i64::from(is_refused));
    }
    let help = "When the certificate in force expires, as Unix time";
    registry.register_with_unit("certificate_expiry_timestamp", help, Unit::Seconds, expiry);
    let help = "1 while the files have changed to something that cannot be used, and the old certificate is in force";
    registry.register("certificate_refused", help, refused);
}
