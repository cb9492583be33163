//! `mcpmeter keys list`: the keys and what has become of them. Neither secrets nor hashes.

use super::{
    key_failure, now, open_store, print,
    show::{State, cells, to_json},
};
use crate::cli::{ConfigArgs, Failure, block_on};
use clap::Args;
use mcpmeter_journal::ApiKey;
use mcpmeter_observer::Timestamp;

const HEAD: [&str; 10] =
    ["ID", "STATE", "USER", "ORGANISATION", "NAME", "ROUTES", "TOOLS", "CREATED", "EXPIRES", "LAST USED"];

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also those that have expired or were revoked
    #[arg(long)]
    all: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(self) -> Result<(), Failure> {
        let store = open_store(&self.config.load()?)?;
        let mut keys = block_on(store.list())?.map_err(|error| key_failure(&error))?;
        let (now, count) = (now(), keys.len());
        keys.retain(|key| self.all || State::of(key, now).works());
        if self.json {
            let lines: Vec<_> = keys.iter().map(|key| to_json(key, now).to_string()).collect();
            return if lines.is_empty() { Ok(()) } else { print(&lines.join("\n")) };
        }
        if !keys.is_empty() {
            print(&table(&keys, now))?;
        }
        match (keys.len(), count - keys.len()) {
            (0, 0) => eprintln!("there is no key yet: `mcpmeter keys create --user ID` makes one"),
            (_, 0) => {}
            (_, hidden) => eprintln!("not shown: {hidden} expired or revoked (--all shows them)"),
        }
        Ok(())
    }
}

/// Columns as wide as what is in them.
fn table(keys: &[ApiKey], now: Timestamp) -> String {
    let rows: Vec<_> =
        [HEAD.map(str::to_owned)].into_iter().chain(keys.iter().map(|key| cells(key, now))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let line = |row: &[String; HEAD.len()]| {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        cells.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
