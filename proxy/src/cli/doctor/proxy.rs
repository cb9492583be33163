//! What the running proxy says about itself: /readyz and /metrics of its admin port.

use super::{
    finding::{Finding, Level},
    span,
};
use crate::cli::ask_admin::{AskError, Door};
use http_body_util::BodyExt;
use std::{collections::BTreeMap, io, time::Duration};
use tokio::time::timeout;

/// How long the proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Recording that is further behind is worth a word.
const LATE_SECONDS: f64 = 60.0;

/// Asks it; gives how many calls wait in the outbox, or nothing if it does not answer.
pub(super) async fn examine(door: &Door, findings: &mut Vec<Finding>) -> Option<u64> {
    let answers = timeout(PATIENCE, async {
        Ok::<_, AskError>((get(door, "/readyz?verbose").await?, get(door, "/metrics").await?))
    });
    let url = door.url();
    let late = |_| AskError::Unreachable { url: url.clone(), source: io::ErrorKind::TimedOut.into() };
    let ((ready, report), (_, metrics)) = match answers.await.map_err(late).flatten() {
        Ok(answers) => answers,
        Err(error) => {
            findings.push(tell_silence(&error, &url));
            return None;
        }
    };
    findings.push(tell_readiness(&url, ready, &report));
    let metrics = Metrics::parse(&metrics);
    findings.push(tell_accounts(&metrics));
    findings.extend(tell_losses(&metrics));
    findings.push(tell_lag(&metrics));
    findings.extend(tell_forecast(&metrics));
    Some(metrics.count("mcpmeter_log_outbox_records"))
}

async fn get(door: &Door, target: &str) -> Result<(bool, String), AskError> {
    let response = door.get(target).await?;
    let success = response.status().is_success();
    let body = response.into_body().collect().await;
    let broken = |error| AskError::Unreachable { url: door.url(), source: io::Error::other(error) };
    Ok((success, String::from_utf8_lossy(&body.map_err(broken)?.to_bytes()).into_owned()))
}

fn tell_silence(error: &AskError, url: &str) -> Finding {
    match error {
        AskError::Unreachable { .. } => Finding::warning(
            "proxy",
            format!("no mcpmeter answers on {url}, so what follows is from the files alone"),
            "start it with `mcpmeter serve`, or say with --admin where it is",
        ),
        AskError::Refused { .. } => Finding::problem(
            "proxy",
            format!("{error}; what follows is from the files alone"),
            "the proxy runs, and does not know who asks",
        ),
    }
}

fn tell_readiness(url: &str, ready: bool, report: &str) -> Finding {
    if ready {
        return Finding::ok("proxy", format!("it serves and records ({url})"));
    }
    let failing = report.lines().filter_map(|line| line.strip_prefix("[-] ")).collect::<Vec<_>>().join("; ");
    Finding::problem("proxy", failing, "it is not ready: see its log")
}

fn tell_accounts(metrics: &Metrics) -> Finding {
    let [finished, recovered, queued, outbox, stored] =
        ["finished_total", "recovered_records", "queue_records", "outbox_records", "stored_total"]
            .map(|name| metrics.count(&format!("mcpmeter_log_{name}")));
    let lost: u64 = metrics.lost().map(|(_, calls)| calls).sum();
    let text = format!(
        "finished {finished} + recovered {recovered} = queued {queued} + outbox {outbox} + stored {stored} + lost {lost}"
    );
    if finished + recovered == queued + outbox + stored + lost {
        Finding::ok("accounts", text)
    } else {
        Finding::problem(
            "accounts",
            text,
            "the two sides differ, which is a fault of mcpmeter: please report it",
        )
    }
}

fn tell_losses(metrics: &Metrics) -> Option<Finding> {
    let lost: Vec<_> = metrics.lost().filter(|(_, calls)| *calls > 0).collect();
    let text = lost.iter().map(|(reason, calls)| format!("{calls} {reason}")).collect::<Vec<_>>().join(", ");
    (!lost.is_empty()).then(|| {
        Finding::warning("lost", format!("calls lost since it started: {text}"), "the gaps below say when")
    })
}

fn tell_lag(metrics: &Metrics) -> Finding {
    let lag = metrics.value("mcpmeter_log_lag_seconds").unwrap_or(0.0);
    let waiting = metrics.count("mcpmeter_log_queue_records") + metrics.count("mcpmeter_log_outbox_records");
    let text = format!("the store is {} behind, {waiting} calls are on their way", span(lag));
    if lag < LATE_SECONDS {
        Finding::ok("lag", text)
    } else {
        Finding::warning("lag", text, "does the disk take them, and is PostgreSQL reachable and fast enough?")
    }
}

fn tell_forecast(metrics: &Metrics) -> Option<Finding> {
    let left = metrics.value("mcpmeter_log_disk_full_forecast_seconds")?;
    let text = format!("it grows, and will be full in {}", span(left));
    let (level, advice) = if left < 3600.0 {
        (Level::Problem, Some("get PostgreSQL back, or raise store.outbox_max_mib: beyond it calls are lost"))
    } else {
        (Level::Warning, Some("it does so while PostgreSQL is away or too slow"))
    };
    Some(Finding { level, about: "forecast", text, advice })
}

/// The samples of /metrics by name and labels.
struct Metrics<'a>(BTreeMap<&'a str, f64>);

impl<'a> Metrics<'a> {
    fn parse(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| line.rsplit_once(' '));
        Self(samples.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect())
    }

    fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of calls, below 2^53"
    )]
    fn count(&self, name: &str) -> u64 {
        self.value(name).unwrap_or(0.0) as u64
    }

    /// Reasons and numbers of lost calls.
    fn lost(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.keys().filter_map(|name| {
            let reason = name.strip_prefix("mcpmeter_log_lost_total{reason=\"")?.strip_suffix("\"}")?;
            Some((reason, self.count(name)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_that_do_not_balance_are_a_problem() {
        let books = |stored| {
            format!(
                "# HELP x y\nmcpmeter_log_finished_total 10\nmcpmeter_log_recovered_records 2\n\
                 mcpmeter_log_queue_records 1\nmcpmeter_log_outbox_records 3\nmcpmeter_log_stored_total {stored}\n\
                 mcpmeter_log_lost_total{{reason=\"queue_full\"}} 1\nmcpmeter_log_lag_seconds 61.5\n"
            )
        };
        assert_eq!(tell_accounts(&Metrics::parse(&books(7))).level, Level::Ok);
        assert_eq!(tell_accounts(&Metrics::parse(&books(6))).level, Level::Problem);
        let lost = tell_losses(&Metrics::parse(&books(7))).expect("a loss");
        assert!(lost.text.ends_with("1 queue_full"), "{lost}");
        assert_eq!(tell_lag(&Metrics::parse(&books(7))).level, Level::Warning);
    }

    #[test]
    fn a_forecast_is_graver_the_nearer_it_is() {
        let forecast = |seconds: f64| {
            let text = format!("mcpmeter_log_disk_full_forecast_seconds {seconds}\n");
            tell_forecast(&Metrics::parse(&text)).map(|finding| finding.level)
        };
        assert_eq!(forecast(60.0), Some(Level::Problem));
        assert_eq!(forecast(86_400.0), Some(Level::Warning));
        assert_eq!(tell_forecast(&Metrics::parse("")), None);
    }
}
