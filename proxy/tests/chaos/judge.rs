//! The judge: compares what the callers have heard with what the database has. It trusts nothing that the program
//! says about itself except the gap rows, and those have to add up to the number of calls that are missing.

use crate::{postgres::Cluster, program::Program, traffic::Notes};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// The program looks for gaps to tell every second; how long it may take to tell of the last.
const GAPS_LATE: Duration = Duration::from_secs(4);

/// Rows that a scenario has moved out of the way of a fault of its own (`lost_cursor`).
pub(crate) const KEPT: &str = "public.kept";

/// Whom to ask.
pub(crate) struct Judge<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) url: &'a str,
    pub(crate) notes: &'a Notes,
}

/// What became of the calls.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Calls that somebody heard the end of.
    pub(crate) heard: usize,
    /// Calls that somebody may have sent.
    pub(crate) sent: u64,
    /// Rows.
    pub(crate) stored: usize,
    /// Heard, but not stored.
    pub(crate) missing: BTreeSet<u64>,
    /// Calls that the gap rows in PostgreSQL count, by their reasons.
    pub(crate) gaps: BTreeMap<String, u64>,
    /// What the program has logged.
    log: Vec<String>,
}

impl Judge<'_> {
    /// Looks at the database. What is wrong whatever the fault was fails at once: rows that are there twice or
    /// that nobody has sent, answers that are not the server's.
    pub(crate) async fn decide(&self, program: &Program) -> Verdict {
        let rows = self.rows();
        let (heard, sent) = (self.notes.heard(), self.notes.sent());
        assert_eq!(self.notes.wrong(), Vec::<String>::new(), "answers through the proxy");
        let mut stored = BTreeSet::new();
        for row in &rows {
            let number: u64 =
                row.parse().unwrap_or_else(|_| panic!("a row of a call {row} that nobody sent"));
            assert!(number < sent, "a row of call {number}, but only {sent} were sent");
            assert!(stored.insert(number), "call {number} is stored twice");
        }
        let missing: BTreeSet<u64> = heard.difference(&stored).copied().collect();
        let gaps = self.gaps(missing.len() as u64).await;
        Verdict { heard: heard.len(), sent, stored: stored.len(), missing, gaps, log: program.log() }
    }

    /// The id of every row's call, as it stood in the request.
    fn rows(&self) -> Vec<String> {
        let kept = self.cluster.query(self.url, &format!("select to_regclass('{KEPT}') is not null")) == "t";
        let kept = if kept { format!("union all select rpc_id from {KEPT}") } else { String::new() };
        let sql = format!("select coalesce(rpc_id, 'null') from mcpmeter.mcp_server_request_log {kept}");
        self.cluster.query(self.url, &sql).lines().map(str::to_owned).collect()
    }

    /// The gap rows in PostgreSQL; waits a little until they tell of `expected` calls.
    async fn gaps(&self, expected: u64) -> BTreeMap<String, u64> {
        let deadline = Instant::now() + GAPS_LATE;
        loop {
            let sql = "select reason, sum(calls) from mcpmeter.mcp_log_gap group by reason";
            let exists = "select to_regclass('mcpmeter.mcp_log_gap') is not null";
            let told = match self.cluster.query(self.url, exists).as_str() {
                "t" => self.cluster.query(self.url, sql),
                _ => String::new(),
            };
            let gaps: BTreeMap<String, u64> = told
                .lines()
                .filter_map(|line| line.split_once('|'))
                .map(|(reason, calls)| (reason.to_owned(), calls.parse().expect("a number")))
                .collect();
            if gaps.values().sum::<u64>() >= expected || Instant::now() >= deadline {
                return gaps;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Verdict {
    /// Every call that was heard is stored, and no gap is claimed.
    pub(crate) fn assert_complete(&self) {
        self.assert_some();
        let missing = self.missing.len();
        assert_eq!(
            missing,
            0,
            "{missing} of {} calls are missing ({:?} …), gaps: {:?}\n{:#?}",
            self.heard,
            self.missing.iter().take(20).collect::<Vec<_>>(),
            self.gaps,
            self.log
        );
        assert!(self.gaps.is_empty(), "nothing is missing, but gaps are claimed: {:?}", self.gaps);
    }

    /// Something is missing, and the gap rows, which give these reasons and no others, say how much. Calls whose
    /// end nobody heard (`sent` without `heard`) may be among the losses: only in a scenario that kills.
    pub(crate) fn assert_accounted(&self, reasons: &[&str]) {
        self.assert_some();
        let (missing, unheard) = (self.missing.len() as u64, self.sent - self.heard as u64);
        let told: u64 = self.gaps.values().sum();
        assert!(missing > 0, "the fault has cost nothing, so this shows nothing");
        assert!(
            (missing..=missing + unheard).contains(&told),
            "{missing} calls are missing (and {unheard} uncertain), the gap rows tell of {:?}\n{:#?}",
            self.gaps,
            self.log
        );
        let foreign: Vec<_> = self.gaps.keys().filter(|reason| !reasons.contains(&reason.as_str())).collect();
        assert!(foreign.is_empty(), "unexpected reasons: {foreign:?}");
    }

    /// Something is missing, nobody knows how much, and it is no more than what was at stake.
    pub(crate) fn assert_lost_at_most(&self, at_stake: u64, reasons: &[&str]) {
        self.assert_some();
        let missing = self.missing.len() as u64;
        assert!(
            (1..=at_stake).contains(&missing),
            "{missing} of {at_stake} calls are missing\n{:#?}",
            self.log
        );
        assert!(self.gaps.keys().all(|reason| reasons.contains(&reason.as_str())), "{:?}", self.gaps);
    }

    fn assert_some(&self) {
        assert!(self.stored > 0 && self.heard > 0, "nothing has happened: {self:?}");
        println!(
            "{} calls heard of {} sent, {} stored, {} missing, gaps {:?}",
            self.heard,
            self.sent,
            self.stored,
            self.missing.len(),
            self.gaps
        );
    }
}
