//! Records for tests: plain ones by number, and those that go to the limits of every column.

use mcpmeter_observer::{
    AuthMethod, AuthState, CallId, CallRecord, Framing, Identity, MatchKind, Method, Origin, Status,
    StatusDetail, Text, Timestamp, Transport,
};
use uuid::Uuid;

/// 2026-03-01T00:00:00Z.
pub(crate) const MARCH: Timestamp = Timestamp(1_772_323_200_000_000);

/// The `number`th call of March: one per millisecond, nothing known that need not be.
pub(crate) fn plain(number: u64) -> Box<CallRecord> {
    let created_at = Timestamp(MARCH.0 + i64::try_from(number).unwrap() * 1_000);
    let id = CallId::new(created_at, u128::from(number) << 64);
    let identity = Identity { instance_id: "inst".into(), user_id: None, organization_id: None };
    Box::new(CallRecord {
        completed_at: Timestamp(created_at.0 + 1_234),
        duration_us: 1_234,
        transport_type: Transport::Stdio,
        status: Status::Ok,
        ..CallRecord::begin(id, created_at, Method::ToolsCall, &identity)
    })
}

/// Every column has a value, each a different one.
pub(crate) fn full(number: u64) -> Box<CallRecord> {
    let text = |word: &str| Some(Text::from(format!("{word} {number}")));
    Box::new(CallRecord {
        ttfb_us: Some(1_001),
        first_event_us: Some(1_002),
        proxy_us: Some(7),
        user_id: text("user"),
        organization_id: text("organization"),
        mcp_server_instance_id: "instance".into(),
        tool_name: text("tool"),
        transport_type: Transport::Sse,
        protocol_version: text("protocol"),
        status: Status::ToolError,
        status_detail: Some(StatusDetail::Unterminated),
        origin: Some(Origin::Upstream),
        error_code: text("code"),
        error_message: text("message"),
        error_detail: Some(
            r#"{"z": [1, 2.50, 1e2, null, true], "a": {"ü": "\u00e9\n"}, "a b": -0.0}"#.into(),
        ),
        http_status: Some(599),
        input_bytes: 11,
        output_bytes: 12,
        http_request_bytes: Some(13),
        http_response_bytes: Some(14),
        cpu_ms: Some(0.1),
        cpu_shared: Some(true),
        cpu_percent: Some(99.9),
        memory_bytes: Some(15),
        auth_method: AuthMethod::ApiKey,
        auth_state: AuthState::Expired,
        api_key_id: text("key"),
        rate_limit_state: Some(r#"{"limit": 10, "remaining": 9, "reset": 1.0}"#.into()),
        client_ip: text("ip"),
        user_agent: text("agent"),
        client_name: text("name"),
        client_version: text("version"),
        session_hash: text("session"),
        trace_id: text("trace"),
        span_id: text("span"),
        parent_span_id: text("parent"),
        rpc_id: text("rpc"),
        framing: Some(Framing::BatchSse),
        match_kind: MatchKind::Fifo,
        batch_size: Some(16),
        batch_index: Some(17),
        tool_count: Some(18),
        redelivered: 19,
        client_left: true,
        cancel_requested: false,
        header_mismatch: true,
        task_hash: text("task"),
        mrtr_group: text("group"),
        ..*plain(number)
    })
}

/// Texts that a careless store would change: quotes, backslashes, tabs, other scripts, an empty one.
pub(crate) fn unicode(number: u64) -> Box<CallRecord> {
    Box::new(CallRecord {
        user_id: Some("".into()),
        tool_name: Some("工具 🛠️ \u{200d}é e\u{301}".into()),
        error_message: Some("a\tb\\N\r\n'\"; drop table x; --\u{fffd}\u{1}".into()),
        error_detail: Some(r#""😀 \ud83d\ude00 \\ \" é""#.into()),
        rate_limit_state: Some("[]".into()),
        ..*plain(number)
    })
}

/// The smallest and greatest values, among them some that no column can hold.
pub(crate) fn extremes(number: u64) -> [Box<CallRecord>; 2] {
    // Beyond what the observer's caps let through.
    let long = Text::from("x".repeat(12_000));
    let greatest = CallRecord {
        id: CallId(Uuid::max()),
        completed_at: Timestamp(253_402_300_799_999_999),
        duration_us: u64::MAX,
        ttfb_us: Some(u64::MAX),
        http_status: Some(u16::MAX),
        input_bytes: u64::MAX,
        output_bytes: i64::MAX as u64,
        cpu_ms: Some(f64::MAX),
        cpu_percent: Some(f64::INFINITY),
        memory_bytes: Some(u64::MAX),
        error_message: Some(Text::clone(&long)),
        error_detail: Some(format!("{{\"n\": 123456789012345678901234567890, \"t\": \"{long}\"}}").into()),
        batch_size: Some(u32::MAX),
        redelivered: u32::MAX,
        ..*plain(number)
    };
    let least = CallRecord {
        id: CallId(Uuid::nil()),
        completed_at: Timestamp(0),
        duration_us: 0,
        cpu_ms: Some(f64::MIN_POSITIVE),
        cpu_shared: Some(false),
        cpu_percent: Some(f64::NAN),
        mcp_server_instance_id: "".into(),
        error_detail: Some("null".into()),
        ..*plain(number)
    };
    [Box::new(greatest), Box::new(least)]
}
