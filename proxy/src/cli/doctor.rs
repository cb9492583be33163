//! `mcpmeter doctor`: is everything recorded, and if not, where is it, why, and what is to be done?
//!
//! Asks three witnesses, each of which may be missing: the running proxy's admin port, the files on this machine,
//! and PostgreSQL. It only reads. Each finding is one line.

mod database;
mod files;
mod finding;
mod proxy;

use self::finding::{Finding, Level};
use super::{
    ConfigArgs, Failure,
    ask_admin::{AdminArgs, Door},
    block_on,
};
use clap::Args;
use mcpmeter_config::{Config, StoreUrl};
use mcpmeter_journal::PostgresUrl;
use mcpmeter_observer::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far back losses are told.
const DAYS_BACK: u64 = 7;

/// Examines the proxy, the files and the database of the configuration: exit code 0 if nothing is wrong (there
/// may be warnings), 1 if something is, 3 if PostgreSQL cannot be reached.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.config.origin().load().map_err(|problems| Failure::config(&problems, self.json))?;
        let door = self.admin.door_of(&config)?;
        let findings = block_on(examine(&config, &door))??;
        self.print(&findings);
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        match (count(Level::Unreachable), count(Level::Problem)) {
            (0, 0) => Ok(()),
            (0, 1) => Err(Failure::found(1, "1 problem found")),
            (0, problems) => Err(Failure::found(1, &format!("{problems} problems found"))),
            _ => Err(Failure::found(3, "PostgreSQL cannot be reached")),
        }
    }

    fn print(&self, findings: &[Finding]) {
        if self.json {
            let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
            let findings: Vec<_> = findings.iter().map(Finding::to_json).collect();
            println!("{}", serde_json::json!({ "verdict": worst.as_str(), "findings": findings }));
        } else {
            findings.iter().for_each(|finding| println!("{finding}"));
        }
    }
}

async fn examine(config: &Config, door: &Door) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let waiting = proxy::examine(door, &mut findings).await;
    files::examine(config, waiting, &mut findings);
    if let StoreUrl::Postgres(url) = &config.store.url {
        let url: PostgresUrl =
            url.expose().parse().map_err(|error| Failure::failed("cannot use store.url", &error))?;
        database::examine(&url, &mut findings).await;
    }
    Ok(findings)
}

/// Seconds as people say them.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.1} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// The wall clock, so many days ago.
fn days_ago(days: u64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = now.saturating_sub(Duration::from_secs(days * 86_400));
    Timestamp(i64::try_from(then.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0.25, 89.0, 600.0, 7_200.0, 864_000.0].map(span);
        assert_eq!(told, ["0.2 s", "89.0 s", "10 min", "2.0 h", "10.0 days"]);
    }
}
