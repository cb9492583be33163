//! What of a call names a person or leads to one, and what remains of the call without that: when it was, how long it
//! took, what was called and how it ended, so that totals per instance and tool stay what they were.
//!
//! An anonymised call has a new id: half of the old one is its span's, under which traces elsewhere may know it.

use super::Whose;
use crate::columns::Kind;
use mcpmeter_observer::{CallId, CallRecord, Text};
use uuid::Uuid;

/// The columns that become null. Those of identities, of addresses and programs, of sessions and traces, whatever ties
/// calls together, and what servers have said.
pub(super) const CLEARED: [(&str, Kind); 16] = [
    ("organization_id", Kind::Text),
    ("error_message", Kind::Text),
    ("error_detail", Kind::Json),
    ("api_key_id", Kind::Text),
    ("rate_limit_state", Kind::Json),
    ("client_ip", Kind::Text),
    ("user_agent", Kind::Text),
    ("client_name", Kind::Text),
    ("client_version", Kind::Text),
    ("session_hash", Kind::Text),
    ("trace_id", Kind::Text),
    ("span_id", Kind::Text),
    ("parent_span_id", Kind::Text),
    ("rpc_id", Kind::Text),
    ("task_hash", Kind::Text),
    ("mrtr_group", Kind::Text),
];

/// The assignments that clear those columns, separated by commas.
pub(super) fn cleared() -> String {
    CLEARED.map(|(column, _)| format!("{column} = null")).join(", ")
}

/// Whether it is one of the person's calls.
pub(super) fn is_of(record: &CallRecord, whose: &Whose) -> bool {
    match whose {
        Whose::User(user) => record.user_id.as_deref() == Some(user),
        Whose::Organization(organization) => record.organization_id.as_deref() == Some(organization),
    }
}

/// The call without what leads to a person.
pub(super) fn anonymise(record: CallRecord, name: &str) -> CallRecord {
    CallRecord {
        id: CallId(another_id(record.id.0)),
        user_id: Some(Text::from(name)),
        organization_id: None,
        error_message: None,
        error_detail: None,
        api_key_id: None,
        rate_limit_state: None,
        client_ip: None,
        user_agent: None,
        client_name: None,
        client_version: None,
        session_hash: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        rpc_id: None,
        task_hash: None,
        mrtr_group: None,
        ..record
    }
}

/// The same instant, with another random half.
pub(super) fn another_id(id: Uuid) -> Uuid {
    Uuid::from_u64_pair(id.as_u64_pair().0, Uuid::new_v4().as_u64_pair().1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{columns::COLUMNS, value::Value};
    use mcpmeter_observer::{Identity, Method, Timestamp};

    /// What says nothing about who it was.
    const KEPT: [&str; 37] = [
        "created_at",
        "completed_at",
        "duration_ms",
        "latency_bucket",
        "ttfb_ms",
        "first_event_ms",
        "proxy_us",
        "mcp_server_instance_id",
        "tool_name",
        "method",
        "transport_type",
        "client_transport",
        "protocol_version",
        "status",
        "status_detail",
        "origin",
        "error_code",
        "http_status",
        "input_bytes",
        "output_bytes",
        "http_request_bytes",
        "http_response_bytes",
        "cpu_ms",
        "cpu_shared",
        "cpu_percent",
        "memory_bytes",
        "auth_method",
        "auth_state",
        "framing",
        "match",
        "batch_size",
        "batch_index",
        "tool_count",
        "redelivered",
        "client_left",
        "cancel_requested",
        "header_mismatch",
    ];

    fn record() -> CallRecord {
        let at = Timestamp(1_772_323_200_000_000);
        let identity = Identity {
            instance_id: "instance".into(),
            user_id: Some("user".into()),
            organization_id: Some("organization".into()),
        };
        let text = || Some(Text::from("\"anything\""));
        CallRecord {
            error_message: text(),
            error_detail: text(),
            api_key_id: text(),
            rate_limit_state: text(),
            client_ip: text(),
            user_agent: text(),
            client_name: text(),
            client_version: text(),
            session_hash: text(),
            trace_id: text(),
            span_id: text(),
            parent_span_id: text(),
            rpc_id: text(),
            task_hash: text(),
            mrtr_group: text(),
            tool_name: text(),
            ..CallRecord::begin(CallId::new(at, 7), at, Method::ToolsCall, &identity)
        }
    }

    #[test]
    fn of_every_column_it_is_known_whether_it_leads_to_a_person() {
        let (before, after) = (record(), anonymise(record(), "anonymous-1"));
        for column in COLUMNS {
            let (was, is) = ((column.value)(&before), (column.value)(&after));
            match column.name {
                "id" => assert!(was != is && before.id.0.as_u64_pair().0 == after.id.0.as_u64_pair().0),
                "user_id" => assert_eq!(is, Value::Text("anonymous-1".into())),
                name if KEPT.contains(&name) => assert_eq!(was, is, "{name}"),
                name => {
                    assert!(CLEARED.contains(&(name, column.kind)), "{name} is new: keep it, or clear it?");
                    assert!(column.nullable && was != Value::Null && is == Value::Null, "{name}");
                }
            }
        }
        assert_eq!(COLUMNS.len(), KEPT.len() + CLEARED.len() + 2);
        assert_eq!(after.id.0.get_version_num(), 7);
    }

    #[test]
    fn a_call_belongs_to_its_user_and_to_its_organisation_and_to_no_other() {
        let record = record();
        for (whose, expected) in [
            (Whose::User("user".to_owned()), true),
            (Whose::User("user2".to_owned()), false),
            (Whose::User("organization".to_owned()), false),
            (Whose::Organization("organization".to_owned()), true),
            (Whose::Organization("user".to_owned()), false),
        ] {
            assert_eq!(is_of(&record, &whose), expected, "{whose:?}");
        }
    }
}
