//! What one cell says of its calls, and how calls and cells are added up. Pure: nothing in here knows a table.

use super::histogram::Histogram;
use mcpmeter_observer::Status;

/// How many statuses there are.
const STATUSES: usize = Status::ALL.len();
/// More CPU time than this, in milliseconds (31,000 years), is a fault of the meter; a sum of such numbers would
/// overflow what PostgreSQL can add.
pub(super) const CPU_LIMIT_MS: f64 = 1e15;

/// Counts and sums over calls. Sums that no column can hold stay at what it can.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    /// Calls of any status, also of one that only a newer mcpmeter knows.
    pub calls: u64,
    pub(crate) by_status: [u64; STATUSES],
    /// Bytes of the requests.
    pub input_bytes: u64,
    /// Bytes of the answers.
    pub output_bytes: u64,
    /// Calls whose CPU time is known.
    pub cpu_calls: u64,
    /// The CPU time of those, in milliseconds.
    pub cpu_ms: f64,
    /// Durations of all calls, in milliseconds.
    pub duration_ms: f64,
    /// How the durations are spread.
    pub latency: Histogram,
}

/// What a row says that a cell wants to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) status: &'a str,
    pub(crate) input_bytes: i64,
    pub(crate) output_bytes: i64,
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) duration_ms: f64,
    pub(crate) latency_bucket: i16,
}

impl Sums {
    /// Calls that ended so.
    pub fn with_status(&self, status: Status) -> u64 {
        let place = Status::ALL.iter().position(|known| *known == status);
        place.map_or(0, |place| self.by_status[place])
    }

    /// Calls that failed, as [`Status::is_failure`] has it.
    pub fn failures(&self) -> u64 {
        let failed = Status::ALL.iter().zip(&self.by_status).filter(|(status, _)| status.is_failure());
        failed.fold(0, |sum, (_, calls)| sum.saturating_add(*calls))
    }

    /// Adds one call.
    pub(crate) fn count(&mut self, call: Call<'_>) {
        self.calls += 1;
        if let Some(place) = Status::ALL.iter().position(|status| status.as_str() == call.status) {
            self.by_status[place] += 1;
        }
        self.input_bytes = add(self.input_bytes, call.input_bytes.unsigned_abs());
        self.output_bytes = add(self.output_bytes, call.output_bytes.unsigned_abs());
        if let Some(cpu_ms) = call.cpu_ms {
            self.cpu_calls += 1;
            self.cpu_ms += cpu_ms.clamp(0.0, CPU_LIMIT_MS);
        }
        self.duration_ms += call.duration_ms;
        self.latency.add(call.latency_bucket, 1);
    }

    /// Adds everything that the other one counts.
    pub fn merge(&mut self, other: &Self) {
        self.calls = add(self.calls, other.calls);
        for (sum, calls) in self.by_status.iter_mut().zip(&other.by_status) {
            *sum = add(*sum, *calls);
        }
        self.input_bytes = add(self.input_bytes, other.input_bytes);
        self.output_bytes = add(self.output_bytes, other.output_bytes);
        self.cpu_calls = add(self.cpu_calls, other.cpu_calls);
        self.cpu_ms += other.cpu_ms;
        self.duration_ms += other.duration_ms;
        self.latency.merge(&other.latency);
    }
}

/// The sum, or the greatest number that a column of 64 bits holds.
fn add(sum: u64, more: u64) -> u64 {
    sum.saturating_add(more).min(i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(status: &str) -> Call<'_> {
        Call {
            status,
            input_bytes: i64::MAX,
            output_bytes: 2,
            cpu_ms: Some(f64::MAX),
            duration_ms: 1.5,
            latency_bucket: 7,
        }
    }

    #[test]
    fn an_unknown_status_is_a_call_all_the_same_and_no_sum_overflows() {
        let mut sums = Sums::default();
        for status in ["ok", "timeout", "a word of tomorrow"] {
            sums.count(call(status));
        }
        assert_eq!((sums.calls, sums.failures(), sums.with_status(Status::Ok)), (3, 1, 1));
        assert_eq!((sums.input_bytes, sums.output_bytes), (i64::MAX as u64, 6));
        assert_eq!((sums.cpu_calls, sums.cpu_ms), (3, 3.0 * CPU_LIMIT_MS));
        let mut twice = sums.clone();
        twice.merge(&sums);
        assert_eq!((twice.calls, twice.latency.buckets()), (6, &[(7, 6)][..]));
    }
}
