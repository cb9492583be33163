//! The caller's trace context (W3C Trace Context, `traceparent`), from `_meta` (SEP-414) or the HTTP header.
//! It is read, never written.

use crate::call::{CallId, CallRecord, Text};

/// The two ids of a valid `traceparent`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TraceParent<'a> {
    trace_id: &'a str,
    parent_span_id: &'a str,
}

impl<'a> TraceParent<'a> {
    /// `None` unless the value is well-formed and none of its ids is zero. Later versions may carry more
    /// fields, which are ignored.
    pub(crate) fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.split('-');
        let (version, trace_id, parent_span_id) = (parts.next()?, parts.next()?, parts.next()?);
        let flags = parts.next()?;
        let hex = |text: &str, len: usize| {
            text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let set = |text: &str| text.bytes().any(|byte| byte != b'0');
        let valid = hex(version, 2)
            && version != "ff"
            && hex(trace_id, 32)
            && set(trace_id)
            && hex(parent_span_id, 16)
            && set(parent_span_id)
            && hex(flags, 2)
            && (version != "00" || parts.next().is_none());
        valid.then_some(Self { trace_id, parent_span_id })
    }

    /// Joins the record to the trace; its own span is the call id's random half.
    pub(crate) fn join(&self, record: &mut CallRecord) {
        record.trace_id = Some(self.trace_id.into());
        record.parent_span_id = Some(self.parent_span_id.into());
        record.span_id = Some(span_id(record.id));
    }
}

/// The span of a call that belongs to a trace.
pub(crate) fn span_id(id: CallId) -> Text {
    format!("{:016x}", id.0.as_u64_pair().1).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_context_is_read() {
        let parent =
            TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("valid");
        assert_eq!(parent.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.parent_span_id, "00f067aa0ba902b7");
    }

    #[test]
    fn an_invalid_context_is_none() {
        for value in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(TraceParent::parse(value), None, "{value}");
        }
        assert!(TraceParent::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
