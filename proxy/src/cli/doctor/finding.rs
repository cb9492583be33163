//! One thing that was looked at: how it is, and what to do if it should be otherwise.

use mcpmeter_journal::{Backlog, rfc3339};
use std::fmt;

/// How grave it is; the last is the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    /// Somebody should know; nothing is wrong now.
    Warning,
    /// Somebody has to act.
    Problem,
    /// A dependency is not there, so nothing could be found out about it.
    Unreachable,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Unreachable => "unreachable",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was looked at: one word, or two with a hyphen.
    pub(super) about: &'static str,
    pub(super) text: String,
    /// What to do; absent if nothing.
    pub(super) advice: Option<&'static str>,
}

impl Finding {
    pub(super) fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, about, text: text.into(), advice: None }
    }

    pub(super) fn warning(about: &'static str, text: impl Into<String>, advice: &'static str) -> Self {
        Self { level: Level::Warning, about, text: text.into(), advice: Some(advice) }
    }

    pub(super) fn problem(about: &'static str, text: impl Into<String>, advice: &'static str) -> Self {
        Self { level: Level::Problem, about, text: text.into(), advice: Some(advice) }
    }

    pub(super) fn unreachable(about: &'static str, text: impl Into<String>, advice: &'static str) -> Self {
        Self { level: Level::Unreachable, about, text: text.into(), advice: Some(advice) }
    }

    /// For scripts.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "level": self.level.as_str(), "about": self.about, "text": self.text, "advice": self.advice,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<11}  {:<11}  {}", self.level.as_str(), self.about, self.text)?;
        self.advice.map_or(Ok(()), |advice| write!(f, ": {advice}"))
    }
}

/// What was lost, whoever remembers it: a line for each of the last stretches of time. `about` says whose memory it
/// is. A loss of the last day is a problem; an older one is history.
pub(super) fn tell_gaps(about: &'static str, gaps: &[mcpmeter_journal::Gap], findings: &mut Vec<Finding>) {
    /// Lines; the rest is summed up.
    const MOST: usize = 5;
    let calls: u64 = gaps.iter().map(|gap| gap.calls).sum();
    if gaps.is_empty() {
        return findings.push(Finding::ok(about, "no call was lost in the last 7 days"));
    }
    let recent = super::days_ago(1);
    for gap in gaps.iter().take(MOST) {
        let (from, to, reason) = (rfc3339(gap.from), rfc3339(gap.to), &gap.reason);
        let calls = if gap.calls == 0 { "an unknown number of".to_owned() } else { gap.calls.to_string() };
        let text = format!("{calls} calls lost from {from} to {to}, {reason}");
        let level = if gap.to >= recent { Level::Problem } else { Level::Warning };
        findings.push(Finding { level, about, text, advice: Some(advice(reason)) });
    }
    if gaps.len() > MOST {
        let text = format!("{calls} calls lost in {} stretches in the last 7 days", gaps.len());
        findings.push(Finding::warning(about, text, "the table mcp_log_gap has them all"));
    }
}

/// What keeps it from happening again.
fn advice(reason: &str) -> &'static str {
    match reason {
        "queue_full" => {
            "the disk was too slow or the burst too large: raise store.queue_mib or use a faster disk"
        }
        "outbox_full" => {
            "PostgreSQL was away too long: raise store.outbox_max_mib, or give it a larger volume"
        }
        "disk_error" => "the disk took nothing until the end: see the log of that time",
        "quarantined" => "PostgreSQL refuses these calls: see the table quarantine of the local file",
        "corrupt" => "a file was damaged: check the disk; what was set aside may be partly readable",
        "queue_gone" => {
            "what was in memory has gone with a container or a machine that was not stopped in order: set \
             store.queue_directory to memory that outlives the container"
        }
        "closed" => "they were finished after mcpmeter had ended",
        _ => "see the log of that time",
    }
}

/// Calls that PostgreSQL will never take, and damaged files.
pub(super) fn tell_remains(backlog: &Backlog, findings: &mut Vec<Finding>) {
    match (backlog.quarantined, &backlog.last_refusal) {
        (0, _) => findings.push(Finding::ok("quarantine", "PostgreSQL has refused no call")),
        (calls, reason) => findings.push(Finding::warning(
            "quarantine",
            format!(
                "PostgreSQL has refused {calls} calls, the last because: {}",
                reason.as_deref().unwrap_or("?")
            ),
            "they are kept in the table quarantine of the local file",
        )),
    }
    if backlog.set_aside.is_empty() {
        findings.push(Finding::ok("damage", "no damaged file was set aside"));
    }
    for file in &backlog.set_aside {
        findings.push(Finding::warning(
            "damage",
            format!("{} was damaged and set aside", file.display()),
            "check the disk; delete the file when nothing in it is wanted any more",
        ));
    }
}
