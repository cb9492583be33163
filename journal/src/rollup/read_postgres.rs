//! Reads rollups from PostgreSQL.

use super::{
    bucket::Span,
    histogram::Histogram,
    postgres::instants,
    query::{Answer, Conditions, Rollup, RollupQuery, Step},
    read_sqlite::cells,
    statement::cells_of_rows,
    sums::Sums,
    tables,
};
use crate::{columns::Kind, value::Value};
use deadpool_postgres::Transaction;
use mcpmeter_observer::Timestamp;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Answers the question from the transaction's snapshot, which has to be one: `repeatable read`.
pub(crate) async fn ask(
    snapshot: &Transaction<'_>,
    query: &RollupQuery,
) -> Result<Rollup, tokio_postgres::Error> {
    // What PostgreSQL guesses of marked buckets would make it spend seconds on machine code.
    snapshot.batch_execute("set local jit = off").await?;
    let mut answer = Answer::new(query, dirty(snapshot, query).await?);
    for step in answer.steps() {
        match step {
            Step::Cells(span, range) => {
                let table = format!("mcpmeter.{}", tables::name(span, query.subject));
                let Conditions { text, parameters } = query.conditions("bucket_start", &range);
                let select = cells(&table, query.subject, query.latency, &text);
                read(
                    snapshot,
                    &select,
                    &typed(&parameters),
                    query,
                    query.latency,
                    |start, kept, values, sums| {
                        answer.add_cell(span, start, kept, values, sums);
                    },
                )
                .await?;
            }
            Step::Rows(starts) => {
                let [Some(first), Some(last)] = [starts.first(), starts.last()] else { continue };
                let range = *first..Span::FiveMinutes.end_of(*last);
                let Conditions { text, parameters } = query.conditions("created_at", &range);
                let [begin, end] = instants(Span::FiveMinutes, &starts);
                let place = parameters.len() + 1;
                let buckets = format!("unnest(${place}, ${}) as bucket (start, after)", place + 1);
                let fresh = cells_of_rows(query.subject, &buckets, &text);
                let select = cells(&format!("({fresh}) as fresh"), query.subject, true, "true");
                let mut parameters = typed(&parameters);
                parameters.extend([&begin, &end].map(|array| (array as _, Type::TIMESTAMPTZ_ARRAY)));
                read(snapshot, &select, &parameters, query, true, |start, _, values, sums| {
                    answer.group(start, values).merge(sums);
                })
                .await?;
            }
        }
    }
    Ok(answer.finish())
}

async fn dirty(
    snapshot: &Transaction<'_>,
    query: &RollupQuery,
) -> Result<Vec<Timestamp>, tokio_postgres::Error> {
    let range = query.range();
    let (from, to) = (Value::Time(range.start), Value::Time(range.end));
    let timestamp = Kind::Timestamp.postgres_type();
    let select = "select distinct bucket_start from mcpmeter.rollup_dirty
                  where bucket_start >= $1 and bucket_start < $2 order by 1";
    let rows = snapshot.query_typed(select, &[(&from, timestamp.clone()), (&to, timestamp)]).await?;
    rows.iter().map(|row| instant(row, 0)).collect()
}

async fn read(
    snapshot: &Transaction<'_>,
    select: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
    query: &RollupQuery,
    latency: bool,
    mut see: impl FnMut(Timestamp, bool, &[Option<&str>], &Sums),
) -> Result<(), tokio_postgres::Error> {
    let keys = query.subject.dimensions().len();
    for row in &snapshot.query_typed(select, parameters).await? {
        let values = (2..2 + keys).map(|place| row.try_get(place)).collect::<Result<Vec<_>, _>>()?;
        see(instant(row, 0)?, row.try_get(1)?, &values, &sums(row, 2 + keys, latency)?);
    }
    Ok(())
}

fn typed<'a>(parameters: &'a [(Value<'static>, Kind)]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|(value, kind)| (value as _, kind.postgres_type())).collect()
}

fn instant(row: &Row, place: usize) -> Result<Timestamp, tokio_postgres::Error> {
    Ok(match row.try_get(place)? {
        Value::Time(at) => at,
        _ => Timestamp(0),
    })
}

fn sums(row: &Row, first: usize, latency: bool) -> Result<Sums, tokio_postgres::Error> {
    let mut places = first..;
    let mut place = || places.next().expect("numbers do not end");
    let mut whole = || Ok::<_, tokio_postgres::Error>(row.try_get::<_, i64>(place())?.unsigned_abs());
    let mut sums = Sums { calls: whole()?, ..Sums::default() };
    for calls in &mut sums.by_status {
        *calls = whole()?;
    }
    (sums.input_bytes, sums.output_bytes, sums.cpu_calls) = (whole()?, whole()?, whole()?);
    (sums.cpu_ms, sums.duration_ms) = (row.try_get(place())?, row.try_get(place())?);
    if latency {
        let (buckets, counts): (Vec<i16>, Vec<i32>) = (row.try_get(place())?, row.try_get(place())?);
        sums.latency = Histogram::from_arrays(&buckets, &counts);
    }
    Ok(sums)
}
