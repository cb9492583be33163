//! Whether the proxy may be sent traffic. A dead PostgreSQL does not make it unready: records wait in the
//! outbox meanwhile, and taking a working proxy out of rotation would only add a second outage.

use mcpmeter_journal::{Condition, Health, rfc3339};
use mcpmeter_observer::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The answer of `/readyz`, and its long form.
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) report: String,
}

pub(super) fn readiness(health: &Health, stopping: bool) -> Readiness {
    let mut report = String::new();
    let mut check = |name: &str, ok: bool, remark: &str| {
        report.push_str(&format!("[{sign}] {name}{remark}\n", sign = if ok { '+' } else { '-' }));
    };
    check("accepting connections", !stopping, if stopping { ": stopping" } else { "" });
    check("configuration", true, "");
    check("disk", health.disk.ok, &remark_on(&health.disk));
    if let Some(postgres) = &health.postgres {
        check("postgres (not required: records wait in the outbox)", postgres.ok, &remark_on(postgres));
    }
    let ready = health.disk.ok && !stopping;
    report.push_str(if ready { "ready\n" } else { "not ready\n" });
    Readiness { ready, report }
}

fn remark_on(condition: &Condition) -> String {
    if condition.ok {
        return String::new();
    }
    let micros = condition.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let since = rfc3339(Timestamp(i64::try_from(micros).unwrap_or(i64::MAX)));
    let minutes = SystemTime::now().duration_since(condition.since).unwrap_or_default().as_secs() / 60;
    let error = condition.error.as_deref().unwrap_or("not tried yet");
    format!(": failing since {since} ({minutes} min): {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(disk: bool, postgres: Option<bool>) -> Health {
        let (disk, postgres) = (condition(disk), postgres.map(condition));
        Health { disk, postgres, default_partition_rows: 0, duplicates: 0 }
    }

    fn condition(ok: bool) -> Condition {
        Condition { ok, since: SystemTime::now(), error: (!ok).then(|| "refused".to_owned()) }
    }

    #[test]
    fn a_dead_database_is_told_but_does_not_take_the_proxy_out() {
        let probe = readiness(&health(true, Some(false)), false);
        assert!(probe.ready);
        assert!(
            probe.report.contains("[-] postgres") && probe.report.contains("refused"),
            "{}",
            probe.report
        );
    }

    #[test]
    fn a_dead_disk_or_a_stop_does() {
        assert!(!readiness(&health(false, None), false).ready);
        assert!(!readiness(&health(true, None), true).ready);
    }
}
