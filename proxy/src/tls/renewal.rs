//! What is made from files and has to follow them: read again when they have changed and come to rest, or when told to.
//! What cannot be read changes nothing, and is told once in the log and as long as it lasts in the metrics.

use super::{TlsError, peer};
use crate::reload::{Stamp, stamp};
use arc_swap::ArcSwap;
use mcpmeter_journal::chain;
use rustls_pki_types::CertificateDer;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tracing::{error, info};

/// Files, and what is made from them.
pub(super) trait Source: PartialEq + Send + Sync {
    /// What they become.
    type Made: Send + Sync;

    /// Whose they are, as metrics and log lines say it.
    fn role(&self) -> &'static str;

    /// All files, the one that identifies them first.
    fn paths(&self) -> Vec<PathBuf>;

    /// Reads them.
    fn make(&self) -> Result<Fresh<Self::Made>, TlsError>;

    /// Whether they could be used.
    fn examine(&self) -> Result<(), TlsError> {
        self.make().map(|_| ())
    }
}

/// What files have become, and the certificate among them that is shown, if one is.
pub(super) type Fresh<T> = (Arc<T>, Option<CertificateDer<'static>>);

/// What was made from files last, and how the files were then.
pub(super) struct Renewable<S: Source> {
    in_force: ArcSwap<InForce<S::Made>>,
    record: Mutex<Record<S>>,
}

struct InForce<T> {
    made: Arc<T>,
    generation: u64,
}

struct Record<S> {
    files: S,
    /// The files as they were read last.
    read: Vec<Option<Stamp>>,
    /// The files as they were looked at last.
    seen: Vec<Option<Stamp>>,
    /// When the certificate in force expires.
    expires: Option<SystemTime>,
    /// Why what the files say now is not in force.
    refused: Option<String>,
}

/// How one of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// `proxy`, `admin` or `upstream`.
    pub(crate) role: &'static str,
    /// The certificate's file, or the one of the authorities where no certificate is shown.
    pub(crate) file: PathBuf,
    /// When the certificate in force expires.
    pub(crate) expires: Option<SystemTime>,
    /// The files have something else, which cannot be used.
    pub(crate) is_refused: bool,
}

impl<S: Source> Renewable<S> {
    pub(super) fn load(files: S) -> Result<Self, TlsError> {
        // Before they are read: a change in between is then noticed.
        let stamps = stamps(&files);
        let (made, shown) = files.make()?;
        let expires = tell_expiry(&files, shown.as_ref());
        Ok(Self {
            in_force: ArcSwap::from_pointee(InForce { made, generation: 0 }),
            record: Mutex::new(Record { files, read: stamps.clone(), seen: stamps, expires, refused: None }),
        })
    }

    /// What is in force now.
    pub(super) fn made(&self) -> Arc<S::Made> {
        Arc::clone(&self.in_force.load().made)
    }

    /// How often it has been exchanged.
    pub(super) fn generation(&self) -> u64 {
        self.in_force.load().generation
    }

    /// Other files from the next reading on.
    pub(super) fn change_files(&self, change: impl FnOnce(&S) -> S) {
        let mut record = self.record();
        let files = change(&record.files);
        if files != record.files {
            record.files = files;
            record.read.clear();
        }
    }

    fn record(&self) -> MutexGuard<'_, Record<S>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, record: &mut Record<S>) {
        record.read = stamps(&record.files);
        record.seen.clone_from(&record.read);
        let (role, file) = (record.files.role(), first_path(&record.files));
        match record.files.make() {
            Ok((made, shown)) => {
                record.expires = tell_expiry(&record.files, shown.as_ref());
                record.refused = None;
                let generation = self.in_force.load().generation + 1;
                self.in_force.store(Arc::new(InForce { made, generation }));
                info!(role, file, "certificates read again");
            }
            Err(problem) => {
                let problem = chain(&problem);
                // It is tried again every second.
                if record.refused.as_ref() != Some(&problem) {
                    error!(role, file, problem, "the old certificate stays in force");
                }
                record.refused = Some(problem);
            }
        }
    }
}

/// What can be told to follow its files, whatever is made from them.
pub(super) trait Renew: Send + Sync {
    /// Reads the files again if they have changed and are at rest, or could not be used the last time.
    fn renew_if_changed(&self);

    /// Reads the files again if they have changed or could not be used the last time.
    fn renew(&self);

    /// How it is; nothing if there are no files.
    fn state(&self) -> Option<State>;
}

impl<S: Source> Renew for Renewable<S> {
    fn renew_if_changed(&self) {
        let mut record = self.record();
        let now = stamps(&record.files);
        // Certificate and key are written one after the other: both have to be there before either is read.
        let is_at_rest = now == record.seen;
        let is_wanted = now != record.read || record.refused.is_some();
        record.seen = now;
        if is_at_rest && is_wanted {
            self.read(&mut record);
        }
    }

    fn renew(&self) {
        let mut record = self.record();
        // What went wrong before is told again to whoever asks.
        if record.refused.take().is_some() || stamps(&record.files) != record.read {
            self.read(&mut record);
        }
    }

    fn state(&self) -> Option<State> {
        let record = self.record();
        let file = record.files.paths().into_iter().next()?;
        let (role, is_refused) = (record.files.role(), record.refused.is_some());
        Some(State { role, file, expires: record.expires, is_refused })
    }
}

fn stamps(files: &impl Source) -> Vec<Option<Stamp>> {
    files.paths().iter().map(|path| stamp(path)).collect()
}

fn first_path(files: &impl Source) -> String {
    files.paths().first().map(|path| path.display().to_string()).unwrap_or_default()
}

/// When a certificate expires. One that has is used all the same: its owner may know, and the old one is no better.
fn tell_expiry(files: &impl Source, shown: Option<&CertificateDer<'_>>) -> Option<SystemTime> {
    let expires = shown.and_then(peer::expiry)?;
    if expires < SystemTime::now() {
        error!(role = files.role(), file = first_path(files), "the certificate has expired: renew it");
    }
    Some(expires)
}
