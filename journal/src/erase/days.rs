//! The statements that change the calls of one table of days in PostgreSQL, a piece at a time. Pure: texts, and never a
//! value in one.
//!
//! Parameters: `$1` whose, `$2` and `$3` the key behind which to go on, `$4` the name, `$5` the salt. The answer: rows that
//! were found, rows that were changed, the last key.

use super::traces::cleared;

/// Rows in one transaction.
pub(super) const PIECE: u32 = 2_000;

/// Every table that holds days, as SQL names it, and what to call it: a part of the log that is attached, or the name
/// itself. Those of a day that is half compressed, or was detached, are among them.
pub(super) const TABLES: &str = "
    select format('%I.%I', nspname, relname),
           case when oid = log or attached and relname !~ '_default$' then 'mcp_server_request_log' else relname end
    from (
      select part.oid, nspname, part.relname::text, log.oid as log,
             exists (select from pg_inherits where inhparent = log.oid and inhrelid = part.oid) as attached,
             log.relkind = 'p' as is_partitioned
      from pg_class as part
      join pg_namespace on pg_namespace.oid = part.relnamespace
      cross join (select oid, relkind from pg_class
                  where oid = 'mcpmeter.mcp_server_request_log'::regclass) as log
      where part.relkind = 'r') as known
    where oid = log
       or is_partitioned and (attached or nspname = 'mcpmeter'
                                          and relname ~ '^mcp_server_request_log_[0-9]{8}(_new|_old)?$')
    order by 1";

/// Counts them.
pub(super) fn count(table: &str, column: &str) -> String {
    format!("select count(*) from {table} where {column} = $1")
}

/// Deletes some, and marks their buckets.
pub(super) fn remove(table: &str, column: &str) -> String {
    let change = format!(
        "delete from {table} as log using found
         where log.created_at = found.created_at and log.id = found.id and log.{column} = $1
           and ($4::text, $5::text) is not null
         returning log.created_at"
    );
    piece(table, column, &change)
}

/// Anonymises some, and marks their buckets. The new id of a row is the same in every table that has it, as two have
/// while a day is being compressed; without the salt nobody can tell which was the old one.
pub(super) fn anonymise(table: &str, column: &str) -> String {
    let cleared = cleared();
    let change = format!(
        "update {table} as log
         set user_id = $4, {cleared},
             id = (left(log.id::text, 19) || '8' || substr(random.half, 1, 3) || '-' || substr(random.half, 4, 12))::uuid
         from found
         cross join lateral (
           select encode(sha256(convert_to($5 || found.id::text, 'UTF8')), 'hex') as half) as random
         where log.created_at = found.created_at and log.id = found.id and log.{column} = $1
         returning log.created_at"
    );
    piece(table, column, &change)
}

fn piece(table: &str, column: &str, change: &str) -> String {
    format!(
        "with found as materialized (
           select created_at, id from {table}
           where {column} = $1 and (created_at, id) > ($2, $3) order by created_at, id limit {PIECE}),
         changed as ({change}),
         marked as (
           insert into mcpmeter.rollup_dirty (bucket_start, spool_id)
           select distinct date_bin('5 minutes', created_at, 'epoch'), uuid '00000000-0000-0000-0000-000000000000'
           from changed order by 1
           on conflict (bucket_start, spool_id)
           do update set version = rollup_dirty.version + 1, marked_at = clock_timestamp())
         select (select count(*) from found), (select count(*) from changed), last.created_at, last.id
         from (select) as one
         left join (select created_at, id from found order by created_at desc, id desc limit 1) as last on true"
    )
}
