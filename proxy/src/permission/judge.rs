//! The decision about one request: from its head, and, where that is not enough, from its body. Pure but for the reading of
//! the body; what is decided does not depend on when its parts came.

use super::turned_away::TurnedAway;
use crate::{
    admission::{Admission, Leave},
    envelope::{Channel, Envelope, Unreadable, announces_call},
    policy::{Asked, Verdict},
    upstream::{self, Gathered, Upload},
};
use bytes::Bytes;
use http::{HeaderMap, header};
use mcpmeter_observer::Timestamp;

/// What is known of a body.
pub(super) enum Body {
    /// There is none.
    Absent,
    Unread,
    /// All of it.
    Read(Bytes),
    /// More than is read; the first byte that is not blank.
    TooLong(Option<u8>),
}

/// Everything that one decision depends on.
pub(super) struct Judge<'a> {
    pub(super) admission: &'a Admission,
    pub(super) asked: &'a Asked<'a>,
    /// What the key allows itself.
    pub(super) per_minute: Option<u32>,
    pub(super) channel: Channel,
    /// It says to be a stream that a body asks for, which has no place among calls and no time limit of theirs.
    pub(super) claims_stream: bool,
}

type Judged<T> = Result<T, Box<TurnedAway>>;

impl Judge<'_> {
    /// Reads a body as far as it is read.
    pub(super) async fn read(&self, body: &mut Upload) -> Judged<Body> {
        let Admission { max_body_bytes, body_timeout, .. } = *self.admission;
        let reading = body.gather(max_body_bytes, self.admission.hold());
        let Ok(gathered) = tokio::time::timeout(body_timeout, reading).await else {
            return Err(TurnedAway::unread(upstream::late_upload(body_timeout)));
        };
        match gathered {
            Gathered::Whole(bytes) => Ok(Body::Read(bytes)),
            Gathered::TooLong => Ok(Body::TooLong(body.first_byte())),
            Gathered::NoRoom => Err(TurnedAway::unread(upstream::no_room_to_hold())),
            Gathered::BrokenOff => Err(TurnedAway::broken_off()),
        }
    }

    /// Leave to go on; absent if that depends on the body, which has not been read.
    pub(super) fn decide(&self, headers: &HeaderMap, body: &Body, now: Timestamp) -> Judged<Option<Leave>> {
        if let Verdict::Denied(reason) = self.admission.judge(self.asked) {
            let nothing = Envelope { messages: Vec::new(), is_batch: false };
            return Err(TurnedAway::denied(reason, nothing.deny(self.channel, |_| true)));
        }
        let judges_tools = self.admission.reads_bodies(self.asked);
        let is_counted = self.per_minute.is_some() || self.admission.counts(self.asked);
        if matches!(body, Body::Absent) && judges_tools && announces_call(headers) {
            return Err(TurnedAway::unreadable(Unreadable::HeaderMismatch));
        }
        if matches!(body, Body::Absent) || !(judges_tools || is_counted || self.claims_stream) {
            return Ok(Some(Leave::default()));
        }
        let leave = match body {
            Body::Absent | Body::Unread => return Ok(None),
            Body::Read(bytes) if Envelope::is_surely_none(headers, bytes) => Ok(Leave::default()),
            Body::Read(bytes) if judges_tools => self.judge(headers, bytes, now),
            Body::Read(bytes) if is_counted => self.count(headers, bytes, now),
            Body::Read(bytes) => self.keep_to_claim(headers, bytes).map(|()| Leave::default()),
            Body::TooLong(_) if judges_tools || self.claims_stream => {
                Err(TurnedAway::unreadable(Unreadable::TooLarge))
            }
            Body::TooLong(first) => self.count_one(headers, *first, Unreadable::TooLarge, now),
        };
        leave.map(Some)
    }

    fn judge(&self, headers: &HeaderMap, bytes: &Bytes, now: Timestamp) -> Judged<Leave> {
        Envelope::check_head(headers).map_err(TurnedAway::unreadable)?;
        let envelope = Envelope::read(bytes).map_err(TurnedAway::unreadable)?;
        envelope.check_agreement(headers).map_err(TurnedAway::unreadable)?;
        if let Verdict::Denied(reason) = self.admission.judge_body(self.asked, &envelope) {
            let answer = self.admission.deny(self.asked, &envelope, self.channel);
            return Err(TurnedAway::denied(reason, answer));
        }
        self.enter(&envelope.calls().collect::<Vec<_>>(), now)
    }

    fn count(&self, headers: &HeaderMap, bytes: &Bytes, now: Timestamp) -> Judged<Leave> {
        Envelope::check_charset(headers).map_err(TurnedAway::unreadable)?;
        self.keep_to_claim(headers, bytes)?;
        match Envelope::read(bytes) {
            Ok(envelope) => self.enter(&envelope.calls().collect::<Vec<_>>(), now),
            Err(unreadable) => {
                let first = bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace());
                self.count_one(headers, first, unreadable, now)
            }
        }
    }

    /// Who says to ask for a stream has to ask for one: a server that does not know these headers would do what the body
    /// says, as long as it likes. One that knows them refuses what differs, too (2026-07-28, basic/transports).
    fn keep_to_claim(&self, headers: &HeaderMap, bytes: &Bytes) -> Judged<()> {
        if !self.claims_stream {
            return Ok(());
        }
        let envelope = Envelope::read(bytes).map_err(TurnedAway::unreadable)?;
        envelope.check_agreement(headers).map_err(TurnedAway::unreadable)
    }

    /// It may be a call; of a batch, or of what is inside gzip, nobody knows how many.
    fn count_one(
        &self,
        headers: &HeaderMap,
        first: Option<u8>,
        unreadable: Unreadable,
        now: Timestamp,
    ) -> Judged<Leave> {
        if first == Some(b'{') && !headers.contains_key(header::CONTENT_ENCODING) {
            self.enter(&[None], now)
        } else {
            Err(TurnedAway::unreadable(unreadable))
        }
    }

    fn enter(&self, calls: &[Option<&str>], now: Timestamp) -> Judged<Leave> {
        if calls.is_empty() {
            return Ok(Leave::default());
        }
        self.admission.enter_by_key(self.per_minute, self.asked, calls, now).map_err(TurnedAway::limited)
    }
}
