//! Records as a busy installation makes them: 500 users of 25 organisations, 40 instances, 480 tools, some used much more
//! than others, and an error with its text and data in one of thirty.

use mcpmeter_observer::{
    AuthMethod, AuthState, CallId, CallRecord, Framing, Identity, MatchKind, Method, Origin, Status, Text,
    Timestamp,
};

/// Makes records whose calls begin at even distances.
pub(crate) struct Calls {
    random: fastrand::Rng,
    next: i64,
    step: i64,
}

impl Calls {
    /// Calls from an instant on, in microseconds since 1970, so many microseconds apart.
    pub(crate) fn from(start: i64, step: i64) -> Self {
        Self { random: fastrand::Rng::with_seed(7), next: start, step }
    }

    /// A small number more often than a great one.
    fn skewed(&mut self, below: u32) -> u32 {
        let share = self.random.f64();
        (f64::from(below) * share * share * share) as u32
    }

    fn text(prefix: &str, number: u32) -> Text {
        format!("{prefix}_{number}").into()
    }
}

impl Iterator for Calls {
    type Item = Box<CallRecord>;

    fn next(&mut self) -> Option<Box<CallRecord>> {
        let created_at = Timestamp(self.next);
        self.next += self.step;
        let (user, instance, tool) = (self.skewed(500), self.skewed(40), self.skewed(12));
        let identity = Identity {
            instance_id: Self::text("inst", instance),
            user_id: Some(Self::text("user", user)),
            organization_id: Some(Self::text("org", user % 25)),
        };
        let id = CallId::new(created_at, self.random.u128(..));
        let duration_us = 1_000 + u64::from(self.skewed(2_000_000));
        let failed = self.random.u8(..) < 9;
        let mut record = Box::new(CallRecord {
            completed_at: Timestamp(created_at.0 + duration_us as i64),
            duration_us,
            ttfb_us: Some(duration_us - 200),
            proxy_us: Some(12),
            tool_name: Some(format!("tool_{instance}_{tool}").into()),
            protocol_version: Some("2025-11-25".into()),
            status: Status::Ok,
            http_status: Some(200),
            input_bytes: 160,
            output_bytes: 300 + u64::from(self.skewed(20_000)),
            http_request_bytes: Some(160),
            http_response_bytes: Some(300),
            auth_method: AuthMethod::Passthrough,
            auth_state: AuthState::Unverified,
            client_ip: Some("10.1.2.0".into()),
            user_agent: Some("claude-code/2.0.55 (cli)".into()),
            client_name: Some("claude-code".into()),
            client_version: Some("2.0.55".into()),
            session_hash: Some(format!("{:016x}", self.random.u64(..1 << 12)).into()),
            rpc_id: Some("17".into()),
            framing: Some(Framing::Sse),
            match_kind: MatchKind::Exact,
            ..CallRecord::begin(id, created_at, Method::ToolsCall, &identity)
        });
        if failed {
            record.status = Status::RpcError;
            record.origin = Some(Origin::Upstream);
            record.error_code = Some("-32603".into());
            record.error_message =
                Some("Internal error: the document could not be read from the index".into());
            record.error_detail = Some(r#"{"data":{"stack":["index.ts:211:7","server.ts:88:3"]}}"#.into());
        }
        Some(record)
    }
}
