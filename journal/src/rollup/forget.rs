//! Takes somebody out of the usage tables: their cells go, or are added up under another name. At once, and not by way
//! of marks: the keeper may not run, and cells whose rows are gone are never made anew.
//!
//! Of the cells that follow their rows the rows have been changed, and the buckets marked, before; whatever the keeper
//! makes of those later is the same. In PostgreSQL it is kept away meanwhile by the leader's lock. In SQLite it may put
//! down cells that it made of the rows as they were: then it finds the marks renewed, and makes them again.
//!
//! Cells of tools name nobody. Those that follow their rows are made anew by the marks; those that are kept stay.

use super::{
    Span, Subject, Sums,
    groups::Label,
    postgres::LEADER,
    read_sqlite::{cells, read_cells},
    sqlite::insert,
    tables::{self, FRACTIONS, columns, join, whole_numbers},
};
use crate::{columns::Kind, value::Value};
use deadpool_postgres::Object;
use mcpmeter_observer::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params_from_iter};
use std::{borrow::Cow, thread::sleep, time::Duration};
use tokio_postgres::types::{ToSql, Type};

/// Buckets that are changed in one transaction of SQLite: some hundred cells.
const BUCKETS: u32 = 4;
/// The writer's share between two of them.
const PAUSE: Duration = Duration::from_millis(2);
/// Cells that are changed in one transaction of PostgreSQL.
const CELLS: u32 = 2_000;

/// Who is to be forgotten.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forgotten<'a> {
    /// A column of usage.
    pub(crate) column: &'static str,
    /// Its value.
    pub(crate) id: &'a str,
    /// The user that the calls are of from now on; absent if they go.
    pub(crate) name: Option<&'a str>,
}

/// The tables, as SQLite names them.
pub(crate) fn usage_tables() -> [String; 3] {
    Span::ALL.map(|span| tables::name(span, Subject::Usage))
}

/// Takes them out of the table of the span in SQLite, in small transactions, and says how many cells they had.
pub(crate) fn forget_sqlite(
    connection: &mut Connection,
    span: Span,
    who: Forgotten<'_>,
) -> rusqlite::Result<u64> {
    let (table, column) = (tables::name(span, Subject::Usage), who.column);
    let select = format!(
        "select distinct bucket_start from {table} where {column} = ?1 and bucket_start > ?2
         order by bucket_start limit {BUCKETS}"
    );
    let (mut after, mut forgotten) = (i64::MIN, 0);
    loop {
        let starts: Vec<i64> = connection
            .prepare_cached(&select)?
            .query_map((who.id, after), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let Some(last) = starts.last() else { return Ok(forgotten) };
        after = *last;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for start in starts {
            forgotten += forget_in_bucket(&transaction, span, Timestamp(start), who)?;
        }
        transaction.commit()?;
        sleep(PAUSE);
    }
}

fn forget_in_bucket(
    transaction: &Transaction<'_>,
    span: Span,
    start: Timestamp,
    who: Forgotten<'_>,
) -> rusqlite::Result<u64> {
    let (table, column) = (tables::name(span, Subject::Usage), who.column);
    let Some(name) = who.name else {
        let delete = format!("delete from {table} where bucket_start = ?1 and {column} = ?2");
        return Ok(transaction.prepare_cached(&delete)?.execute((start.0, who.id))? as u64);
    };
    let kept: Vec<Option<i64>> = transaction
        .prepare_cached(&format!(
            "select distinct kept_at from {table} where bucket_start = ?1 and {column} = ?2"
        ))?
        .query_map((start.0, who.id), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut renamed = 0;
    for kept_at in kept {
        // With those that have the name already.
        let condition = format!("bucket_start = ?1 and kept_at is ?2 and ({column} = ?3 or user_id = ?4)");
        let mut sums = Sums::default();
        let select = cells(&table, Subject::Usage, true, &condition);
        let parameters = (start.0, kept_at, who.id, name);
        read_cells(transaction, &select, Subject::Usage, true, parameters, |_, _, _, cell| sums.merge(cell))?;
        let delete = format!("delete from {table} where {condition}");
        renamed += transaction.prepare_cached(&delete)?.execute(parameters)? as u64;
        let label = Label { bucket_start: None, values: vec![None, Some(name.to_owned()), None] };
        insert(transaction, span, Subject::Usage, start, &[(label, sums)])?;
        let keep = format!("update {table} set kept_at = ?1 where rowid = last_insert_rowid()");
        transaction.prepare_cached(&keep)?.execute([kept_at])?;
    }
    Ok(renamed)
}

/// How many cells they have in a table of SQLite.
pub(crate) fn count_sqlite(
    connection: &Connection,
    table: &str,
    who: Forgotten<'_>,
) -> rusqlite::Result<u64> {
    let count = format!("select count(*) from {table} where {} = ?1", who.column);
    let values = [Value::Text(Cow::Borrowed(who.id))];
    connection.query_row(&count, params_from_iter(values), |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Takes them out of the table of the span in PostgreSQL, in transactions that begin with `settings`, and says how many
/// cells they had.
pub(crate) async fn forget_postgres(
    connection: &mut Object,
    settings: &str,
    span: Span,
    who: Forgotten<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let (table, column) = (tables::name(span, Subject::Usage), who.column);
    let find = format!(
        "select max(bucket_start) from (select bucket_start from mcpmeter.{table}
         where {column} = $1 and bucket_start > $2 order by bucket_start limit {CELLS}) as found"
    );
    let change = match who.name {
        Some(_) => rename(&table, column),
        None => format!(
            "with gone as (delete from mcpmeter.{table}
               where {column} = $1 and bucket_start > $2 and bucket_start <= $3 and $4::text is null returning 1)
             select count(*) from gone"
        ),
    };
    let id = Value::Text(Cow::Borrowed(who.id));
    let name = who.name.map_or(Value::Null, |name| Value::Text(Cow::Borrowed(name)));
    let (text, timestamp) = (Kind::Text.postgres_type(), Kind::Timestamp.postgres_type());
    // Before all times.
    let (mut after, mut forgotten) = (Value::Time(Timestamp(i64::MIN)), 0);
    loop {
        let transaction = connection.transaction().await?;
        transaction.batch_execute(settings).await?;
        let leader = Value::Int(LEADER);
        let lock: [(&(dyn ToSql + Sync), Type); 1] = [(&leader, Kind::BigInt.postgres_type())];
        transaction.query_typed("select pg_advisory_xact_lock($1)", &lock).await?;
        let bounds = [(&id as &(dyn ToSql + Sync), text.clone()), (&after, timestamp.clone())];
        let upper: Value<'static> = transaction.query_typed_one(&find, &bounds).await?.try_get(0)?;
        if upper == Value::Null {
            transaction.commit().await?;
            return Ok(forgotten);
        }
        let [id, after_bound] = bounds;
        let parameters = [id, after_bound, (&upper as _, timestamp.clone()), (&name as _, text.clone())];
        let cells: i64 = transaction.query_typed_one(&change, &parameters).await?.try_get(0)?;
        transaction.commit().await?;
        forgotten += cells.unsigned_abs();
        after = upper;
    }
}

/// Adds the cells of buckets up to `$3` up under the name `$4`, with those that have it already.
fn rename(table: &str, column: &str) -> String {
    // A cell comes once for each entry of its histogram; its numbers count with the first.
    let counted = join(
        whole_numbers()
            .chain(FRACTIONS)
            .map(|column| format!("sum({column}) filter (where place = 1) as {column}")),
    );
    let whole =
        whole_numbers().map(|column| format!("least(sum({column}), {})::bigint as {column}", i64::MAX));
    let numbers = join(whole.chain(FRACTIONS.iter().map(|column| format!("sum({column}) as {column}"))));
    let columns = columns(Subject::Usage);
    format!(
        "with gone as (
           delete from mcpmeter.{table}
           where bucket_start > $2 and bucket_start <= $3 and ({column} = $1 or user_id = $4) returning *),
         counted as (
           select bucket_start, kept_at, latency_bucket, sum(latency_count) as latency_count, {counted}
           from gone cross join unnest(latency_buckets, latency_counts) with ordinality
             as pair (latency_bucket, latency_count, place)
           group by bucket_start, kept_at, latency_bucket),
         renamed as (
           insert into mcpmeter.{table} ({columns})
           select bucket_start, kept_at, null, $4, null, {numbers},
                  array_agg(latency_bucket order by latency_bucket),
                  array_agg(least(latency_count, {})::integer order by latency_bucket)
           from counted group by bucket_start, kept_at)
         select count(*) from gone where {column} = $1",
        i32::MAX
    )
}

/// How many cells they have in a table of PostgreSQL.
pub(crate) async fn count_postgres(
    connection: &Object,
    table: &str,
    who: Forgotten<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let count = format!("select count(*) from mcpmeter.{table} where {} = $1", who.column);
    let id = Value::Text(Cow::Borrowed(who.id));
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&id, Kind::Text.postgres_type())];
    Ok(connection.query_typed_one(&count, &parameters).await?.try_get::<_, i64>(0)?.unsigned_abs())
}
