//! The journal's SQLite file as the writer has it: opened, and replaced when it turns out to be damaged.

use crate::{
    chain::chain,
    corrupt::{self, Identity, Salvage},
    sqlite::{self, SqliteError},
};
use rusqlite::{Connection, Transaction};
use std::{fs, io, path::Path};

/// A shorter file is an empty one to SQLite: the smallest page.
const LEAST_BYTES: u64 = 512;

/// An open file, and what became of the one before it.
pub(crate) struct Fresh {
    pub(crate) connection: Connection,
    /// Set if the file that lay there before was damaged.
    pub(crate) salvage: Option<Salvage>,
}

/// Why there is no file to write to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Open(#[from] SqliteError),
    #[error("it is damaged, and cannot be set aside")]
    SetAside(#[from] io::Error),
}

/// What else is to be in a new file before it takes the place of a damaged one: what was lost with that, because from
/// then on nobody could tell.
pub(crate) type Note<'a> = dyn FnMut(&Transaction<'_>, &Salvage) -> rusqlite::Result<()> + 'a;

/// Opens the file; one that is damaged is set aside. `held` tells that it has held its tables, so that it cannot be
/// empty.
pub(crate) fn open(path: &Path, held: bool, note: &mut Note<'_>) -> Result<Fresh, FileError> {
    corrupt::finish_replacement(path)?;
    let metadata = fs::metadata(path);
    if metadata.as_ref().is_ok_and(fs::Metadata::is_dir) {
        let error = io::Error::new(io::ErrorKind::IsADirectory, "there is a directory in its place");
        return Err(FileError::SetAside(error));
    }
    if held && metadata.is_ok_and(|metadata| metadata.len() < LEAST_BYTES) {
        return replace(path, "it is empty", None, 0, note);
    }
    match open_whole(path) {
        Ok(connection) => Ok(Fresh { connection, salvage: None }),
        Err(error) if error.is_damage() => replace(path, &chain(&error), None, 0, note),
        Err(error) => Err(error.into()),
    }
}

/// Sets the file aside, begins a new one, and takes over what can be read, of the outbox what lies above `after`.
pub(crate) fn replace(
    path: &Path,
    reason: &str,
    known: Option<Identity>,
    after: i64,
    note: &mut Note<'_>,
) -> Result<Fresh, FileError> {
    let fresh = corrupt::fresh_path(path);
    corrupt::remove(&fresh)?;
    let mut connection = open_whole(&fresh)?;
    let salvage = corrupt::salvage(path, &mut connection, known, after).map_err(SqliteError::from)?;
    let noted = connection.transaction().and_then(|transaction| {
        note(&transaction, &salvage)?;
        transaction.commit()
    });
    noted.map_err(SqliteError::from)?;
    // Closing it folds its log into it: one file is to be renamed.
    connection.close().map_err(|(_, error)| SqliteError::from(error))?;
    let aside = corrupt::set_aside(path)?;
    fs::rename(&fresh, path)?;
    corrupt::tell(&aside, reason, &salvage);
    Ok(Fresh { connection: open_whole(path)?, salvage: Some(salvage) })
}

/// Opens or makes the file, and looks whether the parts are there that everything else needs.
fn open_whole(path: &Path) -> Result<Connection, SqliteError> {
    let mut connection = sqlite::open_writer(path)?;
    sqlite::spool_id(&mut connection)?;
    crate::outbox::survey(&connection)?;
    crate::store::is_used(&connection)?;
    Ok(connection)
}
