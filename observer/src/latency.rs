//! The one histogram of durations: 16 log-linear sub-buckets per power of two of microseconds.
//!
//! A bucket is computed once, with integer shifts, and stored in the row; percentiles then need no function
//! that PostgreSQL has and SQLite lacks. A bucket is at most 1/16 wide, so a percentile read from it is
//! within 6.25 % of the exact one, and within 3.2 % if its middle is taken.

/// Sub-buckets per power of two, as a power of two.
const SUB_BITS: u32 = 4;
/// The number of buckets: durations up to 2^42 µs (51 days) are told apart, longer ones share the last.
pub const BUCKETS: u16 = (43 - SUB_BITS as u16) << SUB_BITS;

/// The histogram bucket of a duration in microseconds, from 0 to [`BUCKETS`] − 1.
pub const fn bucket_of(duration_us: u64) -> i16 {
    let exponent = match duration_us.checked_ilog2() {
        Some(log2) if log2 >= SUB_BITS => log2 - SUB_BITS,
        _ => return duration_us as i16,
    };
    // The leading bit is implied by the exponent, so the four bits after it choose the sub-bucket.
    let bucket = ((exponent as u64) << SUB_BITS) + (duration_us >> exponent);
    if bucket < BUCKETS as u64 { bucket as i16 } else { BUCKETS as i16 - 1 }
}

/// The smallest duration, in microseconds, that no longer belongs to the bucket.
pub const fn bucket_upper_us(bucket: i16) -> u64 {
    let bucket = if bucket < 0 { 0 } else { bucket as u64 };
    if bucket < 1 << SUB_BITS {
        return bucket + 1;
    }
    let exponent = (bucket >> SUB_BITS) - 1;
    ((bucket & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS) + 1) << exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_hold_what_they_say() {
        for bucket in 0..BUCKETS as i16 - 1 {
            let upper = bucket_upper_us(bucket);
            assert_eq!(bucket_of(upper - 1), bucket, "last of {bucket}");
            assert_eq!(bucket_of(upper), bucket + 1, "first after {bucket}");
        }
    }

    #[test]
    fn a_bucket_is_at_most_a_sixteenth_wide() {
        for bucket in 16..BUCKETS as i16 - 1 {
            let (lower, upper) = (bucket_upper_us(bucket - 1), bucket_upper_us(bucket));
            assert!((upper - lower) * 16 <= lower, "bucket {bucket}: {lower}..{upper}");
        }
    }

    #[test]
    fn the_longest_duration_falls_into_the_last_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS as i16 - 1);
    }
}
