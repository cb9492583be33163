//! What has become of the bodies of calls.

use super::{ReasonLabels, show_count};
use mcpmeter_journal::{BodyLoss, Journal};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Shows how many were kept, and how many were to be kept and are not.
pub(super) fn show(registry: &mut Registry, journal: &Journal) {
    let bodies = journal.bodies();
    show_count(registry, "bodies_kept", "Bodies of calls written to the store or its outbox", bodies.kept);
    let lost = Family::<ReasonLabels, Counter>::default();
    for reason in BodyLoss::ALL {
        lost.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc_by(bodies.lost(reason));
    }
    registry.register("bodies_dropped", "Bodies of calls that were to be kept and are not", lost);
}
