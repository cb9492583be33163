//! What `/metrics` says of each server: what its traffic has shown beside the calls, and what its processes use.

use super::{ServerLabels, signed};
use crate::router::Routes;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::sync::{Arc, atomic::AtomicU64};

type Seconds = Family<ServerLabels, Counter<f64, AtomicU64>>;

/// What each server's traffic has shown beside the calls. A server that is configured anew counts from 0.
pub(super) fn show_traffic(registry: &mut Registry, routes: &Routes) {
    let conversations = Family::<ServerLabels, Gauge>::default();
    let [orphans, redelivered, forgotten] = [(); 3].map(|()| Family::<ServerLabels, Counter>::default());
    for instance in routes.instances() {
        let labels = ServerLabels { server: Arc::clone(&instance.identity().instance_id) };
        conversations.get_or_create(&labels).inc_by(signed(instance.conversations() as u64));
        orphans.get_or_create(&labels).inc_by(instance.orphans());
        redelivered.get_or_create(&labels).inc_by(instance.redelivered());
        forgotten.get_or_create(&labels).inc_by(instance.forgotten_tasks());
    }
    registry.register("conversations", "Sessions and legacy streams that are remembered", conversations);
    let help =
        "Answers on a shared stream to nothing that was asked through here: somebody goes past the proxy";
    registry.register("orphan_answers", help, orphans);
    registry.register("redelivered_answers", "Answers that came again on a resumed stream", redelivered);
    registry.register("forgotten_tasks", "Tasks whose end was not seen", forgotten);
}

/// Of servers on this machine. One of which no process is known, or that runs elsewhere, is not in the list.
pub(super) fn show_processes(registry: &mut Registry, routes: &Routes) {
    let (cpu, nobodys) = (Seconds::default(), Seconds::default());
    let restarts = Family::<ServerLabels, Counter>::default();
    let [memory, processes] = [(); 2].map(|()| Family::<ServerLabels, Gauge>::default());
    let uptime = Family::<ServerLabels, Gauge<f64, AtomicU64>>::default();
    for (server, used) in routes.uses() {
        let labels = ServerLabels { server };
        cpu.get_or_create(&labels).inc_by(used.cpu.as_secs_f64());
        nobodys.get_or_create(&labels).inc_by(used.unattributed_cpu.as_secs_f64());
        restarts.get_or_create(&labels).inc_by(used.restarts);
        memory.get_or_create(&labels).set(signed(used.resident_bytes));
        processes.get_or_create(&labels).set(i64::from(used.processes));
        uptime.get_or_create(&labels).set(used.uptime.as_secs_f64());
    }
    let help = "CPU time of the server's processes";
    registry.register_with_unit("process_cpu", help, Unit::Seconds, cpu);
    let help = "The part of it that no call was open for";
    registry.register_with_unit("process_unattributed_cpu", help, Unit::Seconds, nobodys);
    let help = "Programs of the server that have ended, or processes that others have taken the place of";
    registry.register("process_restarts", help, restarts);
    let help = "Resident memory of the server's processes";
    registry.register_with_unit("process_resident_memory", help, Unit::Bytes, memory);
    registry.register("process_count", "Processes of the server", processes);
    let help = "How long the oldest of them has been known";
    registry.register_with_unit("process_uptime", help, Unit::Seconds, uptime);
}
