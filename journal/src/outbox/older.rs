//! Records in the formats of earlier versions, made into the next newer format. Only reads.
//!
//! Format 1 lacks `cpu_shared`, which stands behind `cpu_ms` in format 2.

use mcpmeter_observer::{CallId, Method, Origin, Status, StatusDetail, Text, Timestamp, Transport};

/// The first format.
pub(super) const FORMAT_1: i64 = 1;

/// How postcard spells `None`.
const NONE: u8 = 0;

/// The fields of format 1 as far as `cpu_ms`, in their order; a tuple has no bytes of its own.
type UpToCpuMs = (
    (CallId, Timestamp, Timestamp, u64, Option<u64>, Option<u64>, Option<u64>),
    (Option<Text>, Option<Text>, Text, Option<Text>),
    (Method, Transport, Transport, Option<Text>),
    (Status, Option<StatusDetail>, Option<Origin>),
    (Option<Text>, Option<Text>, Option<Text>, Option<u16>),
    (u64, u64, Option<u64>, Option<u64>),
    Option<f64>,
);

/// A record of format 1 in format 2: nobody knows whether the CPU was shared.
pub(super) fn of_format_1(record: &[u8]) -> Result<Vec<u8>, postcard::Error> {
    let (_, rest) = postcard::take_from_bytes::<UpToCpuMs>(record)?;
    let (before, after) = record.split_at(record.len() - rest.len());
    Ok([before, &[NONE], after].concat())
}
