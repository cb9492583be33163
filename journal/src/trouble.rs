//! What an error of the SQLite file means, and what a person can do about it.

use rusqlite::{Error, ErrorCode};
use std::path::Path;

/// Whether a file that is being used has turned out to be damaged: it will not get better by waiting.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether a file cannot be opened because of what is in it. Our own statements on our own tables only fail
/// for reasons of the system or because the file no longer is what we made.
pub(crate) fn is_damage_at_open(error: &Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::Unknown
                | ErrorCode::TypeMismatch
                | ErrorCode::ConstraintViolation
        ),
        // A value of a kind that we never wrote.
        None => true,
    }
}

/// Whether a file that cannot be opened may be one that can be before long: nobody has to change the configuration for
/// that.
pub(crate) fn is_passing(error: &Error, file: &Path) -> bool {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked,
        ) => true,
        // So it says if a file beside it cannot be made, whatever for.
        Some(ErrorCode::CannotOpen) => is_volume_full(file),
        _ => false,
    }
}

fn is_volume_full(file: &Path) -> bool {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    let volume = rustix::fs::statvfs(directory.unwrap_or(Path::new(".")));
    // File systems that make inodes as they need them say that there are none.
    volume.is_ok_and(|volume| volume.f_bavail == 0 || volume.f_files > 0 && volume.f_favail == 0)
}

/// The error in words, with what helps against it.
pub(crate) fn advise(error: &Error, file: &Path) -> String {
    let file = file.display();
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("the volume of {file} is full: make room there"),
        Some(ErrorCode::SystemIoFailure) => {
            format!(
                "the disk under {file} fails or is full: look at the system's log, make room or replace it"
            )
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            format!("{file} cannot be written: check its owner, and how the volume is mounted")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another program has locked {file}: end it")
        }
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}
