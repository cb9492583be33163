//! Reads rollups, and rows to roll up, from SQLite.

use super::{
    bucket::Span,
    histogram::Histogram,
    leaving::{self, leaving_sqlite},
    query::{Answer, Rollup, RollupQuery, Step},
    sums::{Call, Sums},
    tables::{self, ARRAYS, FRACTIONS, Subject, join, whole_numbers},
};
use crate::columns::TABLE;
use mcpmeter_observer::Timestamp;
use rusqlite::{Connection, Params, Row, params_from_iter, types::Type};

/// Answers the question from one snapshot.
pub(crate) fn ask(connection: &mut Connection, query: &RollupQuery) -> rusqlite::Result<Rollup> {
    // Reads only; dropped, it ends.
    let snapshot = connection.transaction()?;
    let range = query.range();
    let dirty = snapshot
        .prepare_cached(
            "select bucket_start from rollup_dirty where bucket_start >= ?1 and bucket_start < ?2 order by 1",
        )?
        .query_map((range.start.0, range.end.0), |row| Ok(Timestamp(row.get(0)?)))?
        .collect::<Result<_, _>>()?;
    let leaving = leaving_sqlite(&snapshot)?;
    let mut answer = Answer::new(query, dirty);
    for step in answer.steps() {
        match step {
            Step::Cells(span, range) => {
                let conditions = query.conditions("bucket_start", &range);
                let parameters = params_from_iter(conditions.parameters.iter().map(|(value, _)| value));
                let table = tables::name(span, query.subject);
                let select = cells(&table, query.subject, query.latency, &conditions.text);
                let (subject, latency) = (query.subject, query.latency);
                read_cells(&snapshot, &select, subject, latency, parameters, |start, kept, values, sums| {
                    answer.add_cell(span, start, kept, values, sums);
                })?;
            }
            Step::Rows(starts) => {
                for start in starts {
                    let range = start..Span::FiveMinutes.end_of(start);
                    let conditions = query.conditions("created_at", &range);
                    let parameters = params_from_iter(conditions.parameters.iter().map(|(value, _)| value));
                    let condition = conditions.text + &leaving::counted(leaving, start);
                    read_rows(&snapshot, &condition, parameters, |row| {
                        answer.group(start, &row.values(query.subject)).count(row.call);
                    })?;
                }
            }
        }
    }
    Ok(answer.finish())
}

/// What a row says that a cell wants to know, of every subject.
pub(super) struct RowRead<'a> {
    keys: [Option<&'a str>; 5],
    pub(super) call: Call<'a>,
}

impl<'a> RowRead<'a> {
    /// The values of the subject's dimensions.
    pub(super) fn values(&self, subject: Subject) -> Vec<Option<&'a str>> {
        let [instance, tool, organization, user, key] = self.keys;
        match subject {
            Subject::Tool => vec![instance, tool],
            Subject::Usage => vec![organization, user, key],
        }
    }
}

/// Shows every row (of the table `log`) that meets the condition.
pub(super) fn read_rows(
    connection: &Connection,
    condition: &str,
    parameters: impl Params,
    mut see: impl FnMut(RowRead<'_>),
) -> rusqlite::Result<()> {
    let keys = join(Subject::ALL.into_iter().map(Subject::keys));
    let mut select = connection.prepare_cached(&format!(
        "select {keys}, status, input_bytes, output_bytes, cpu_ms, duration_ms, latency_bucket
         from {TABLE} as log where {condition}"
    ))?;
    let mut rows = select.query(parameters)?;
    while let Some(row) = rows.next()? {
        see(RowRead {
            keys: [text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?, text(row, 4)?],
            call: Call {
                status: text(row, 5)?.unwrap_or_default(),
                input_bytes: row.get(6)?,
                output_bytes: row.get(7)?,
                cpu_ms: row.get(8)?,
                duration_ms: row.get(9)?,
                latency_bucket: row.get(10)?,
            },
        });
    }
    Ok(())
}

/// Shows every cell that a statement of [`cells`] gives: bucket, whether it is kept, dimensions, sums.
pub(super) fn read_cells(
    connection: &Connection,
    select: &str,
    subject: Subject,
    latency: bool,
    parameters: impl Params,
    mut see: impl FnMut(Timestamp, bool, &[Option<&str>], &Sums),
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(select)?;
    let keys = subject.dimensions().len();
    let mut rows = select.query(parameters)?;
    while let Some(row) = rows.next()? {
        let values = (2..2 + keys).map(|place| text(row, place)).collect::<Result<Vec<_>, _>>()?;
        see(Timestamp(row.get(0)?), row.get(1)?, &values, &sums(row, 2 + keys, latency)?);
    }
    Ok(())
}

/// The statement that reads cells, the same for either store.
pub(super) fn cells(table: &str, subject: Subject, latency: bool, condition: &str) -> String {
    let arrays: &[&str] = if latency { &ARRAYS } else { &[] };
    let measures = whole_numbers().chain(FRACTIONS).chain(arrays.iter().copied());
    let (keys, measures) = (subject.keys(), join(measures.map(str::to_owned)));
    format!("select bucket_start, kept_at is not null, {keys}, {measures} from {table} where {condition}")
}

fn sums(row: &Row<'_>, first: usize, latency: bool) -> rusqlite::Result<Sums> {
    let mut places = first..;
    let mut place = || places.next().expect("numbers do not end");
    let mut whole = || Ok::<_, rusqlite::Error>(row.get::<_, i64>(place())?.unsigned_abs());
    let mut sums = Sums { calls: whole()?, ..Sums::default() };
    for calls in &mut sums.by_status {
        *calls = whole()?;
    }
    (sums.input_bytes, sums.output_bytes, sums.cpu_calls) = (whole()?, whole()?, whole()?);
    (sums.cpu_ms, sums.duration_ms) = (row.get(place())?, row.get(place())?);
    if latency {
        let (buckets, counts) = (place(), place());
        sums.latency = Histogram::from_arrays(&array(row, buckets)?, &array(row, counts)?);
    }
    Ok(sums)
}

fn array<T: serde::de::DeserializeOwned>(row: &Row<'_>, place: usize) -> rusqlite::Result<Vec<T>> {
    serde_json::from_str(row.get_ref(place)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(place, Type::Text, Box::new(error)))
}

fn text<'a>(row: &'a Row<'_>, place: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(row.get_ref(place)?.as_str_or_null()?)
}
