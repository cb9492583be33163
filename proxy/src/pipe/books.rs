//! The store of one `mcpmeter stdio`, kept by a thread of its own, so that neither its opening nor its upkeep is ever in
//! the way of a message. Many such programs run at once and a file has one owner, so each takes the first free one of
//! `stdio-NAME.db`, `stdio-NAME-2.db`, …
//!
//! A store that cannot be opened is said on stderr, and then there are no records: never no server.

use super::recorder::Recorder;
use crate::{app, bodies, lifecycle::Stopping, tasks::Tasks};
use mcpmeter_config::Config;
use mcpmeter_journal::{self as journal, Journal, OpenError, Opened, chain};
use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};
use tracing::{info, warn};

/// Files that are tried. Whoever runs more of one server at once goes without records, and is told so.
const MAX_FILES: u32 = 200;
/// How long the end goes on shipping to PostgreSQL at most. Clients kill a program that takes 2 s to end, and what is left
/// waits in the outbox.
const MAX_FLUSH: Duration = Duration::from_secs(1);
/// How long the end waits for the thread: for a file that is just being opened, and for the last transaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where records are handed over: empty until it is known whether there is a store.
pub(crate) type Desk = Arc<OnceLock<Option<Journal>>>;

/// The thread that keeps the books.
pub(crate) struct Books {
    desk: Desk,
    stopping: Stopping,
    /// Told when the desk is open.
    opened: Receiver<()>,
    /// Never told anything: it breaks off when the thread has ended.
    ended: Receiver<()>,
}

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
enum BooksError {
    #[error("cannot make the folder {}", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Url(#[from] journal::BadPostgresUrl),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot start a runtime")]
    Runtime(#[from] io::Error),
}

impl Books {
    /// Begins to open the store. `folder` is made first, if it is given.
    pub(crate) fn open(config: Config, folder: Option<PathBuf>) -> Self {
        let (desk, stopping) = (Desk::default(), Stopping::default());
        let ((tell_open, opened), (tell_end, ended)) = (channel(), channel());
        let (own_desk, stop) = (Arc::clone(&desk), stopping.clone());
        let work = move || {
            let kept = keep(&config, folder.as_deref(), &own_desk, &stop, &tell_open);
            if let Err(error) = kept {
                warn!(error = chain(&error), "calls are not recorded");
            }
            // Where there is no journal now, there will be none.
            own_desk.get_or_init(|| None);
            drop(tell_end);
        };
        if let Err(error) = thread::Builder::new().name("books".to_owned()).spawn(work) {
            warn!(%error, "calls are not recorded");
            desk.get_or_init(|| None);
        }
        Self { desk, stopping, opened, ended }
    }

    pub(crate) fn desk(&self) -> Desk {
        Arc::clone(&self.desk)
    }

    /// Waits until everything is written down, or for too long.
    pub(crate) fn close(self, recorder: &Recorder) {
        if self.desk.get().is_none() && self.opened.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            return warn!("the store took too long to open: calls of this run are not recorded");
        }
        recorder.end_expired();
        self.stopping.drain();
        if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            warn!("the store took too long to close: the next run goes on with what is left");
        }
    }
}

fn keep(
    config: &Config,
    folder: Option<&Path>,
    desk: &Desk,
    stop: &Stopping,
    opened: &Sender<()>,
) -> Result<(), BooksError> {
    if let Some(folder) = folder {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| BooksError::Folder(folder.to_owned(), error))?;
    }
    let options = app::journal_options(config)?;
    let (Opened { journal, writer, shipper, keeper }, file) = open_first_free(&options)?;
    let place = if options.postgres.is_some() { "PostgreSQL, by way of the file" } else { "the file" };
    info!(file = %file.display(), "recording calls in {place}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    journal.seal_bodies_with(bodies::keys(&config.record));
    desk.get_or_init(|| Some(journal));
    // Nobody may be waiting.
    let _ = opened.send(());
    runtime.block_on(async {
        let (control, shipping) = (Tasks::default(), Stopping::default());
        let flush = Duration::from_millis(config.store.flush_timeout_ms).min(MAX_FLUSH);
        let keeping = shipping.clone();
        control.spawn(async move { Box::pin(keeper.run(keeping.drained())).await });
        if let Some(shipper) = shipper {
            let shipping = shipping.clone();
            control.spawn(async move { Box::pin(shipper.run(shipping.drained(), flush)).await });
        }
        stop.drained().await;
        app::finish_records(writer, &shipping, &control, flush).await;
    });
    runtime.shutdown_background();
    Ok(())
}

/// Opens the first file of its name that no other program has.
fn open_first_free(options: &journal::Options) -> Result<(Opened, PathBuf), OpenError> {
    let mut number = 1;
    loop {
        let file = numbered(&options.sqlite_file, number);
        let options = journal::Options { sqlite_file: file.clone(), ..options.clone() };
        match journal::open(options, Box::new(|_| {})) {
            Ok(opened) => return Ok((opened, file)),
            Err(OpenError::InUse { .. }) if number < MAX_FILES => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// `a.db`, `a-2.db`, `a-3.db` …
fn numbered(file: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return file.to_owned();
    }
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let stem = text(file.file_stem());
    match file.extension() {
        Some(extension) => file.with_file_name(format!("{stem}-{number}.{}", text(Some(extension)))),
        None => file.with_file_name(format!("{stem}-{number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_file_is_named_after_the_first() {
        let name = |file: &str, number| numbered(Path::new(file), number).display().to_string();
        assert_eq!(name("/x/stdio-a.db", 1), "/x/stdio-a.db");
        assert_eq!(name("/x/stdio-a.db", 2), "/x/stdio-a-2.db");
        assert_eq!(name("/x/a.b.db", 13), "/x/a.b-13.db");
        assert_eq!(name("calls", 3), "calls-3");
    }
}
