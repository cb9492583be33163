//! Bodies of calls: the message that asked and the one that answered, where an instance is told to keep them.
//!
//! What is held here is as it came, and nobody outside this crate can read it: the one way out is [`HeldBodies::redact`]
//! (promise 5). That is left to whoever stores bodies, because it takes time in proportion to a body, and a call's last
//! frame must not wait for it. How much an instance holds is bounded, for all its calls together.

use crate::{
    budget::{Budget, Permit},
    call::CallRecord,
    jsonrpc::{Message, Taped},
    redact::{End, Redactor, own},
    word::Status,
};
use arc_swap::ArcSwap;
use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Bytes beyond the cap that are held of a body, so that a secret at the cap is seen as a whole and masked. Of one that goes
/// on even beyond these, nothing stays that it could be told from.
const WINDOW: usize = 4 << 10;
/// Bytes of bodies that one instance holds at a time, in open calls and in finished ones that are not stored yet. A message
/// that is still coming is held beside them.
const MAX_HELD: usize = 32 << 20;

/// Of which calls an instance keeps bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepBodies {
    /// Of none.
    #[default]
    Off,
    /// Of those that failed ([`Status::is_failure`]).
    Errors,
    /// Of all but those that were refused: they never reached the server, and anybody can make them.
    All,
}

/// Which bodies are kept, and how much of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodyRule {
    /// Of which calls.
    pub keep: KeepBodies,
    /// The most bytes of a body, up to [`BodyRule::LARGEST`]; what is longer is cut.
    pub max_bytes: u32,
}

impl BodyRule {
    /// The largest cap: with what is held beyond it, the longest text that is looked through.
    pub const LARGEST: u32 = 60 << 10;

    /// Bytes that are held of a message.
    const fn held_bytes(self) -> usize {
        match self.keep {
            KeepBodies::Off => 0,
            _ => self.max_bytes as usize + WINDOW,
        }
    }

    const fn wants(self, status: Status) -> bool {
        match self.keep {
            KeepBodies::Off => false,
            KeepBodies::Errors => status.is_failure(),
            KeepBodies::All => !matches!(status, Status::Denied | Status::Limited),
        }
    }

    const fn pack(self) -> u64 {
        (self.keep as u64) << 32 | self.max_bytes as u64
    }

    const fn unpack(packed: u64) -> Self {
        let keep = match packed >> 32 {
            0 => KeepBodies::Off,
            1 => KeepBodies::Errors,
            _ => KeepBodies::All,
        };
        Self { keep, max_bytes: packed as u32 }
    }
}

/// What one instance keeps of what is said: what everybody takes out of it, and which bodies are held. A change is in force
/// at once, also for calls that have begun.
#[derive(Debug)]
pub(crate) struct Keeping {
    rule: AtomicU64,
    /// Read without a lock.
    pub(crate) redactor: ArcSwap<Redactor>,
    held: Budget,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            rule: AtomicU64::new(BodyRule::default().pack()),
            redactor: ArcSwap::new(Redactor::new(&[], Vec::new())),
            held: Budget::of(MAX_HELD),
        }
    }
}

impl Keeping {
    pub(crate) fn set_rule(&self, rule: BodyRule) {
        self.rule.store(rule.pack(), Relaxed);
    }

    fn rule(&self) -> BodyRule {
        BodyRule::unpack(self.rule.load(Relaxed))
    }

    /// Bytes of a message that a scanner is to hold; 0 where no bodies are kept.
    pub(crate) fn held_bytes(&self) -> usize {
        self.rule().held_bytes()
    }

    /// The bodies of a call that begins; `None` where they are not kept.
    /// `secrets` are those that the client has shown beside them.
    pub(crate) fn begin<'s>(
        self: &Arc<Self>,
        request: &Message,
        secrets: impl Iterator<Item = &'s str>,
    ) -> Option<Arc<HeldBodies>> {
        (self.held_bytes() > 0).then(|| {
            let request = Side::of(request, &self.held);
            let secrets = secrets.map(Box::from).collect();
            Arc::new(HeldBodies { request, answer: Side::Absent, secrets, keeping: Arc::clone(self) })
        })
    }
}

/// Which of a call's two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BodySide {
    /// What asked.
    Request,
    /// What answered.
    Answer,
}

impl BodySide {
    /// Its name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

/// Why there is no body although it was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkept {
    /// The instance holds too many others.
    NoRoom,
    /// It is not UTF-8, so it could not be looked through.
    NotUtf8,
}

/// A body as it may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The message without what must not be kept, or its beginning.
    pub text: String,
    /// Its length on the wire, in bytes.
    pub bytes: u64,
    /// It goes on behind what is kept.
    pub is_cut: bool,
}

/// One side as it came.
enum Side {
    /// There is none, or it could not be read.
    Absent,
    Held {
        message: Box<[u8]>,
        bytes: u64,
        is_cut: bool,
        _permit: Permit,
    },
    Unkept(Unkept),
}

/// The bodies of one call as they came. They travel with its record, and are no part of it: nothing shows or writes them.
pub struct HeldBodies {
    request: Side,
    answer: Side,
    /// What must not be in them, whatever it looks like.
    secrets: Box<[Box<str>]>,
    keeping: Arc<Keeping>,
}

impl Side {
    fn of(message: &Message, budget: &Budget) -> Self {
        let Some(Taped { held, bytes, is_cut }) = message.taped() else { return Self::Absent };
        match budget.take(held.len()) {
            Some(_permit) => Self::Held { message: held.into(), bytes, is_cut, _permit },
            None => Self::Unkept(Unkept::NoRoom),
        }
    }

    fn redact(&self, redactor: &Redactor, secrets: &[Box<str>], cap: usize) -> Option<Result<Body, Unkept>> {
        let (message, bytes, was_cut) = match self {
            Self::Absent => return None,
            Self::Unkept(why) => return Some(Err(*why)),
            Self::Held { message, bytes, is_cut, .. } => (message, *bytes, *is_cut),
        };
        let message = match str::from_utf8(message) {
            Ok(text) => text,
            // It was cut within a character.
            Err(error) if was_cut && error.error_len().is_none() => {
                str::from_utf8(&message[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => return Some(Err(Unkept::NotUtf8)),
        };
        let mut text = redactor.redact_message(message, End::of(was_cut));
        for secret in secrets {
            if let Cow::Owned(without) = own::without(&text, secret) {
                text = without;
            }
        }
        let is_cut = was_cut || text.len() > cap;
        text.truncate(text.floor_char_boundary(cap));
        Some(Ok(Body { text, bytes, is_cut }))
    }
}

impl HeldBodies {
    /// How many bodies there are, kept or not.
    pub fn count(&self) -> u64 {
        [&self.request, &self.answer].into_iter().filter(|side| !matches!(side, Side::Absent)).count() as u64
    }

    /// Each body that there is, without what must not be kept and cut at the cap, or why it cannot be kept. Takes time in
    /// proportion to them: about 11 µs a KiB.
    pub fn redact(&self) -> impl Iterator<Item = (BodySide, Result<Body, Unkept>)> {
        let (redactor, cap) = (self.keeping.redactor.load(), self.keeping.rule().max_bytes as usize);
        let sides = [(BodySide::Request, &self.request), (BodySide::Answer, &self.answer)];
        sides
            .into_iter()
            .filter_map(move |(name, side)| Some((name, side.redact(&redactor, &self.secrets, cap)?)))
    }
}

/// Takes note of the message that has ended a call.
pub(crate) fn note_answer(record: &mut CallRecord, answer: &Message) {
    // Until the record has left the observer nobody else holds them.
    if let Some(bodies) = record.bodies.as_mut().and_then(Arc::get_mut) {
        bodies.answer = Side::of(answer, &bodies.keeping.held);
    }
}

/// Lets the bodies of a call go that has ended in a way for which they are not wanted.
pub(crate) fn let_go_unwanted(record: &mut CallRecord) {
    if let Some(bodies) = &record.bodies
        && !bodies.keeping.rule().wants(record.status)
    {
        record.bodies = None;
    }
}

/// Says nothing of what is in them.
impl fmt::Debug for HeldBodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldBodies(…)")
    }
}

/// They are beside the record: two records are the same whatever is held of their bodies.
impl PartialEq for HeldBodies {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
