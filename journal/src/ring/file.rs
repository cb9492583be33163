//! The file behind the ring's memory: where it is, whose it is, and its first page.
//!
//! ```text
//! header = "mcpmring" | version (u32) | format of the records (u32) | bytes of a segment (u32) |
//!          segments (u32) | nonce (u64) | ring id (16 bytes) | CRC-32 of all that (u32)
//! ```
//!
//! Little-endian, in a page of its own. A file is used for one life of a process: made with all its blocks when
//! the journal is opened, found by the next process through the lock file's content, read, and deleted. Only where
//! the disk takes nothing of what was left in it, the next process goes on with the same file, so that there is never
//! more than one. What lies under that name but is not ours (another owner, a link, another size) is left alone.

use super::{
    frame::Seed,
    memory::{HEADER_BYTES, Memory, SEGMENT_BYTES},
    state::State,
};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use uuid::Uuid;

const MAGIC: &[u8; 8] = b"mcpmring";
const VERSION: u32 = 1;
const CRC_AT: usize = 48;

/// What the first page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: Uuid,
    /// The format of the records, as the outbox numbers them.
    pub(crate) format: u32,
    pub(crate) segments: usize,
    pub(crate) nonce: u64,
}

/// Why a file is not taken for a ring.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingFileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it belongs to somebody else, or is no plain file")]
    NotOurs,
    #[error("its header is damaged, or of another version")]
    BadHeader,
    #[error("another mcpmeter is using it; was its data directory copied?")]
    InUse,
}

impl Header {
    /// The header of a new ring.
    pub(crate) fn new(format: u32, segments: usize) -> Self {
        let (nonce, _) = Uuid::new_v4().as_u64_pair();
        Self { id: Uuid::new_v4(), format, segments, nonce }
    }

    /// What the CRCs of a segment's generation begin with.
    pub(crate) fn seed(&self, segment: usize, generation: u64) -> Seed {
        Seed::new(self.nonce, segment, generation)
    }

    fn to_bytes(self) -> [u8; CRC_AT + 4] {
        let mut bytes = [0; CRC_AT + 4];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.format.to_le_bytes());
        bytes[16..20].copy_from_slice(&(SEGMENT_BYTES as u32).to_le_bytes());
        // A ring of 2³² segments would be one of 128 TiB.
        bytes[20..24].copy_from_slice(&(self.segments as u32).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[32..48].copy_from_slice(self.id.as_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; CRC_AT + 4]) -> Option<Self> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Self {
            id: Uuid::from_slice(&bytes[32..48]).ok()?,
            format: number(12),
            segments: number(20) as usize,
            nonce: u64::from(number(24)) | u64::from(number(28)) << 32,
        };
        // Whatever else is wrong with it, it is not what we would have written.
        (header.to_bytes() == *bytes).then_some(header)
    }
}

/// Where a ring's file is.
pub(crate) fn path(directory: &Path, id: Uuid) -> PathBuf {
    directory.join(format!("mcpmeter-{id}.ring"))
}

/// Makes the file with all its blocks, so that no later write to its memory can find the volume full.
pub(crate) fn create(path: &Path, header: Header) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(no_follow());
    let file = options.open(path)?;
    // Held as long as the ring is: whoever finds its path in a copied lock file keeps away.
    file.try_lock().map_err(io::Error::from)?;
    let made = fallocate(&file, FallocateFlags::empty(), 0, Memory::bytes(header.segments) as u64)
        .map_err(io::Error::from)
        .and_then(|()| file.write_all_at(&header.to_bytes(), 0));
    match made {
        Ok(()) => Ok(file),
        Err(error) => {
            // Nobody knows of it yet; what cannot be deleted either is a small file in a directory in memory.
            drop(fs::remove_file(path));
            Err(error)
        }
    }
}

/// Opens the file that an earlier process left, to go on with it. It has to be whole and of this version's making.
pub(crate) fn take_over(path: &Path, format: u32) -> Result<(File, Header), RingFileError> {
    let left = LeftRing::open_with(path, OpenOptions::new().read(true).write(true))?;
    let LeftRing { file, header } = left.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let bytes = Memory::bytes(header.segments) as u64;
    if header.format != format || file.metadata()?.len() != bytes {
        return Err(RingFileError::BadHeader);
    }
    // Whoever has punched holes into it must not make us stumble over a full volume.
    fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from)?;
    Ok((file, header))
}

fn no_follow() -> i32 {
    // The flags of the C interface are ints.
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// The file that an earlier process left, for reading.
pub(crate) struct LeftRing {
    file: File,
    pub(crate) header: Header,
}

impl LeftRing {
    /// Opens the file; `None` if there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, RingFileError> {
        Self::open_with(path, OpenOptions::new().read(true))
    }

    fn open_with(path: &Path, options: &mut OpenOptions) -> Result<Option<Self>, RingFileError> {
        let file = match options.custom_flags(no_follow()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(RingFileError::NotOurs);
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RingFileError::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut bytes = [0; CRC_AT + 4];
        let header = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Header::from_bytes(&bytes).ok_or(RingFileError::BadHeader)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(RingFileError::BadHeader);
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Self { file, header }))
    }

    /// The segment's state and bytes (without those that a shorter file lacks).
    pub(crate) fn segment(&self, segment: usize) -> io::Result<(State, Vec<u8>)> {
        let at = (HEADER_BYTES + segment * SEGMENT_BYTES) as u64;
        let mut word = [0; 8];
        read_some_at(&self.file, &mut word, at)?;
        let state = State::from_word(u64::from_le_bytes(word));
        let mut bytes = vec![0; state.committed];
        let length = read_some_at(&self.file, &mut bytes, at)?;
        bytes.truncate(length);
        Ok((state, bytes))
    }
}

/// Fills the buffer as far as the file goes.
fn read_some_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_a_damaged_one_does_not() {
        let header = Header::new(7, 512);
        let bytes = header.to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Some(header));
        for place in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[place] ^= 4;
            assert_eq!(Header::from_bytes(&damaged), None, "byte {place}");
        }
    }

    #[test]
    fn neither_a_link_nor_a_directory_nor_rubbish_is_taken_for_a_ring() {
        let directory = tempfile::tempdir().unwrap();
        let [ring, link, rubbish] = ["ring", "link", "rubbish"].map(|name| directory.path().join(name));
        let held = create(&ring, Header::new(1, 2)).unwrap();
        assert!(matches!(LeftRing::open(&ring), Err(RingFileError::InUse)));
        drop(held);
        assert!(create(&ring, Header::new(1, 2)).is_err(), "what is there is never taken over");
        assert!(LeftRing::open(&ring).unwrap().is_some());
        std::os::unix::fs::symlink(&ring, &link).unwrap();
        assert!(LeftRing::open(&link).is_err());
        assert!(matches!(LeftRing::open(directory.path()), Err(RingFileError::NotOurs)));
        fs::write(&rubbish, "rubbish").unwrap();
        assert!(matches!(LeftRing::open(&rubbish), Err(RingFileError::BadHeader)));
        assert!(LeftRing::open(&directory.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn a_ring_for_which_there_is_no_room_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        // 64 TiB: more than any volume that tests run on.
        assert!(create(&path, Header::new(1, 1 << 31)).is_err());
        assert!(!path.exists());
    }
}
