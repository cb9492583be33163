//! The order of work (see the module above), and everything that can be said about what is left.

use super::{EraseError, EraseReport, Erasure, Manner, file::File, postgres::Database};
use crate::{
    chain::chain,
    inscribe::Target,
    lock::{FileLock, LockError, Noted, lock_path},
    postgres_url::PostgresUrl,
    recover,
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{task::spawn_blocking, time::sleep};
use uuid::Uuid;

/// The writer looks at the queue every tenth of a second; so long after, what was in it is in the file.
const QUEUE: Duration = Duration::from_secs(1);
/// How long what is on its way to PostgreSQL is waited for.
const ON_ITS_WAY: Duration = Duration::from_secs(20);
/// How often it is asked for.
const LOOK: Duration = Duration::from_millis(100);

/// Where calls may be.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The outbox, or the store where there is no PostgreSQL.
    pub file: Option<PathBuf>,
    /// Further SQLite files: of `mcpmeter stdio`, of an earlier configuration.
    pub others: Vec<PathBuf>,
    /// The database.
    pub postgres: Option<PostgresUrl>,
    /// Somebody has seen to the outboxes of other proxies: they are not left.
    pub elsewhere_done: bool,
}

/// A file, and whether a proxy writes it.
struct Site {
    file: File,
    is_written: bool,
}

/// Erases, everywhere in these places, or only counts. Returns what was done, or the first error; what was done before
/// that stays done, and the same again goes on. May take minutes, and never keeps a proxy from recording for more
/// than a moment.
pub async fn erase(erasure: &Erasure, places: &Places) -> Result<EraseReport, EraseError> {
    let mut report = EraseReport::default();
    let mut database = match &places.postgres {
        Some(url) => Some(Database::connect(url).await?),
        None => None,
    };
    let counting = erasure.manner == Manner::Count;
    let guard = match &database {
        Some(database) if !counting => Some(database.guard().await?),
        _ => None,
    };
    let target = if database.is_some() { Target::Outbox } else { Target::Store };
    let mut sites = Vec::new();
    for (path, is_first) in
        places.file.iter().map(|file| (file, true)).chain(places.others.iter().map(|file| (file, false)))
    {
        let (path, recovers) = (path.clone(), is_first && !counting);
        let site = spawn_blocking(move || Site::open(&path, recovers.then_some(target))).await??;
        sites.push(site.pass(erasure, &mut report).await?);
    }
    if let Some(database) = &mut database {
        database.pass(erasure, &mut report).await?;
    }
    if !counting {
        sites = again(erasure, sites, database.as_mut(), &mut report).await?;
    }
    let mut spools = Vec::new();
    for site in &sites {
        spools.extend(site.file.position()?.0);
        site.file.look_around(&mut report);
    }
    if let Some(database) = database {
        let others = database.other_outboxes(&spools).await?;
        if others > 0 && !places.elsewhere_done {
            tell_others(others, database.place(), &mut report);
        }
        if let Some(guard) = guard
            && !guard.holds().await
        {
            report.leave(
                database.place(),
                "the connection that kept days from being compressed was lost: a copy of a day may have been missed",
                "run the command again",
            );
        }
        if !counting {
            database.vacuum(&mut report).await?;
        }
        database.close();
    }
    Ok(report)
}

/// The second time, for what was between two places the first time; then the bytes.
async fn again(
    erasure: &Erasure,
    sites: Vec<Site>,
    database: Option<&mut Database>,
    report: &mut EraseReport,
) -> Result<Vec<Site>, EraseError> {
    let is_written = sites.iter().any(|site| site.is_written);
    if is_written {
        sleep(QUEUE).await;
        report.notes.push(
            "a proxy is running: calls that ended after the command began are recorded as ever, and bytes of calls \
             that are stored already stay in its queue in memory until that room is used again, or it ends"
                .to_owned(),
        );
    }
    let mut done = Vec::new();
    for site in sites {
        done.push(if site.is_written { site.pass(erasure, report).await? } else { site });
    }
    if let Some(database) = database {
        for site in done.iter().filter(|site| site.is_written) {
            let (spool_id, seq) = site.file.position()?;
            if !has_arrived(database, spool_id, seq).await? {
                report.leave(
                    site.file.place(),
                    "calls that were read from it before they were erased may still be on their way to PostgreSQL",
                    "run the command again when PostgreSQL has taken what waits (`mcpmeter doctor`)",
                );
            }
        }
        database.pass(erasure, report).await?;
    }
    let mut cleaned = Vec::new();
    for mut site in done {
        let mut own = EraseReport::default();
        let (site, own) = spawn_blocking(move || {
            site.file.clean(site.is_written, &mut own);
            (site, own)
        })
        .await?;
        report.left.extend(own.left);
        cleaned.push(site);
    }
    Ok(cleaned)
}

/// Waits until everything up to the number has been stored: what was read from the outbox before is among it.
async fn has_arrived(database: &Database, spool_id: Option<Uuid>, seq: i64) -> Result<bool, EraseError> {
    let Some(spool_id) = spool_id.filter(|_| seq > 0) else { return Ok(true) };
    let deadline = Instant::now() + ON_ITS_WAY;
    loop {
        // Who ships asks for the cursor, and so makes it, before reading anything.
        match database.cursor(spool_id).await? {
            Some(cursor) if cursor < seq => {}
            _ => return Ok(true),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
}

fn tell_others(others: u64, place: &str, report: &mut EraseReport) {
    let (proxies, outboxes) = if others == 1 {
        ("another proxy has", "its outbox")
    } else {
        ("other proxies have", "their outboxes")
    };
    let number = if others == 1 { String::new() } else { format!("{others} ") };
    report.leave(
        place,
        format!("{number}{proxies} stored calls here in the last 30 days: calls may wait in {outboxes}"),
        "run the same command on their machines, then once more here with --elsewhere-done",
    );
}

impl Site {
    /// Opens the file; calls in the queue of a killed proxy are written down first, if it is said for what.
    fn open(path: &std::path::Path, target: Option<Target>) -> Result<Self, EraseError> {
        let mut file = File::open(path)?;
        // Without a lock file nobody writes it, and none is made.
        let lock = lock_path(&file.path).exists().then(|| FileLock::take(&file.path));
        let is_written = matches!(lock, Some(Err(LockError::Held)));
        if let (Some(Ok(lock)), Some(target)) = (lock, target) {
            recover_queue(&mut file, &lock, target)?;
        }
        Ok(Self { file, is_written })
    }

    async fn pass(mut self, erasure: &Erasure, report: &mut EraseReport) -> Result<Self, EraseError> {
        let erasure = erasure.clone();
        let (rows, site) = spawn_blocking(move || (self.file.pass(&erasure), self)).await?;
        for (table, rows) in rows? {
            report.count(&site.file.place(), &table, rows);
        }
        Ok(site)
    }
}

/// As the next start would. What cannot be had now stays noted, and is told by `look_around`.
fn recover_queue(file: &mut File, lock: &FileLock, target: Target) -> Result<(), EraseError> {
    let noted = lock.noted().unwrap_or_default();
    if noted.is_empty() {
        return Ok(());
    }
    let recovered = recover::recover(&mut file.connection, &noted, target);
    let recovered = recovered.map_err(|source| EraseError::Sqlite { file: file.path.clone(), source })?;
    let emptied = recovered.emptied.iter().cloned().map(Noted::planned);
    let note = |queues: Vec<Noted>| {
        if let Err(error) = lock.note(&queues, true) {
            tracing::warn!(error = chain(&error), "cannot note in the lock file where queues are");
        }
    };
    // Killed in between, the next process must not take one that was deleted for one that has been lost.
    note(recovered.left.iter().cloned().chain(emptied).collect());
    recover::delete(&recovered.emptied);
    note(recovered.left);
    Ok(())
}
