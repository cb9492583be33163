//! Durations as counts per bucket (`mcpmeter_observer::bucket_of`): small, mergeable, and good for percentiles.
//!
//! A bucket is at most 1/16 as wide as its lower bound. A percentile is read as PostgreSQL's `percentile_cont`
//! reads it from the rows: the two calls around the wanted rank are found, and what lies between them is
//! interpolated. Of a call only the bucket is known; it is taken to lie in the middle half of it, spread
//! evenly over the calls of that bucket. It is then at most 3/4 of a bucket away from where it is said to be:
//! every percentile of any data is within 3/64 = 4.7 % of the exact one. Pure: nothing in here knows a table.

use mcpmeter_observer::{BUCKETS, bucket_of, bucket_upper_us};

/// A histogram of durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Buckets that have calls, in order, and how many.
    counts: Vec<(i16, u64)>,
}

impl Histogram {
    /// A histogram from arrays as a table keeps them: sorted bucket numbers and their counts. Numbers that are
    /// no bucket's count for the nearest one.
    pub(crate) fn from_arrays(buckets: &[i16], counts: &[i32]) -> Self {
        let mut histogram = Self { counts: Vec::with_capacity(buckets.len()) };
        for (bucket, count) in buckets.iter().zip(counts) {
            histogram.add(*bucket, u64::try_from(*count).unwrap_or(0));
        }
        histogram
    }

    /// The bucket numbers and the counts, capped at what the tables' columns can hold.
    pub(crate) fn to_arrays(&self) -> (Vec<i16>, Vec<i32>) {
        self.counts.iter().map(|(bucket, count)| (*bucket, i32::try_from(*count).unwrap_or(i32::MAX))).unzip()
    }

    /// Counts calls of one bucket.
    pub(crate) fn add(&mut self, bucket: i16, count: u64) {
        if count > 0 {
            let bucket = bucket.clamp(0, BUCKETS as i16 - 1);
            let place = self.counts.partition_point(|(known, _)| *known < bucket);
            self.add_at(place, bucket, count);
        }
    }

    /// Counts one call of the duration, in microseconds.
    pub fn record(&mut self, duration_us: u64) {
        self.add(bucket_of(duration_us), 1);
    }

    /// Adds everything that the other one counts.
    pub fn merge(&mut self, other: &Self) {
        let mut place = 0;
        for &(bucket, count) in &other.counts {
            while self.counts.get(place).is_some_and(|(known, _)| *known < bucket) {
                place += 1;
            }
            self.add_at(place, bucket, count);
        }
    }

    /// How many calls it counts.
    pub fn calls(&self) -> u64 {
        self.counts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The buckets that have calls, in order, and how many; see [`mcpmeter_observer::bucket_upper_us`].
    pub fn buckets(&self) -> &[(i16, u64)] {
        &self.counts
    }

    /// The duration in milliseconds that the fraction (0 to 1) of all calls does not exceed, within 4.7 % of
    /// the exact one; `None` if there are no calls.
    pub fn percentile_ms(&self, fraction: f64) -> Option<f64> {
        let last = self.calls().checked_sub(1)?;
        let rank = fraction.clamp(0.0, 1.0) * last as f64;
        let below = self.call_us(rank.floor() as u64);
        let above = self.call_us(rank.ceil() as u64);
        Some((below + (above - below) * rank.fract()) / 1_000.0)
    }

    /// About how long the call took that has so many calls before it, in microseconds.
    fn call_us(&self, mut before: u64) -> f64 {
        for &(bucket, count) in &self.counts {
            if before < count {
                let first = if bucket == 0 { 0 } else { bucket_upper_us(bucket - 1) };
                let last = bucket_upper_us(bucket) - 1;
                let place = (before as f64 + 0.5) / count as f64;
                return first as f64 + (last - first) as f64 * (0.25 + 0.5 * place);
            }
            before -= count;
        }
        // Beyond the last call, which only a rounded rank can be.
        self.counts.last().map_or(0.0, |(bucket, _)| (bucket_upper_us(*bucket) - 1) as f64)
    }

    fn add_at(&mut self, place: usize, bucket: i16, count: u64) {
        match self.counts.get_mut(place) {
            Some((known, sum)) if *known == bucket => *sum = sum.saturating_add(count),
            _ => self.counts.insert(place, (bucket, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `percentile_cont` says of the durations.
    fn exact_ms(sorted: &[u64], fraction: f64) -> f64 {
        let rank = fraction * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[rank.floor() as usize] as f64, sorted[rank.ceil() as usize] as f64);
        (below + (above - below) * rank.fract()) / 1_000.0
    }

    fn of(durations: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        durations.iter().for_each(|duration| histogram.record(*duration));
        histogram
    }

    /// Durations of many shapes: constant, at the worst place of a bucket, uniform, exponential, with a heavy
    /// tail, with two humps far apart, tiny, a single one.
    fn shapes(random: &mut fastrand::Rng) -> Vec<Vec<u64>> {
        let count = random.usize(1..2_000);
        let mut many = |one: fn(&mut fastrand::Rng) -> f64| -> Vec<u64> {
            (0..count).map(|_| one(random) as u64).collect()
        };
        vec![
            many(|_| 1_024.0),
            many(|_| 1_087.0),
            many(|random| if random.bool() { 65_536.0 } else { 69_631.0 }),
            many(|random| random.f64() * 1e6),
            many(|random| -random.f64().max(1e-12).ln() * 20_000.0),
            many(|random| 800.0 / random.f64().max(1e-6).powf(1.2)),
            many(|random| if random.u8(..) < 13 { 3e7 } else { 2e3 + random.f64() * 100.0 }),
            many(|random| random.f64() * 40.0),
            vec![123_456_789],
        ]
    }

    #[test]
    fn every_percentile_of_any_shape_is_within_five_percent() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..60 {
            for (shape, mut durations) in shapes(&mut random).into_iter().enumerate() {
                let histogram = of(&durations);
                durations.sort_unstable();
                for fraction in [0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0] {
                    let exact = exact_ms(&durations, fraction);
                    let told = histogram.percentile_ms(fraction).unwrap();
                    assert!(
                        (told - exact).abs() <= 0.05 * exact + 1e-9,
                        "round {round}, shape {shape}, {} calls, {fraction}: {told} for {exact}",
                        durations.len()
                    );
                }
            }
        }
    }

    #[test]
    fn merging_is_the_same_in_any_order_and_the_same_as_counting_everything() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..40 {
            let parts = shapes(&mut random);
            let whole = of(&parts.concat());
            let mut histograms: Vec<_> = parts.iter().map(|part| of(part)).collect();
            let fold = |parts: &[Histogram]| {
                parts.iter().fold(Histogram::default(), |mut sum, part| {
                    sum.merge(part);
                    sum
                })
            };
            assert_eq!(fold(&histograms), whole);
            random.shuffle(&mut histograms);
            let (left, right) = histograms.split_at(histograms.len() / 2);
            assert_eq!(fold(&[fold(left), fold(right)]), whole);
        }
    }

    #[test]
    fn a_percentile_never_falls_when_the_fraction_grows() {
        let mut random = fastrand::Rng::with_seed(13);
        for durations in shapes(&mut random) {
            let histogram = of(&durations);
            let told: Vec<_> =
                (0..=1_000).filter_map(|part| histogram.percentile_ms(f64::from(part) / 1_000.0)).collect();
            assert!(told.is_sorted(), "{told:?}");
        }
    }

    #[test]
    fn arrays_give_the_same_histogram_back_and_nonsense_in_them_is_survived() {
        let histogram = of(&[0, 1, 1, 5_000, u64::MAX]);
        let (buckets, counts) = histogram.to_arrays();
        assert_eq!(Histogram::from_arrays(&buckets, &counts), histogram);
        let odd = Histogram::from_arrays(&[-5, 7_000, 3], &[1, 1, -1]);
        assert_eq!(odd.calls(), 2);
        assert_eq!(Histogram::default().percentile_ms(0.5), None);
    }
}
