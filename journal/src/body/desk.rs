//! The thread that makes bodies fit to be stored: it looks them through, cuts them and seals them, so that neither a
//! request nor the writer of calls ever waits for that. It touches no disk.
//!
//! What comes waits in a queue of [`PLACES`] calls; their bytes are bounded where they are held (the observer). What is
//! sealed waits on the tray for the writer, up to [`TRAY_BYTES`]. Beyond either, bodies are dropped and counted.

use super::{BodyBooks, BodyKeys, BodyLoss, SealedBody, seal::Owner};
use mcpmeter_observer::{CallRecord, HeldBodies, Unkept};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle, sleep},
    time::{Duration, Instant},
};
use tracing::error;

/// Calls whose bodies may wait for the thread.
const PLACES: usize = 4_096;
/// Bytes of sealed bodies that may wait for the writer: what a disk takes in some ticks.
const TRAY_BYTES: usize = 16 << 20;
/// How long it rests between two looks while there is work, so that a finished call seldom has to wake it.
const REST: Duration = Duration::from_millis(20);
/// How long its end, or what is queued, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something for the thread to do.
pub(crate) enum Job {
    Seal {
        owner: Box<Owner>,
        held: Arc<HeldBodies>,
    },
    /// Answer when what came before is on the tray.
    Flush(SyncSender<()>),
    End,
}

/// The thread's end of the queue.
pub(crate) struct Jobs(Receiver<Job>);

/// Where bodies are handed over, and what has become of them.
pub(crate) struct Desk {
    jobs: SyncSender<Job>,
    keys: Mutex<Arc<BodyKeys>>,
    tray: Mutex<Tray>,
    ending: AtomicBool,
    pub(crate) books: BodyBooks,
}

#[derive(Default)]
struct Tray {
    bodies: Vec<SealedBody>,
    bytes: usize,
}

impl Desk {
    /// A desk without keys, which drops everything.
    pub(crate) fn new() -> (Arc<Self>, Jobs) {
        let (jobs, received) = sync_channel(PLACES);
        let desk = Self {
            jobs,
            keys: Mutex::default(),
            tray: Mutex::default(),
            ending: AtomicBool::default(),
            books: BodyBooks::default(),
        };
        (Arc::new(desk), Jobs(received))
    }

    /// Takes the bodies of a finished call, if it has any. Never waits.
    pub(crate) fn take(&self, record: &CallRecord) {
        let Some(held) = &record.bodies else { return };
        let job = Job::Seal { owner: Box::new(Owner::of(record)), held: Arc::clone(held) };
        if self.jobs.try_send(job).is_err() {
            self.books.lose(BodyLoss::QueueFull, held.count());
        }
    }

    /// What bodies are sealed with from now on.
    pub(crate) fn use_keys(&self, keys: BodyKeys) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Blocks until what was handed over before is on the tray, or for too long.
    pub(crate) fn flush(&self) {
        let (done, told) = sync_channel(1);
        let deadline = Instant::now() + PATIENCE;
        while let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Flush(done.clone())) {
            if Instant::now() >= deadline {
                return;
            }
            sleep(REST);
        }
        drop(done);
        // Who has no patience left goes on without the rest.
        let _ = told.recv_timeout(PATIENCE);
    }

    /// What is sealed and not written yet.
    pub(crate) fn take_sealed(&self) -> Vec<SealedBody> {
        std::mem::take(&mut *self.tray()).bodies
    }

    fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both bodies of a call at once, so that they become durable together.
    fn lay_out(&self, bodies: Vec<SealedBody>) {
        let bytes: usize = bodies.iter().map(|body| body.sealed.len()).sum();
        let mut tray = self.tray();
        if tray.bytes + bytes > TRAY_BYTES {
            drop(tray);
            return self.books.lose(BodyLoss::QueueFull, bodies.len() as u64);
        }
        tray.bytes += bytes;
        tray.bodies.extend(bodies);
    }

    fn seal(&self, owner: &Owner, held: &HeldBodies) {
        let keys = Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner));
        let mut bodies = Vec::new();
        for (side, body) in held.redact() {
            let loss = match body {
                Ok(body) => match keys.seal(owner, side, body) {
                    Some(sealed) => {
                        bodies.push(sealed);
                        continue;
                    }
                    None => BodyLoss::NoKey,
                },
                Err(Unkept::NoRoom) => BodyLoss::NoRoom,
                Err(Unkept::NotUtf8) => BodyLoss::NotUtf8,
            };
            self.books.lose(loss, 1);
        }
        self.lay_out(bodies);
    }

    /// False if that was the last.
    fn do_job(&self, job: Job) -> bool {
        match job {
            Job::Seal { owner, held } => {
                // A fault in a rule or a pattern costs these bodies, and none after them.
                if catch_unwind(AssertUnwindSafe(|| self.seal(&owner, &held))).is_err() {
                    error!(call.id = %owner.call_id, "bodies of a call could not be looked through, and are not kept");
                    self.books.lose(BodyLoss::Failed, held.count());
                }
            }
            // Whoever asked may have no patience left.
            Job::Flush(done) => drop(done.try_send(())),
            Job::End => return false,
        }
        !self.ending.load(Ordering::Acquire)
    }

    fn work(&self, jobs: &Jobs) {
        self.work_to_the_end(jobs);
        for job in jobs.0.try_iter() {
            if let Job::Seal { held, .. } = job {
                self.books.lose(BodyLoss::QueueFull, held.count());
            }
        }
    }

    fn work_to_the_end(&self, jobs: &Jobs) {
        while let Ok(mut job) = jobs.0.recv() {
            loop {
                if !self.do_job(job) {
                    return;
                }
                job = match jobs.0.try_recv() {
                    Ok(next) => next,
                    Err(_) => {
                        sleep(REST);
                        let Ok(next) = jobs.0.try_recv() else { break };
                        next
                    }
                };
            }
        }
    }
}

/// The thread, running.
pub(crate) struct DeskHandle {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl DeskHandle {
    pub(crate) fn start(desk: Arc<Desk>, jobs: Jobs) -> io::Result<Self> {
        let own = Arc::clone(&desk);
        let thread = Builder::new().name("bodies".to_owned()).spawn(move || own.work(&jobs))?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Ends the thread behind what was handed over, or after [`PATIENCE`] without the rest of it.
    pub(crate) fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.desk.flush();
        self.stop();
        let deadline = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < deadline {
            sleep(Duration::from_millis(2));
        }
    }

    fn stop(&self) {
        self.desk.ending.store(true, Ordering::Release);
        // Without room for it there is enough to do that the thread sees the flag.
        drop(self.desk.jobs.try_send(Job::End));
    }
}

impl Drop for DeskHandle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}
