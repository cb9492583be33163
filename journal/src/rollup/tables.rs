//! The rollup tables: which there are, and their columns, in the order in which everything here reads and
//! writes them. `schema.sql` makes them in PostgreSQL (a test compares), [`sqlite_tables`] in SQLite.
//!
//! A cell whose `kept_at` is absent follows its rows: it is made anew whenever one of them changes. When
//! retention is about to delete the rows, `keep` sets `kept_at`, and nobody ever changes the cell again.
//! Calls of that bucket that are stored later have a cell of their own beside it; readers add them up.

use super::{bucket::Span, leaving};
use crate::columns::TABLE;
use mcpmeter_observer::Status;

/// What a table tells apart within a bucket of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Instances and their tools: for charts and tables of what is called.
    Tool,
    /// Organisations, users and their keys: for the bill.
    Usage,
}

/// One of the things that cells are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// `mcp_server_instance_id`, of [`Subject::Tool`].
    Instance,
    /// `tool_name`, of [`Subject::Tool`]; absent for a list of tools.
    Tool,
    /// `organization_id`, of [`Subject::Usage`].
    Organization,
    /// `user_id`, of [`Subject::Usage`].
    User,
    /// `api_key_id`, of [`Subject::Usage`].
    Key,
}

impl Subject {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tool, Self::Usage];

    /// The dimensions, in the order of the columns.
    pub const fn dimensions(self) -> &'static [Dimension] {
        match self {
            Self::Tool => &[Dimension::Instance, Dimension::Tool],
            Self::Usage => &[Dimension::Organization, Dimension::User, Dimension::Key],
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Usage => "usage",
        }
    }

    /// The columns of the dimensions, separated by commas.
    pub(super) fn keys(self) -> String {
        join(self.dimensions().iter().map(|dimension| dimension.column().to_owned()))
    }
}

impl Dimension {
    /// The column, here and in the log.
    pub const fn column(self) -> &'static str {
        match self {
            Self::Instance => "mcp_server_instance_id",
            Self::Tool => "tool_name",
            Self::Organization => "organization_id",
            Self::User => "user_id",
            Self::Key => "api_key_id",
        }
    }
}

/// The table's name, in SQLite as it stands, in PostgreSQL within the schema `mcpmeter`.
pub(super) fn name(span: Span, subject: Subject) -> String {
    format!("rollup_{}_{}", span.as_str(), subject.as_str())
}

/// The columns of numbers that are simply added up, in order: counts, then sums.
pub(super) fn whole_numbers() -> impl Iterator<Item = &'static str> {
    ["calls"].into_iter().chain(Status::ALL.iter().map(|status| status.as_str())).chain([
        "input_bytes",
        "output_bytes",
        "cpu_calls",
    ])
}

/// Their like with a fraction, which follow.
pub(super) const FRACTIONS: [&str; 2] = ["cpu_ms", "duration_ms"];
/// The histogram, at the end.
pub(super) const ARRAYS: [&str; 2] = ["latency_buckets", "latency_counts"];

/// Everything but bucket, dimensions and `kept_at`, separated by commas.
pub(super) fn measures() -> String {
    join(whole_numbers().chain(FRACTIONS).chain(ARRAYS).map(str::to_owned))
}

/// All columns, separated by commas, in the order in which they are read and written.
pub(super) fn columns(subject: Subject) -> String {
    format!("bucket_start, kept_at, {}, {}", subject.keys(), measures())
}

pub(super) fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// The SQLite tables, and a mark on every bucket of a store that was filled before there were rollups.
///
/// The marks are found by jumping from bucket to bucket through the primary key, not by reading the rows.
pub(crate) fn sqlite_tables() -> String {
    let mut sql = String::from(
        "create table if not exists rollup_dirty (
           bucket_start integer primary key, version integer not null, marked_at integer not null) strict;\n",
    );
    for (span, subject) in Span::ALL.into_iter().flat_map(|span| Subject::ALL.map(|subject| (span, subject)))
    {
        let name = name(span, subject);
        let keys = join(subject.dimensions().iter().map(|key| format!("{} text", key.column())));
        let numbers = join(whole_numbers().map(|column| format!("{column} integer not null")));
        let fractions = join(FRACTIONS.iter().map(|column| format!("{column} real not null")));
        let arrays = join(ARRAYS.iter().map(|column| format!("{column} text not null")));
        sql += &format!(
            "create table if not exists {name} (bucket_start integer not null, kept_at integer, {keys}, {numbers},
               {fractions}, {arrays}) strict;
             create index if not exists {name}_bucket on {name} (bucket_start);\n"
        );
    }
    sql + &leaving::tables() + &marks_for_old_rows()
}

/// Marks every bucket that has rows, once in the life of a file.
fn marks_for_old_rows() -> String {
    let span = Span::FiveMinutes.us();
    // `%` has the sign of its left side; the calls before 1970 of a wrong clock belong somewhere too.
    let start = format!("min(created_at) - ((min(created_at) % {span}) + {span}) % {span}");
    format!(
        "insert into rollup_dirty (bucket_start, version, marked_at)
           with recursive bucket (start) as (
             select {start} from {TABLE} where not exists (select 1 from meta where key = 'rollups')
             union all
             select (select {start} from {TABLE} where created_at >= bucket.start + {span})
             from bucket where bucket.start is not null)
           select start, 1, 0 from bucket where start is not null;
         insert or ignore into meta (key, value) values ('rollups', x'01');"
    )
}
