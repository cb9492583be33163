//! How many calls somebody has made, as quotas count them: from the rollups, and so cheap enough to be asked every few
//! seconds, of a day or a month. Denied and limited calls are none: what was refused was not made.

use crate::{
    reader::{ReadError, Reader},
    rollup::{Cell, Dimension, RollupQuery, Span, Subject},
};
use mcpmeter_observer::{Status, Timestamp};

impl Reader {
    /// The calls begun from `since` to before `until`, both midnights of UTC (the range is widened to whole days), by the
    /// values of the dimension; those in which it is absent by `None`. Everything that is stored counts, at once; what
    /// is still on its way to the store does not.
    pub async fn calls_made(
        &self,
        dimension: Dimension,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(Option<String>, u64)>, ReadError> {
        let knows = |subject: &Subject| subject.dimensions().contains(&dimension);
        let query = RollupQuery {
            subject: Subject::ALL.into_iter().find(knows).expect("every dimension is one of a subject"),
            span: Span::Day,
            since,
            until,
            only: Vec::new(),
            by_time: false,
            by: vec![dimension],
            latency: false,
            present: true,
        };
        let made = |mut cell: Cell| {
            let refused = cell.sums.with_status(Status::Denied) + cell.sums.with_status(Status::Limited);
            (cell.values.pop().flatten(), cell.sums.calls.saturating_sub(refused))
        };
        Ok(self.rollup(&query).await?.cells.into_iter().map(made).collect())
    }
}
