//! What the suite has said, scenario by scenario and check by check, and where two runs of it disagree. Knows nothing
//! of what a check is about.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The checks of a scenario, and how often each had this outcome.
type Checks = BTreeMap<String, usize>;

/// The verdicts of one run.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    scenarios: BTreeMap<String, Checks>,
    outcomes: BTreeMap<String, usize>,
}

impl Verdicts {
    /// Reads every `checks.json` in a folder of results.
    pub(crate) fn read(results: &Path) -> Self {
        let mut verdicts = Self::default();
        verdicts.read_folder(results, results);
        verdicts
    }

    fn read_folder(&mut self, results: &Path, folder: &Path) {
        let entries = fs::read_dir(folder).expect("readable");
        for path in entries.map(|entry| entry.expect("readable").path()) {
            if path.is_dir() {
                self.read_folder(results, &path);
            } else if path.ends_with("checks.json") {
                let scenario = folder.strip_prefix(results).expect("inside");
                self.read_checks(&without_time(&scenario.to_string_lossy()), &path);
            }
        }
    }

    fn read_checks(&mut self, scenario: &str, file: &Path) {
        let checks: Value = serde_json::from_slice(&fs::read(file).expect("readable")).expect("JSON");
        let scenario = self.scenarios.entry(scenario.to_owned()).or_default();
        for check in checks.as_array().expect("a list") {
            let text = |key: &str| check[key].as_str().expect("a text");
            // A note of what went over the wire, and no verdict.
            if text("status") == "INFO" {
                continue;
            }
            *self.outcomes.entry(text("status").to_lowercase()).or_default() += 1;
            *scenario.entry(format!("{} ({}) {}", text("id"), text("name"), text("status"))).or_default() +=
                1;
        }
    }

    /// No scenario was judged.
    pub(crate) fn is_empty(&self) -> bool {
        self.scenarios.is_empty()
    }

    /// How many checks succeeded.
    pub(crate) fn succeeded(&self) -> usize {
        self.outcomes.get("success").copied().unwrap_or_default()
    }

    /// How many scenarios, and how many checks of each outcome.
    pub(crate) fn counts(&self) -> String {
        let outcomes = self.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}"));
        format!("{} scenarios, {}", self.scenarios.len(), outcomes.collect::<Vec<_>>().join(", "))
    }

    /// A line for each check that was judged otherwise, or more or less often.
    pub(crate) fn differences(&self, direct: &Self) -> Vec<String> {
        let scenarios: BTreeSet<_> = self.scenarios.keys().chain(direct.scenarios.keys()).collect();
        let (none, mut differences) = (Checks::new(), Vec::new());
        for scenario in scenarios {
            let of = |run: &Self| run.scenarios.get(scenario).unwrap_or(&none).clone();
            let (direct, proxied) = (of(direct), of(self));
            for check in direct.keys().chain(proxied.keys()).collect::<BTreeSet<_>>() {
                let times = |checks: &Checks| checks.get(check).copied().unwrap_or_default();
                let (before, after) = (times(&direct), times(&proxied));
                if before != after {
                    differences.push(format!("{scenario}: {check}: {before} directly, {after} proxied"));
                }
            }
        }
        differences
    }
}

/// `server-ping-2026-11-22T23-35-39-383Z` without the time.
fn without_time(folder: &str) -> String {
    const TIME: usize = "-2026-11-22T23-35-39-383Z".len();
    folder[..folder.len().saturating_sub(TIME)].to_owned()
}
