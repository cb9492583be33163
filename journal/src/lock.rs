//! One process per SQLite file: a second one is refused at the door instead of shipping the same records.
//!
//! The lock is the operating system's, on `<file>.lock`, and goes with the process however that ends. The file
//! itself stays: removing it would let a third process lock a file that a second still waits for.
//!
//! Its content is where the queue's file (`ring`) is, a path to a line, so that this is found even if the SQLite file
//! is lost. It says so until an orderly end: a path that leads nowhere at the next start is a queue that has gone with
//! the calls in it. A path behind a question mark is of a queue that was about to be made; that it is not there means
//! nothing. A line that begins with `#` says that the SQLite file has held its tables: if it is empty one day, then it
//! has lost them.
//!
//! What is noted is synced. A queue in memory does not outlive the system, and one on a disk does; of either the next
//! start has to know after a power cut.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use tracing::warn;

/// How much of the content is read: a hundred paths and more.
const LONGEST: usize = 64 << 10;
/// The content never gets shorter than this, so that a volume that is full later has room for another path.
const LEAST: usize = 1 << 10;
/// The line of a SQLite file that has held its tables.
const HELD: &[u8] = b"# the file has held its tables";

/// Held as long as anything writes.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

/// Where a queue's file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) path: PathBuf,
    /// Whether there certainly was a queue; otherwise it was about to be made.
    pub(crate) made: bool,
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
        // Best effort: where directories cannot be synced there is nothing to be done about it.
        drop(File::open(directory_of(sqlite_file)).and_then(|directory| directory.sync_all()));
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Whether an earlier process has had the SQLite file with its tables in it.
    pub(crate) fn has_held(&self) -> io::Result<bool> {
        Ok(self.read()?.split(|byte| *byte == b'\n').any(|line| line == HELD))
    }

    /// What was noted last; nothing if nothing ever was, or if the last process came to an orderly end.
    pub(crate) fn noted(&self) -> io::Result<Vec<Noted>> {
        Ok(parse(&self.read()?))
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; LONGEST];
        let length = self.file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Notes queues for the next process, and whether the SQLite file has held its tables. Durable on return.
    pub(crate) fn note(&self, queues: &[Noted], held: bool) -> io::Result<()> {
        let mut bytes = if held { [HELD, b"\n"].concat() } else { Vec::new() };
        for Noted { path, made } in queues {
            bytes.extend_from_slice(if *made { b"" } else { b"?" });
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(b'\n');
        }
        // Empty lines over whatever stood there: one write, so that no kill leaves a part of a path, and the file
        // keeps the room that it has.
        let before = usize::try_from(self.file.metadata()?.len()).unwrap_or(LONGEST).min(LONGEST);
        bytes.resize(bytes.len().max(before).max(LEAST), b'\n');
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_data()
    }
}

impl Noted {
    /// A queue that certainly is there.
    pub(crate) const fn made(path: PathBuf) -> Self {
        Self { path, made: true }
    }

    /// A queue that is to be made, or one that is empty and is to be deleted: that it is not there means nothing.
    pub(crate) const fn planned(path: PathBuf) -> Self {
        Self { path, made: false }
    }
}

/// What the next process is to know; tried again as long as a full volume does not take it.
pub(crate) struct Notebook {
    lock: Arc<FileLock>,
    queues: Vec<Noted>,
    /// The SQLite file has held its tables.
    held: bool,
    is_written: bool,
}

impl Notebook {
    pub(crate) const fn new(lock: Arc<FileLock>, held: bool) -> Self {
        Self { lock, queues: Vec::new(), held, is_written: true }
    }

    /// From now on the SQLite file has held its tables; to be noted with the next queues.
    pub(crate) const fn hold(&mut self) {
        self.held = true;
    }

    /// Notes these queues instead of those before.
    pub(crate) fn note(&mut self, queues: Vec<Noted>) {
        self.queues = queues;
        let result = self.lock.note(&self.queues, self.held);
        self.is_written = result.is_ok();
        if let Err(error) = result {
            warn!(
                %error,
                "cannot note in the lock file where the queue is: until that works, a kill loses what is in it"
            );
        }
    }

    /// Tries again what did not work.
    pub(crate) fn try_again(&mut self) {
        self.is_written = self.is_written || self.lock.note(&self.queues, self.held).is_ok();
    }
}

/// What the lock file of this SQLite file says, for whoever only looks.
pub(crate) fn read_noted(sqlite_file: &Path) -> Vec<Noted> {
    parse(&fs::read(lock_path(sqlite_file)).unwrap_or_default())
}

fn parse(bytes: &[u8]) -> Vec<Noted> {
    // Paths are absolute.
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let note = |line: &[u8]| {
        let planned = line.strip_prefix(b"?");
        Noted { path: OsStr::from_bytes(planned.unwrap_or(line)).into(), made: planned.is_none() }
    };
    lines.map(note).collect()
}

/// The file's one name, however it was spelled and whatever links lead to it: two spellings are one file, and have
/// one lock. It need not be there, but its directory does.
pub(crate) fn real_path(file: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let directory = directory_of(file);
    match (fs::read_link(file), file.file_name()) {
        // A link to where the file is going to be.
        (Ok(target), _) => real_path(&directory.join(target)),
        (Err(_), Some(name)) => Ok(fs::canonicalize(directory)?.join(name)),
        (Err(_), None) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no file name")),
    }
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `<file>.lock`.
pub(crate) fn lock_path(sqlite_file: &Path) -> PathBuf {
    let mut path = OsString::from(sqlite_file);
    path.push(".lock");
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_noted_is_read_and_an_empty_note_keeps_its_room() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.db");
        let lock = FileLock::take(&file).unwrap();
        assert_eq!(lock.noted().unwrap(), []);
        let made = Noted { path: "/dev/shm/a.ring".into(), made: true };
        let planned = Noted { path: "/dev/shm/a much longer name.ring".into(), made: false };
        for noted in [&[made.clone(), planned.clone()][..], &[planned], &[made], &[]] {
            for held in [false, true] {
                lock.note(noted, held).unwrap();
                assert_eq!((&*lock.noted().unwrap(), &*read_noted(&file)), (noted, noted));
                assert_eq!(lock.has_held().unwrap(), held);
                assert_eq!(fs::metadata(lock_path(&file)).unwrap().len(), LEAST as u64);
            }
        }
    }

    #[test]
    fn a_file_has_one_name_however_it_is_spelled() {
        let directory = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(folder.join("data")).unwrap();
        symlink(folder.join("data"), folder.join("link")).unwrap();
        symlink("data/journal.db", folder.join("alias.db")).unwrap();
        let name = folder.join("data/journal.db");
        for _ in 0..2 {
            for spelling in ["data/journal.db", "data/../link/./journal.db", "alias.db"] {
                assert_eq!(real_path(&folder.join(spelling)).unwrap(), name, "{spelling}");
            }
            // The same once it is there.
            fs::write(&name, "").unwrap();
        }
        assert!(real_path(&folder.join("nowhere/journal.db")).is_err());
    }
}
