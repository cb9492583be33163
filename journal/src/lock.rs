//! One process per SQLite file: a second one is refused at the door instead of shipping the same records.
//!
//! The lock is the operating system's, on `<file>.lock`, and goes with the process however that ends. The file
//! itself stays: removing it would let a third process lock a file that a second still waits for.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Held as long as anything writes.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process (or another journal of this one) holds it.
    #[error("held by another process")]
    Held,
    /// The lock file cannot be made or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FileLock {
    /// Locks the SQLite file for this journal.
    pub(crate) fn take(sqlite_file: &Path) -> Result<Self, LockError> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(lock_path(sqlite_file))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// `<file>.lock`.
pub(crate) fn lock_path(sqlite_file: &Path) -> PathBuf {
    let mut path = OsString::from(sqlite_file);
    path.push(".lock");
    PathBuf::from(path)
}
