//! Exchanges with one instance, and the books of what was asked and recorded.

use crate::message::{IDS, is_empty, request, response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mcpmeter_observer::{
    CallRecord, Exchange, Failure, Head, Identity, Instance, MatchKind, Mount, Status, StatusDetail, Tick,
    Timestamp,
};
use std::{collections::HashSet, sync::Arc};

const MS: u64 = 1_000_000;

/// An exchange, and what is known of it.
struct Slot {
    exchange: Exchange,
    is_post: bool,
    /// The `Mcp-Method` header names a call, so that a body without messages is one.
    announced: bool,
    /// What the body can make: at least, at most.
    calls: (u64, u64),
    sent: bool,
    request_over: bool,
    head_sent: bool,
    is_stream: bool,
}

/// Everything under test, and the books.
pub struct World {
    instance: Arc<Instance>,
    slots: [Option<Slot>; 4],
    now: u64,
    begun: u128,
    at_least: u64,
    at_most: u64,
    ids: HashSet<String>,
    unrecorded: u64,
    /// Calls that were answered with a task, and ends of tasks.
    tasks: (u64, u64),
}

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, String)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("valid"))
    };
    pairs.iter().map(pair).collect()
}

impl World {
    /// Where nothing has happened yet.
    pub fn new() -> Self {
        let identity = Identity { instance_id: "i".into(), user_id: None, organization_id: None };
        let mount =
            Mount { origin: "http://u".to_owned(), base_path: String::new(), prefix: "/x".to_owned() };
        Self {
            instance: Arc::new(Instance::new(identity, mount)),
            slots: [const { None }; 4],
            now: 0,
            begun: 0,
            at_least: 0,
            at_most: 0,
            ids: HashSet::new(),
            unrecorded: 0,
            tasks: (0, 0),
        }
    }

    fn tick(&self) -> Tick {
        Tick(self.now)
    }

    fn book(&mut self, record: &CallRecord) {
        assert!(self.ids.insert(record.id.to_string()), "a second record of one call");
        self.tasks.0 += u64::from(record.status == Status::TaskCreated);
        self.tasks.1 += u64::from(record.status_detail == Some(StatusDetail::TaskEnd));
        assert!(self.tasks.0 >= self.tasks.1, "the end of a task that nobody saw begin");
        assert!(record.duration_us <= self.now / 1000);
        assert!(record.completed_at >= record.created_at);
        assert_eq!(record.match_kind != MatchKind::None, record.framing.is_some());
        if record.match_kind == MatchKind::None {
            assert_eq!(record.output_bytes, 0);
            assert!(record.status_detail == Some(StatusDetail::Unread) || record.status != Status::Ok);
        }
    }

    fn begin(&mut self, slot: usize, a: u8, b: u8) {
        self.end(slot, 2);
        let method = [Method::POST, Method::POST, Method::POST, Method::GET, Method::GET, Method::DELETE]
            [usize::from(a) % 6]
            .clone();
        let target = ["/mcp", "/mcp", "/messages?s=0", "/messages?s=1"][usize::from(a >> 4) % 4];
        let mut pairs = Vec::new();
        if b & 3 != 0 {
            pairs.push(("mcp-session-id", format!("s{}", b & 3)));
        }
        if b & 4 != 0 {
            pairs.push(("last-event-id", (b >> 5).to_string()));
        }
        if b & 8 != 0 {
            pairs.push(("mcp-method", "tools/call".to_owned()));
        }
        match b >> 4 & 3 {
            0 => {}
            1 => pairs.push(("mcp-protocol-version", "2026-07-28".to_owned())),
            2 => pairs.push(("mcp-protocol-version", "2025-11-25".to_owned())),
            _ => pairs.push(("authorization", "Bearer t".to_owned())),
        }
        self.begun += 1;
        let exchange = self.instance.begin(&Head {
            method: &method,
            target,
            headers: &headers(&pairs),
            created_at: Timestamp(1_700_000_000_000_000 + (self.now / 1000) as i64),
            at: self.tick(),
            entropy: self.begun << 64,
            client_ip: None,
            caller: None,
        });
        self.slots[slot] = Some(Slot {
            exchange,
            is_post: method == Method::POST,
            announced: b & 8 != 0,
            calls: (0, 0),
            sent: false,
            request_over: false,
            head_sent: false,
            is_stream: false,
        });
    }

    fn ask(&mut self, slot: usize, a: u8, b: u8, whole: bool) {
        let now = self.tick();
        let Some(slot) = &mut self.slots[slot] else { return };
        if slot.request_over || slot.sent {
            return;
        }
        slot.sent = true;
        let (body, calls) = request(a, IDS[usize::from(b) % IDS.len()]);
        let body = body.as_bytes();
        let cut = body.len() * usize::from(b) / 256;
        if slot.is_post {
            // A body that is cut off may still be a call, or a batch that has begun.
            slot.calls = if whole { (calls, calls) } else { (0, calls.max(1)) };
            if slot.announced && is_empty(a) {
                slot.calls = (0, 1);
            }
        }
        slot.exchange.handle_request_data(&body[..cut], now);
        if whole {
            slot.exchange.handle_request_data(&body[cut..], now);
        }
    }

    fn end_request(&mut self, slot: usize) {
        let now = self.tick();
        let Some(slot) = self.slots[slot].as_mut().filter(|slot| !slot.request_over) else { return };
        slot.request_over = true;
        slot.exchange.handle_request_end(now);
        if slot.is_post && slot.announced && !slot.sent {
            slot.calls = (0, 1);
        }
    }

    fn head(&mut self, slot: usize, a: u8, b: u8) {
        let now = self.tick();
        let Some(slot) = self.slots[slot].as_mut().filter(|slot| !slot.head_sent) else { return };
        slot.head_sent = true;
        let status = [200, 200, 200, 202, 400, 404, 401, 500][usize::from(a) % 8];
        slot.is_stream = b % 4 == 0;
        let content_type = ["text/event-stream", "application/json", "text/plain", "text/event-stream;x"];
        let mut pairs = vec![("content-type", content_type[usize::from(b) % 4].to_owned())];
        if b & 16 != 0 {
            pairs.push(("mcp-session-id", format!("s{}", b >> 5 & 3)));
        }
        if b & 128 != 0 {
            pairs.push(("content-encoding", ["gzip", "odd"][usize::from(a >> 4) % 2].to_owned()));
        }
        let status = StatusCode::from_u16(status).expect("valid");
        slot.exchange.handle_response_head(status, &headers(&pairs), now);
    }

    fn answer(&mut self, slot: usize, a: u8, b: u8) {
        let now = self.tick();
        let Some(slot) = self.slots[slot].as_mut().filter(|slot| slot.head_sent) else { return };
        let message = response(a, IDS[usize::from(b) % IDS.len()]);
        let text = match (slot.is_stream, b & 64 != 0) {
            (false, _) => message,
            (true, false) => format!("data: {message}\n\n"),
            (true, true) => format!("id: {}\r\ndata: {message}\r\n\r\n", b >> 5 & 7),
        };
        let (start, end) = text.as_bytes().split_at(text.len() * usize::from(b) / 256);
        slot.exchange.handle_response_data(start, now);
        slot.exchange.handle_response_data(end, now);
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) {
        let now = self.tick();
        if let Some(slot) = self.slots[slot].as_mut().filter(|slot| slot.head_sent) {
            slot.exchange.handle_response_data(bytes, now);
        }
    }

    fn end(&mut self, at: usize, how: u8) {
        let now = self.tick();
        let Some(mut slot) = self.slots[at].take() else { return };
        match how % 4 {
            0 => slot.exchange.handle_response_end(now),
            1 => slot.exchange.handle_failure(
                &Failure {
                    status: Status::UpstreamError,
                    detail: StatusDetail::Aborted,
                    code: "reset",
                    message: "reset".to_owned(),
                    http_status: None,
                    context: None,
                },
                now,
            ),
            2 => slot.exchange.handle_client_left(now),
            _ => slot.exchange.handle_stop(now),
        }
        if slot.is_post && slot.announced && !slot.sent && !slot.request_over {
            slot.calls = (0, 1);
        }
        self.at_least += slot.calls.0;
        self.at_most += slot.calls.1;
        self.slots[at] = Some(slot);
        self.poll(at);
        self.slots[at] = None;
    }

    fn poll(&mut self, at: usize) {
        let now = self.tick();
        let Some(mut slot) = self.slots[at].take() else { return };
        assert_eq!(slot.exchange.has_finished(), slot.exchange.has_finished());
        while let Some(record) = slot.exchange.poll_finished(now) {
            self.book(&record);
        }
        self.unrecorded += slot.exchange.poll_unrecorded();
        assert!(!slot.exchange.has_finished());
        self.slots[at] = Some(slot);
    }

    /// One operation.
    pub fn step(&mut self, what: u8, slot: usize, a: u8, b: u8) {
        self.now += MS;
        match what % 11 {
            0 | 1 => self.begin(slot, a, b),
            2 => self.ask(slot, a, b, true),
            3 => self.ask(slot, a, b, false),
            4 => self.end_request(slot),
            5 => self.head(slot, a, b),
            6 => self.answer(slot, a, b),
            7 => self.send(slot, format!("event: endpoint\ndata: /messages?s={}\n\n", a % 2).as_bytes()),
            8 => self.end(slot, a),
            9 => {
                self.now += u64::from(a) * u64::from(b) * 100 * MS;
                for record in self.instance.poll_expired(self.tick()) {
                    self.book(&record);
                }
            }
            _ => self.send(slot, &[a, b]),
        }
        self.poll(slot);
    }

    /// Ends everything, and checks the books.
    ///
    /// # Panics
    ///
    /// When they do not add up.
    pub fn close(mut self) {
        for slot in 0..4 {
            self.end(slot, (slot as u8) + 1);
        }
        for record in self.instance.close(self.tick()) {
            self.book(&record);
        }
        assert!(!self.instance.has_open() && self.instance.open_calls() == 0);
        assert!(self.tasks.0 >= self.tasks.1 + self.instance.forgotten_tasks());
        // The end of a task is a row of its own, but none of a call.
        let recorded = self.ids.len() as u64 - self.tasks.1 + self.unrecorded;
        assert!(
            (self.at_least..=self.at_most).contains(&recorded),
            "{recorded} records of {} to {} calls",
            self.at_least,
            self.at_most
        );
    }
}
