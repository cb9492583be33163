//! `mcpmeter calls`: past calls from the store, newest first.

use super::{
    ConfigArgs, Failure, block_on,
    filter::{FilterArgs, parse_instant},
    line,
};
use clap::Args;
use mcpmeter_config::{Config, StoreUrl};
use mcpmeter_journal::{CallFilter, Cursor, PostgresUrl, ReadError, Reader, Row};
use std::io::{self, Write, stdout};

/// Rows fetched at a time.
const PAGE: u32 = 500;

/// Reads the store directly, so the proxy need not run.
#[derive(Debug, Args)]
pub(crate) struct Calls {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only calls since then: an age (10m, 2h, 7d) or a time (2026-11-22T14:00:00Z)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only calls before then
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Continue behind the call where an earlier page ended: the cursor it printed
    #[arg(long, value_name = "CURSOR")]
    before: Option<Cursor>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Calls {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let reader = open_reader(&self.config.load()?)?;
        let mut filter = self.filter.to_filter();
        filter.since = self.since.as_deref().map(parse_instant).transpose()?;
        filter.until = self.until.as_deref().map(parse_instant).transpose()?;
        block_on(self.print(&reader, &filter))?
    }

    async fn print(&self, reader: &Reader, filter: &CallFilter) -> Result<(), Failure> {
        let (mut before, mut left) = (self.before, self.limit);
        while left > 0 {
            let rows =
                reader.calls(filter, before, left.min(PAGE)).await.map_err(|error| read_failure(&error))?;
            let Some(last) = rows.last() else { return Ok(()) };
            before = last.cursor();
            left = left.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            match self.write(&rows) {
                // `mcpmeter calls | head` is no failure.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(|error| Failure::failed("cannot print", &error))?,
            }
        }
        if let Some(cursor) = before.filter(|_| self.limit > 0) {
            eprintln!("… more may follow: --before {cursor}");
        }
        Ok(())
    }

    fn write(&self, rows: &[Row]) -> io::Result<()> {
        let style = line::Style::for_stream(&stdout());
        let mut out = stdout().lock();
        for row in rows {
            if self.json {
                serde_json::to_writer(&mut out, row)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", line::render(&serde_json::to_value(row)?, style))?;
            }
        }
        out.flush()
    }
}

pub(super) fn open_reader(config: &Config) -> Result<Reader, Failure> {
    match &config.store.url {
        StoreUrl::Sqlite(file) if !file.exists() => Err(Failure::usage(&format!(
            "{} does not exist: no call has been stored there yet",
            file.display()
        ))),
        StoreUrl::Sqlite(file) => Reader::sqlite(file).map_err(|error| read_failure(&error)),
        StoreUrl::Postgres(url) => {
            let url: PostgresUrl =
                url.expose().parse().map_err(|error| Failure::failed("cannot use store.url", &error))?;
            Reader::postgres(&url).map_err(|error| read_failure(&error))
        }
    }
}

pub(super) fn read_failure(error: &ReadError) -> Failure {
    if matches!(error, ReadError::Connect(_)) {
        Failure::unreachable("cannot read the store", error)
    } else {
        Failure::failed("cannot read the store", error)
    }
}
