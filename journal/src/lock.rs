//! One process per SQLite file: a second one is refused at the door instead of shipping the same records.
//!
//! The lock is the operating system's, on `<file>.lock`, and goes with the process however that ends. The file
//! itself stays: removing it would let a third process lock a file that a second still waits for. Its content
//! is the path of the queue's file (`ring`), so that this is found even if the SQLite file is lost.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

/// How much of the content is read: a hundred paths and more.
const LONGEST: u64 = 64 << 10;

/// Held as long as anything writes.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
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
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(lock_path(sqlite_file))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The paths that were noted last; none if none ever were.
    pub(crate) fn noted(&self) -> io::Result<Vec<PathBuf>> {
        let mut bytes = Vec::new();
        (&self.file).take(LONGEST).read_to_end(&mut bytes)?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| PathBuf::from(OsStr::from_bytes(line))).collect())
    }

    /// Notes paths for the next process. Needs no sync: what they lead to does not outlive the system either.
    pub(crate) fn note(&self, paths: &[PathBuf]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for path in paths {
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(b'\n');
        }
        // Written over the old, then cut: at no moment is a path missing that both have.
        self.file.write_all_at(&bytes, 0)?;
        self.file.set_len(bytes.len() as u64)
    }
}

/// `<file>.lock`.
pub(crate) fn lock_path(sqlite_file: &Path) -> PathBuf {
    let mut path = OsString::from(sqlite_file);
    path.push(".lock");
    PathBuf::from(path)
}
