//! What is asked of the rollups, and from where it is answered so that the answer is the present.
//!
//! A cell counts unless its bucket is marked (`dirty`) or holds one that is; a cell that is kept always counts.
//! What a marked bucket leaves out is taken from the next shorter span, and what a marked bucket of 5 minutes
//! leaves out from the rows themselves. As rows and marks are stored together, an answer from one snapshot
//! counts every row exactly once. Pure: which statements, not how they are run.

use super::{
    bucket::{Span, containing},
    groups::{Groups, Label},
    sums::Sums,
    tables::{Dimension, Subject},
};
use crate::{columns::Kind, value::Value};
use mcpmeter_observer::Timestamp;
use std::{borrow::Cow, ops::Range};

/// Buckets whose rows are asked for at once: a day's.
const ROWS: usize = 288;

/// A question to the rollups. A dimension that the subject does not have is absent in all of its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupQuery {
    /// What the cells tell apart.
    pub subject: Subject,
    /// How much time a cell covers; the longest that serves is the cheapest.
    pub span: Span,
    /// Calls begun at this instant or later: rounded down to a whole span.
    pub since: Timestamp,
    /// Calls begun before this instant: rounded up to a whole span.
    pub until: Timestamp,
    /// Only calls in which these dimensions have these values; `None` where the value is absent.
    pub only: Vec<(Dimension, Option<String>)>,
    /// A cell per bucket, in order of time, rather than one for the whole range.
    pub by_time: bool,
    /// A cell per value of these; what differs in other dimensions only is added up.
    pub by: Vec<Dimension>,
    /// With histograms. Without them the answer is several times cheaper.
    pub latency: bool,
    /// With the calls of buckets that are not rolled up yet, which are read from their rows: at least the
    /// present 5 minutes. Without them the answer may lack those, and never costs more than its cells.
    pub present: bool,
}

/// One group of calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// When its bucket begins; absent if the question was not by time.
    pub bucket_start: Option<Timestamp>,
    /// The values of the dimensions that were asked for, in their order.
    pub values: Vec<Option<String>>,
    /// What is known of its calls.
    pub sums: Sums,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollup {
    /// Groups that have calls, by time and then by value, an absent one first.
    pub cells: Vec<Cell>,
    /// The calls begun before this instant are rolled up. Those from here to the end of the range are counted
    /// only if the question was for the present.
    pub rolled_up_to: Timestamp,
}

/// One statement's worth of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Cells of a span whose buckets begin in the range.
    Cells(Span, Range<Timestamp>),
    /// The rows of these marked 5-minute buckets.
    Rows(Vec<Timestamp>),
}

/// A `where` clause and its parameters.
pub(super) struct Conditions {
    pub(super) text: String,
    pub(super) parameters: Vec<(Value<'static>, Kind)>,
}

impl RollupQuery {
    /// The range in whole spans.
    pub(super) fn range(&self) -> Range<Timestamp> {
        let last = Timestamp(self.until.0.saturating_sub(1));
        self.span.start_of(self.since)..self.span.end_of(last)
    }

    /// What `column` is between, and what dimensions are.
    pub(super) fn conditions(&self, column: &str, range: &Range<Timestamp>) -> Conditions {
        let mut text = format!("{column} >= $1 and {column} < $2");
        let mut parameters: Vec<_> =
            [range.start, range.end].map(|at| (Value::Time(at), Kind::Timestamp)).into();
        for (dimension, value) in &self.only {
            let known = self.subject.dimensions().contains(dimension);
            let condition = match value {
                None if known => format!("{} is null", dimension.column()),
                None => continue,
                Some(_) if !known => "1 = 0".to_owned(),
                Some(value) => {
                    parameters.push((Value::Text(Cow::Owned(value.clone())), Kind::Text));
                    format!("{} = ${}", dimension.column(), parameters.len())
                }
            };
            text = format!("{text} and {condition}");
        }
        Conditions { text, parameters }
    }
}

/// An answer in the making.
pub(super) struct Answer<'a> {
    query: &'a RollupQuery,
    /// Marked buckets of 5 minutes, in order.
    dirty: Vec<Timestamp>,
    groups: Groups,
}

impl<'a> Answer<'a> {
    /// An answer to the query, in whose range these buckets are marked, in order.
    pub(super) fn new(query: &'a RollupQuery, dirty: Vec<Timestamp>) -> Self {
        Self { query, dirty, groups: Groups::default() }
    }

    /// What to read.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Cells(self.query.span, self.query.range())];
        if !self.query.present {
            return steps;
        }
        let mut span = self.query.span;
        while let Some(lower) = span.lower() {
            let holders = containing(span, &self.dirty);
            steps.extend(runs(span, &holders).into_iter().map(|run| Step::Cells(lower, run)));
            span = lower;
        }
        steps.extend(self.dirty.chunks(ROWS).map(|starts| Step::Rows(starts.to_vec())));
        steps
    }

    /// Adds a cell that was read for a step.
    pub(super) fn add_cell(
        &mut self,
        span: Span,
        start: Timestamp,
        kept: bool,
        values: &[Option<&str>],
        sums: &Sums,
    ) {
        if kept || !self.query.present || !self.is_dirty(span, start) {
            self.group(start, values).merge(sums);
        }
    }

    /// The sums that a row of a marked bucket belongs to.
    pub(super) fn group(&mut self, start: Timestamp, values: &[Option<&str>]) -> &mut Sums {
        let bucket = self.query.by_time.then(|| self.query.span.start_of(start));
        let known = self.query.subject.dimensions();
        let value = |wanted: &Dimension| values[known.iter().position(|dimension| dimension == wanted)?];
        let values: Vec<_> = self.query.by.iter().map(value).collect();
        self.groups.of(bucket, &values)
    }

    /// The answer.
    pub(super) fn finish(self) -> Rollup {
        let rolled_up_to = self.dirty.first().copied().unwrap_or(self.query.range().end);
        let cell = |(Label { bucket_start, values }, sums)| Cell { bucket_start, values, sums };
        Rollup { cells: self.groups.into_sorted().into_iter().map(cell).collect(), rolled_up_to }
    }

    fn is_dirty(&self, span: Span, start: Timestamp) -> bool {
        let place = self.dirty.partition_point(|dirty| *dirty < start);
        self.dirty.get(place).is_some_and(|dirty| *dirty < span.end_of(start))
    }
}

/// Buckets that follow each other, joined.
fn runs(span: Span, starts: &[Timestamp]) -> Vec<Range<Timestamp>> {
    let mut runs: Vec<Range<Timestamp>> = Vec::new();
    for start in starts {
        let end = span.end_of(*start);
        match runs.last_mut() {
            Some(run) if run.end == *start => run.end = end,
            _ => runs.push(*start..end),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(span: Span, present: bool) -> RollupQuery {
        RollupQuery {
            subject: Subject::Usage,
            span,
            since: Timestamp(1),
            until: Timestamp(Span::Day.us() + 1),
            only: Vec::new(),
            by_time: false,
            by: Vec::new(),
            latency: true,
            present,
        }
    }

    #[test]
    fn what_a_marked_bucket_leaves_out_comes_from_shorter_spans_and_rows() {
        let (five, hour, day) = (Span::FiveMinutes.us(), Span::Hour.us(), Span::Day.us());
        let query = query(Span::Day, true);
        let dirty = [hour + five, 2 * hour, day + five].map(Timestamp).to_vec();
        let range = |from, to| Timestamp(from)..Timestamp(to);
        let answer = Answer::new(&query, dirty.clone());
        let mut expected = vec![
            Step::Cells(Span::Day, range(0, 2 * day)),
            Step::Cells(Span::Hour, range(0, 2 * day)),
            Step::Cells(Span::FiveMinutes, range(hour, 3 * hour)),
            Step::Cells(Span::FiveMinutes, range(day, day + hour)),
        ];
        expected.push(Step::Rows(dirty));
        assert_eq!(answer.steps(), expected);
    }

    #[test]
    fn a_marked_bucket_hides_its_cells_unless_they_are_kept() {
        let query = query(Span::Day, true);
        let mut answer = Answer::new(&query, vec![Timestamp(Span::Hour.us())]);
        let one = Sums { calls: 1, ..Sums::default() };
        let values = [None, None, None];
        answer.add_cell(Span::Day, Timestamp(0), false, &values, &one);
        answer.add_cell(Span::Hour, Timestamp(Span::Hour.us()), false, &values, &one);
        assert!(answer.finish().cells.is_empty());
        let mut answer = Answer::new(&query, vec![Timestamp(Span::Hour.us())]);
        answer.add_cell(Span::Day, Timestamp(0), true, &values, &one);
        answer.add_cell(Span::Hour, Timestamp(0), false, &values, &one);
        answer.add_cell(Span::Day, Timestamp(Span::Day.us()), false, &values, &one);
        let rollup = answer.finish();
        assert_eq!(rollup.cells[0].sums.calls, 3);
        assert_eq!(rollup.rolled_up_to, Timestamp(Span::Hour.us()));
    }

    #[test]
    fn without_the_present_only_cells_are_read() {
        let query = query(Span::Hour, false);
        let answer = Answer::new(&query, vec![Timestamp(0)]);
        assert_eq!(answer.steps(), [Step::Cells(Span::Hour, query.range())]);
        assert_eq!(query.range().end, Timestamp(Span::Day.us() + Span::Hour.us()));
    }

    #[test]
    fn conditions_on_foreign_dimensions_are_as_if_the_value_were_absent() {
        let mut query = query(Span::Day, true);
        query.only =
            vec![(Dimension::Tool, None), (Dimension::User, Some("u".into())), (Dimension::Key, None)];
        let conditions = query.conditions("t", &query.range());
        assert_eq!(conditions.text, "t >= $1 and t < $2 and user_id = $3 and api_key_id is null");
        assert_eq!(conditions.parameters.len(), 3);
        query.only = vec![(Dimension::Tool, Some("t".into()))];
        assert!(query.conditions("t", &query.range()).text.ends_with("and 1 = 0"));
    }
}
