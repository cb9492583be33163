//! Shows every frame to the observer before it goes on, and the observer's records to the journal. Never
//! alters a frame, but for what [`BodyPatch`] may.
//!
//! Whatever becomes of an exchange, [`TapOwner`] tells the observer exactly one ending: the body's end, the
//! upstream's failure, or, when it is dropped before either, that the client left or the proxy stops.

mod request_body;

pub(crate) use request_body::RequestBody;

use crate::{
    auth::BodyPatch,
    clock::Clock,
    lifecycle::{Ongoing, Stopping},
    process_meter::Tree,
    source::Source,
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use mcpmeter_journal::{Journal, LossReason};
use mcpmeter_observer::{AuthMethod, AuthState, Exchange, Failure, Tick};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

/// An exchange under observation, shared by its two bodies. Both run on one thread unless the runtime is
/// shared, so its lock is all but never contended.
#[derive(Clone)]
pub(crate) struct Tap {
    shared: Arc<Shared>,
}

struct Shared {
    exchange: Mutex<Exchange>,
    clock: Clock,
    journal: Arc<Journal>,
    /// The processes that work on the exchange's calls, once they are known.
    meter: OnceLock<Arc<Tree>>,
}

impl Tap {
    pub(crate) fn new(exchange: Exchange, clock: Clock, journal: Arc<Journal>) -> Self {
        let meter = OnceLock::new();
        Self { shared: Arc::new(Shared { exchange: Mutex::new(exchange), clock, journal, meter }) }
    }

    /// From now on, these processes work on the exchange's calls. The observer has to have been told to watch them.
    pub(crate) fn meter(&self, processes: Arc<Tree>) {
        let mut exchange = self.shared.lock();
        let meter = self.shared.meter.get_or_init(|| processes);
        begin_metering(&mut exchange, meter);
    }

    /// How the caller proved who it is, and what came of that.
    pub(crate) fn auth(&self) -> (AuthMethod, AuthState) {
        self.shared.lock().auth()
    }

    /// Tells the observer something, and the journal what came of it.
    pub(crate) fn tell(&self, what: impl FnOnce(&mut Exchange, Tick)) {
        let mut exchange = self.shared.lock();
        let Shared { clock, journal, meter, .. } = &*self.shared;
        what(&mut exchange, clock.tick());
        let meter = meter.get();
        if let Some(meter) = meter {
            begin_metering(&mut exchange, meter);
        }
        if exchange.has_finished() {
            let handed_on = clock.tick();
            while let Some(mut record) = exchange.poll_finished(handed_on) {
                if let Some(meter) = meter {
                    meter.end(&mut record);
                }
                journal.accept(record);
            }
            journal.lose(LossReason::BatchTooLarge, exchange.poll_unrecorded());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin_metering(exchange: &mut Exchange, meter: &Tree) {
    while let Some(call) = exchange.poll_opened() {
        meter.begin(call);
    }
}

/// The one who owes the observer an ending.
pub(crate) struct TapOwner {
    tap: Tap,
    stopping: Stopping,
    ended: bool,
    _ongoing: Ongoing,
}

impl TapOwner {
    pub(crate) const fn new(tap: Tap, stopping: Stopping, ongoing: Ongoing) -> Self {
        Self { tap, stopping, ended: false, _ongoing: ongoing }
    }

    pub(crate) const fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Tells the one ending that there is.
    fn end_by(&mut self, ending: impl FnOnce(&mut Exchange, Tick)) {
        if !std::mem::replace(&mut self.ended, true) {
            self.tap.tell(ending);
        }
    }

    /// A part of the answer's body was read; `last` if the body ends with it.
    fn read(&mut self, data: &[u8], last: bool) {
        self.ended |= last;
        self.tap.tell(|exchange, now| {
            exchange.handle_response_data(data, now);
            if last {
                exchange.handle_response_end(now);
            }
        });
    }

    /// The caller was refused; there is a record of it, or there is none.
    pub(crate) fn refuse(&mut self, failure: Option<&Failure>) {
        self.end_by(|exchange, now| failure.into_iter().for_each(|it| exchange.handle_refusal(it, now)));
    }

    /// A caller that nobody knows was refused.
    pub(crate) fn refuse_stranger(&mut self, failure: &Failure) {
        self.end_by(|exchange, now| exchange.handle_stranger(failure, now));
    }

    /// The upstream failed.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.end_by(|exchange, now| exchange.handle_failure(failure, now));
    }
}

impl Drop for TapOwner {
    fn drop(&mut self) {
        if !self.ended {
            let stops = self.stopping.is_aborting();
            self.tap.tell(
                |exchange, now| {
                    if stops { exchange.handle_stop(now) } else { exchange.handle_client_left(now) }
                },
            );
        }
    }
}

/// The answer broke off; the observer knows how.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct AnswerBroke;

/// A response's body on its way to the client.
pub(crate) struct ResponseBody {
    source: Source,
    owner: TapOwner,
    patch: Option<Box<BodyPatch>>,
    /// They came while the patch still held something back.
    trailers: Option<Box<Frame<Bytes>>>,
}

impl ResponseBody {
    pub(crate) fn new(source: Source, owner: TapOwner, patch: Option<Box<BodyPatch>>) -> Self {
        let mut body = Self { source, owner, patch, trailers: None };
        if body.source.is_end_stream() {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        self.owner.end_by(Exchange::handle_response_end);
        self.source.give_back();
    }

    /// The answer ends here, whatever was still to come; it must not look complete.
    pub(crate) fn cut(&mut self, failure: &Failure) {
        self.owner.fail(failure);
        self.source.forsake();
    }

    /// What the patch still holds back at the end of the data.
    fn release(&mut self) -> Option<Frame<Bytes>> {
        self.patch.as_mut().map(|patch| patch.finish()).filter(|held| !held.is_empty()).map(Frame::data)
    }

    /// Shows a frame to the observer; gives what goes on.
    fn take_data(&mut self, data: Bytes) -> Bytes {
        // hyper does not ask again behind the last byte of a body of known length.
        self.owner.read(&data, self.source.is_end_stream());
        match &mut self.patch {
            Some(patch) => patch.patch(data),
            None => data,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = AnswerBroke;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerBroke>>> {
        let this = self.get_mut();
        if let Some(trailers) = this.trailers.take() {
            return Poll::Ready(Some(Ok(*trailers)));
        }
        loop {
            let frame = match std::task::ready!(this.source.poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(failure)) => {
                    this.cut(&failure);
                    return Poll::Ready(Some(Err(AnswerBroke)));
                }
                None => {
                    this.end();
                    return Poll::Ready(this.release().map(Ok));
                }
            };
            let frame = match frame.into_data() {
                Ok(data) => Frame::data(this.take_data(data)),
                Err(trailers) => match this.release() {
                    Some(held) => {
                        this.trailers = Some(Box::new(trailers));
                        held
                    }
                    None => trailers,
                },
            };
            if this.source.is_end_stream() {
                this.end();
            }
            if frame.data_ref().is_none_or(|data| !data.is_empty()) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.patch.is_none() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.patch.is_some() { SizeHint::default() } else { self.source.size_hint() }
    }
}
