-- The PostgreSQL schema of mcpmeter, version 5: the only DDL for it. PostgreSQL 15 to 18.
--
-- `mcpmeter migrate` (and `mcpmeter serve`, unless told not to) runs this file; `psql -v ON_ERROR_STOP=1 -f
-- schema.sql` does the same. Running it again, or twice at once, changes nothing. A database of an earlier version
-- becomes one of version 5 in place: one of version 4 gets tables for keys; one of version 1, 2 or 3 gets a column in the
-- log too, for which that is locked for a moment; for version 1 it is locked while each of its days is read once.
--
-- The columns of mcp_server_request_log are those of journal/src/columns.rs, in that order (a column that came with a
-- later version stands last in a database that is older than it); a test compares the two. Rules: no foreign keys
-- (identities are snapshots), no triggers, no sequence, and no default on created_at, because a retried batch must
-- carry the same keys.
--
-- Scale-out, one statement each, before the first row is written. Neither has ever been run: both are written after
-- the engine's documentation, and both need the time or distribution column in every unique key, which the
-- primary key (created_at, id) has. What is tested (journal/tests/journal/scale_out.rs) is that the statements parse
-- and name what is there, and that mcpmeter works on a log without partitions.
--   Citus:       after this file:  select create_distributed_table('mcpmeter.mcp_server_request_log', 'id');
--                id spreads evenly, is never null and never changes; the day partitions are distributed with their
--                parent, and those made later when they are attached. Leave store.compress_after_days at 0.
--   TimescaleDB: before this file: create extension timescaledb;   (the table then becomes a hypertable)
--                Chunks take the place of partitions; retention drops chunks. Leave store.compress_after_days at 0
--                and use add_compression_policy.
--
-- A role that only writes needs: usage on schema mcpmeter; insert on mcp_server_request_log; select, insert and
-- update on outbox_cursor and mcp_log_gap; select, insert and delete on mcp_process_sample; select, insert, update and
-- delete on the tables whose names begin with rollup_; select on api_key and api_key_revision, and update (last_used_at)
-- on api_key; temporary on the database (for what a restored backup makes of a batch). Who makes and revokes keys also
-- needs insert and update on api_key, and update on api_key_revision.
-- Partitions are made, dropped and compressed by functions that run with their owner's rights; for retention and
-- compression grant that role execute on lock_expired_day(integer), drop_day(timestamptz), compress_next(integer) and
-- rollup_keep(timestamptz, timestamptz), which are revoked from public.
-- Proxies of version 1 that still write after the upgrade make no marks: their calls are missing in rollups.

begin;

-- One migration or partition maker at a time; the number is "mcpmeter" in ASCII. Released by commit.
select pg_advisory_xact_lock(7882267387984373106);
set local client_min_messages = warning;
-- A maintenance statement must not queue behind a report for ever, with every writer queued behind it.
set local lock_timeout = '30s';

create schema if not exists mcpmeter;
comment on schema mcpmeter is 'The call log of mcpmeter: one row per MCP tools/list and tools/call';

create table if not exists mcpmeter.schema_version (
  version    integer primary key,
  applied_at timestamptz not null default now()
);
comment on table mcpmeter.schema_version is 'Which versions of schema.sql have been applied; the highest is in force';
comment on column mcpmeter.schema_version.version is 'the number in the first line of schema.sql';
comment on column mcpmeter.schema_version.applied_at is 'when it was first applied';

do $$
begin
  if exists (select from mcpmeter.schema_version where version > 5) then
    raise exception 'the database has schema version %, this mcpmeter knows version 5: upgrade mcpmeter',
      (select max(version) from mcpmeter.schema_version);
  end if;
end $$;

do $$
declare
  -- TimescaleDB refuses a table that is already partitioned.
  timescale boolean := exists (select from pg_extension where extname = 'timescaledb');
begin
  if to_regclass('mcpmeter.mcp_server_request_log') is not null then
    return;
  end if;
  execute $table$
    create table mcpmeter.mcp_server_request_log (
      id                      uuid not null,
      created_at              timestamptz not null,
      completed_at            timestamptz not null,
      duration_ms             double precision not null,
      latency_bucket          smallint not null,
      ttfb_ms                 double precision,
      first_event_ms          double precision,
      proxy_us                double precision,
      user_id                 text,
      organization_id         text,
      mcp_server_instance_id  text not null,
      tool_name               text,
      method                  text not null,
      transport_type          text not null,
      client_transport        text not null,
      protocol_version        text,
      status                  text not null,
      status_detail           text,
      origin                  text,
      error_code              text,
      error_message           text,
      error_detail            jsonb,
      http_status             smallint,
      input_bytes             bigint not null,
      output_bytes            bigint not null,
      http_request_bytes      bigint,
      http_response_bytes     bigint,
      cpu_ms                  double precision,
      cpu_shared              boolean,
      cpu_percent             double precision,
      memory_bytes            bigint,
      auth_method             text not null,
      auth_state              text not null,
      api_key_id              text,
      rate_limit_state        jsonb,
      client_ip               text,
      user_agent              text,
      client_name             text,
      client_version          text,
      session_hash            text,
      trace_id                text,
      span_id                 text,
      parent_span_id          text,
      rpc_id                  text,
      framing                 text,
      match                   text not null,
      batch_size              integer,
      batch_index             integer,
      tool_count              integer,
      redelivered             integer not null,
      client_left             boolean not null,
      cancel_requested        boolean not null,
      header_mismatch         boolean not null,
      task_hash               text,
      mrtr_group              text,
      primary key (created_at, id)
    )
  $table$ || case when timescale then '' else 'partition by range (created_at)' end;
  if timescale then
    perform create_hypertable('mcpmeter.mcp_server_request_log', 'created_at',
                              chunk_time_interval => interval '1 day');
  end if;
end $$;

-- Version 4. Whatever is or is going to be a part of the log needs the column: its days (which follow the log), what
-- they are made like, and the tables of a day that is just being compressed.
do $$
declare
  part text;
begin
  if exists (select from pg_attribute where attrelid = 'mcpmeter.mcp_server_request_log'::regclass
                                        and attname = 'cpu_shared') then
    return;
  end if;
  -- Behind a long report everybody would wait with us; whoever migrates tries again.
  perform set_config('lock_timeout', '2s', true);
  alter table mcpmeter.mcp_server_request_log add column cpu_shared boolean;
  -- Looked for only now that nobody can be at it.
  for part in select relname from pg_class
              where relnamespace = 'mcpmeter'::regnamespace and relkind = 'r'
                and (relname = 'mcp_server_request_log_template'
                     or relname ~ '^mcp_server_request_log_[0-9]{8}_(old|new)$') loop
    execute format('alter table mcpmeter.%I add column if not exists cpu_shared boolean', part);
  end loop;
  perform set_config('lock_timeout', '30s', true);
end $$;

comment on table mcpmeter.mcp_server_request_log is
  'One row per finished MCP call (tools/list, tools/call), partitioned by day (UTC) of created_at';
comment on column mcpmeter.mcp_server_request_log.id is
  'made at the start of the call: a UUID of version 7, so ids sort by time';
comment on column mcpmeter.mcp_server_request_log.created_at is
  'when the request''s head arrived (never the time of storing); the partition key';
comment on column mcpmeter.mcp_server_request_log.completed_at is
  'when the answer was complete, or the outcome decided';
comment on column mcpmeter.mcp_server_request_log.duration_ms is
  'answer complete minus request complete, in milliseconds, to the microsecond';
comment on column mcpmeter.mcp_server_request_log.latency_bucket is
  'histogram bucket of duration_ms: 16 log-linear buckets per power of two of microseconds';
comment on column mcpmeter.mcp_server_request_log.ttfb_ms is
  'upstream''s response head minus request complete, in milliseconds';
comment on column mcpmeter.mcp_server_request_log.first_event_ms is
  'first SSE event with data minus request complete, in milliseconds';
comment on column mcpmeter.mcp_server_request_log.proxy_us is
  'time spent inside the proxy on the answer''s last frame, in microseconds';
comment on column mcpmeter.mcp_server_request_log.user_id is
  'whose call it is; a snapshot, no foreign key';
comment on column mcpmeter.mcp_server_request_log.organization_id is
  'the organisation of that user; a snapshot, no foreign key';
comment on column mcpmeter.mcp_server_request_log.mcp_server_instance_id is
  'the MCP server instance that was called: the route''s instance_id, or its name';
comment on column mcpmeter.mcp_server_request_log.tool_name is
  'params.name of a tools/call; null for tools/list';
comment on column mcpmeter.mcp_server_request_log.method is
  'tools/list or tools/call; unknown for a request that was refused before a call could be seen in it';
comment on column mcpmeter.mcp_server_request_log.transport_type is
  'how the instance is spoken to: STDIO, SSE or STREAMABLE_HTTPS';
comment on column mcpmeter.mcp_server_request_log.client_transport is
  'how the client spoke; same words as transport_type';
comment on column mcpmeter.mcp_server_request_log.protocol_version is
  'the MCP revision in force, for example 2025-11-25';
comment on column mcpmeter.mcp_server_request_log.status is
  'how the call ended: ok, input_required, task_created, tool_error, rpc_error, http_error, upstream_error, timeout, cancelled, denied or limited';
comment on column mcpmeter.mcp_server_request_log.status_detail is
  'the finer word behind the status, for example no_response or session_ended';
comment on column mcpmeter.mcp_server_request_log.origin is
  'whose fault a failure is: client, proxy or upstream; null when nothing failed';
comment on column mcpmeter.mcp_server_request_log.error_code is
  'for example -32602, http_502 or connect_refused';
comment on column mcpmeter.mcp_server_request_log.error_message is
  'capped and redacted';
comment on column mcpmeter.mcp_server_request_log.error_detail is
  'the cause chain, the server''s error.data, the child''s last words; capped and redacted';
comment on column mcpmeter.mcp_server_request_log.http_status is
  'status of the exchange that carried the answer';
comment on column mcpmeter.mcp_server_request_log.input_bytes is
  'bytes of the JSON-RPC request message';
comment on column mcpmeter.mcp_server_request_log.output_bytes is
  'bytes of the JSON-RPC answer message; 0 where there was none';
comment on column mcpmeter.mcp_server_request_log.http_request_bytes is
  'body bytes of the exchange as received; null on channels shared by several calls';
comment on column mcpmeter.mcp_server_request_log.http_response_bytes is
  'body bytes of the exchange as sent; null on channels shared by several calls';
comment on column mcpmeter.mcp_server_request_log.cpu_ms is
  'CPU time of the upstream''s process tree that is this call''s, in milliseconds; cpu_shared says how it is known';
comment on column mcpmeter.mcp_server_request_log.cpu_shared is
  'How cpu_ms is attributed. CPU time of the server''s process tree while the call was open. false: the call was alone '
  'on that process for its whole life, and the figure is exact. true: other calls overlapped; where the process works '
  'on one thread, what it used since the last call began or ended belongs to the call that ended, otherwise it is '
  'divided equally among the calls that were open, so that the sum over all calls is what the process used while any '
  'call was open. null: not metered.';
comment on column mcpmeter.mcp_server_request_log.cpu_percent is
  'cpu_ms as percent of one core over duration_ms';
comment on column mcpmeter.mcp_server_request_log.memory_bytes is
  'resident set of the upstream''s process at the end of the call';
comment on column mcpmeter.mcp_server_request_log.auth_method is
  'how the caller proved who it is: none, api_key, jwt, header or passthrough';
comment on column mcpmeter.mcp_server_request_log.auth_state is
  'what the check said: ok, missing, invalid, expired or unverified';
comment on column mcpmeter.mcp_server_request_log.api_key_id is
  'the key''s public id or a keyed hash; never the key';
comment on column mcpmeter.mcp_server_request_log.rate_limit_state is
  'limit, remaining and reset as applied to this call';
comment on column mcpmeter.mcp_server_request_log.client_ip is
  'minimised as configured before it was recorded';
comment on column mcpmeter.mcp_server_request_log.user_agent is
  'the client''s User-Agent, capped';
comment on column mcpmeter.mcp_server_request_log.client_name is
  'clientInfo.name of the session or the request';
comment on column mcpmeter.mcp_server_request_log.client_version is
  'clientInfo.version of the session or the request';
comment on column mcpmeter.mcp_server_request_log.session_hash is
  'a hash of the session''s key; never the session id';
comment on column mcpmeter.mcp_server_request_log.trace_id is
  'W3C trace id of the caller''s context, 32 hexadecimal digits';
comment on column mcpmeter.mcp_server_request_log.span_id is
  'this call''s span in that trace, 16 hexadecimal digits';
comment on column mcpmeter.mcp_server_request_log.parent_span_id is
  'the caller''s span, 16 hexadecimal digits';
comment on column mcpmeter.mcp_server_request_log.rpc_id is
  'the raw JSON token of the request''s id';
comment on column mcpmeter.mcp_server_request_log.framing is
  'how the answer travelled: json, sse, batch_json, batch_sse or line';
comment on column mcpmeter.mcp_server_request_log.match is
  'how surely the answer is this request''s: exact, positional, loose, fifo, ambiguous or none';
comment on column mcpmeter.mcp_server_request_log.batch_size is
  'elements of the batch the request came in; null outside a batch';
comment on column mcpmeter.mcp_server_request_log.batch_index is
  'this request''s place in its batch, from 0';
comment on column mcpmeter.mcp_server_request_log.tool_count is
  'tools in the answer of a tools/list';
comment on column mcpmeter.mcp_server_request_log.redelivered is
  'how often the answer came again after it was complete';
comment on column mcpmeter.mcp_server_request_log.client_left is
  'the client closed the exchange before its end';
comment on column mcpmeter.mcp_server_request_log.cancel_requested is
  'a cancellation was seen, whatever came of it';
comment on column mcpmeter.mcp_server_request_log.header_mismatch is
  'Mcp-Method or Mcp-Name said something else than the body';
comment on column mcpmeter.mcp_server_request_log.task_hash is
  'a hash of the task''s id: ties task_created to the task''s end';
comment on column mcpmeter.mcp_server_request_log.mrtr_group is
  'a hash of the requestState: ties the rounds of one multi round-trip request together';

-- Every day's partition is made like this table. The five indexes are here and not on the log itself, because an
-- index on the log would be on every one of its days for ever, also on those that are compressed.
do $$
begin
  if to_regclass('mcpmeter.mcp_server_request_log_template') is null then
    -- Not its indexes: in version 1 there were the five among them.
    create table mcpmeter.mcp_server_request_log_template
      (like mcpmeter.mcp_server_request_log including all excluding indexes, primary key (created_at, id));
    comment on table mcpmeter.mcp_server_request_log_template is
      'Stays empty: every partition of mcp_server_request_log is made like this, with the same indexes';
  end if;
  -- In a database of version 2 or 3 it was made before there was the column; days are made with its comments.
  execute format('comment on column mcpmeter.mcp_server_request_log_template.cpu_shared is %L',
                 (select col_description(attrelid, attnum) from pg_attribute
                  where attrelid = 'mcpmeter.mcp_server_request_log'::regclass and attname = 'cpu_shared'));
end $$;

create index if not exists mcp_server_request_log_template_user
  on mcpmeter.mcp_server_request_log_template (user_id, created_at);
create index if not exists mcp_server_request_log_template_instance
  on mcpmeter.mcp_server_request_log_template (mcp_server_instance_id, created_at);
create index if not exists mcp_server_request_log_template_tool
  on mcpmeter.mcp_server_request_log_template (tool_name, created_at);
create index if not exists mcp_server_request_log_template_status
  on mcpmeter.mcp_server_request_log_template (status, created_at);
create index if not exists mcp_server_request_log_template_transport
  on mcpmeter.mcp_server_request_log_template (transport_type, created_at);

do $$
declare
  parent constant regclass := 'mcpmeter.mcp_server_request_log';
  partitions text[];
  bounds text[];
  secondary text;
begin
  if not exists (select from pg_partitioned_table where partrelid = parent) then
    -- A hypertable's chunks have the indexes of the hypertable.
    for secondary in select replace(replace(indexdef, '_template', ''), 'CREATE INDEX', 'create index if not exists')
                     from pg_indexes
                     where schemaname = 'mcpmeter' and tablename = 'mcp_server_request_log_template'
                       and indexname not like '%pkey' loop
      execute secondary;
    end loop;
    return;
  end if;
  -- Version 1 had the five indexes on the log itself. They can only be taken from it while it has no partitions;
  -- what is a partition's own stays with it.
  if exists (select from pg_index where indrelid = parent and not indisprimary) then
    -- Behind a long report everybody would wait with us; whoever migrates tries again.
    perform set_config('lock_timeout', '2s', true);
    lock table mcpmeter.mcp_server_request_log in access exclusive mode;
    select array_agg(oid::regclass::text order by day), array_agg(bound order by day) into partitions, bounds
    from (select c.oid, pg_get_expr(c.relpartbound, c.oid) as bound, c.relname as day
          from pg_inherits join pg_class c on c.oid = inhrelid where inhparent = parent) as known;
    for number in 1 .. coalesce(cardinality(partitions), 0) loop
      execute format('alter table %s detach partition %s', parent, partitions[number]);
    end loop;
    for secondary in select indexrelid::regclass from pg_index where indrelid = parent and not indisprimary loop
      execute format('drop index %s', secondary);
    end loop;
    for number in 1 .. coalesce(cardinality(partitions), 0) loop
      execute format('alter table %s attach partition %s %s', parent, partitions[number], bounds[number]);
    end loop;
  end if;
  if to_regclass('mcpmeter.mcp_server_request_log_default') is null then
    create table mcpmeter.mcp_server_request_log_default
      (like mcpmeter.mcp_server_request_log_template including all);
    alter table mcpmeter.mcp_server_request_log attach partition mcpmeter.mcp_server_request_log_default default;
    comment on table mcpmeter.mcp_server_request_log_default is
      'Stays empty: a row in here has no partition for its day, and keeps that partition from being made';
  end if;
end $$;

create table if not exists mcpmeter.outbox_cursor (
  spool_id uuid primary key,
  seq      bigint not null,
  moved_at timestamptz not null default now()
);
comment on table mcpmeter.outbox_cursor is
  'How far each proxy''s outbox has been stored here; moved in the transaction that stores the rows';
comment on column mcpmeter.outbox_cursor.spool_id is 'the outbox: one SQLite file of one proxy';
comment on column mcpmeter.outbox_cursor.seq is 'every record up to this number of the outbox is stored';
comment on column mcpmeter.outbox_cursor.moved_at is 'when it last moved';

create table if not exists mcpmeter.mcp_log_gap (
  spool_id uuid not null,
  seq      bigint not null,
  from_at  timestamptz not null,
  to_at    timestamptz not null,
  calls    bigint not null,
  reason   text not null,
  primary key (spool_id, seq)
);
comment on table mcpmeter.mcp_log_gap is
  'What the log lacks: one row per stretch of time and reason in which a proxy lost calls; rows only grow';
comment on column mcpmeter.mcp_log_gap.spool_id is 'the outbox of the proxy that lost them';
comment on column mcpmeter.mcp_log_gap.seq is 'the number of the gap in that outbox';
comment on column mcpmeter.mcp_log_gap.from_at is 'when the first of the calls was lost';
comment on column mcpmeter.mcp_log_gap.to_at is 'when the last of them was';
comment on column mcpmeter.mcp_log_gap.calls is 'how many finished calls were lost';
comment on column mcpmeter.mcp_log_gap.reason is
  'why: queue_full, outbox_full, disk_error, quarantined and so on, as in the metrics';

create table if not exists mcpmeter.mcp_process_sample (
  instance_id              text not null,
  at                       timestamptz not null,
  spool_id                 uuid not null,
  cpu_seconds_total        double precision not null,
  resident_bytes           bigint not null,
  processes                integer not null,
  restarts                 bigint not null,
  uptime_seconds           double precision not null,
  unattributed_cpu_seconds double precision not null,
  primary key (instance_id, at, spool_id)
);
-- The latest of every instance, and what is old enough to go.
create index if not exists mcp_process_sample_at on mcpmeter.mcp_process_sample (at);
comment on table mcpmeter.mcp_process_sample is
  'What the processes of each metered instance used, a row per instance, proxy and minute; deleted at the age of the '
  'calls (store.retention_days), or after 35 days where calls are kept for ever';
comment on column mcpmeter.mcp_process_sample.instance_id is 'the MCP server instance, as in mcp_server_request_log';
comment on column mcpmeter.mcp_process_sample.at is 'when it was looked at';
comment on column mcpmeter.mcp_process_sample.spool_id is
  'the outbox of the proxy that looked: several proxies that serve one instance have processes of their own';
comment on column mcpmeter.mcp_process_sample.cpu_seconds_total is
  'CPU time of the process tree, in seconds, a counter: it falls only where the proxy begins to count anew';
comment on column mcpmeter.mcp_process_sample.resident_bytes is 'resident set of the process tree';
comment on column mcpmeter.mcp_process_sample.processes is 'how many processes the tree has; 0 while there is none';
comment on column mcpmeter.mcp_process_sample.restarts is 'how often the process was started again, a counter';
comment on column mcpmeter.mcp_process_sample.uptime_seconds is 'how long the process has been running';
comment on column mcpmeter.mcp_process_sample.unattributed_cpu_seconds is
  'the part of cpu_seconds_total that belongs to no call: used while none was open; a counter';

-- Version 5: the keys of callers (journal/src/keys.rs). No retention deletes them: a row of the log names its key.
-- Room on each page lets a noted use stay on it, without touching an index.
create table if not exists mcpmeter.api_key (
  id              text primary key,
  hash            text not null,
  previous_hash   text,
  previous_until  timestamptz,
  name            text,
  user_id         text not null,
  organization_id text,
  routes          jsonb not null,
  tools           jsonb not null,
  rate_per_minute integer,
  created_at      timestamptz not null,
  expires_at      timestamptz,
  revoked_at      timestamptz,
  last_used_at    timestamptz,
  revision        bigint not null
) with (fillfactor = 80);
create unique index if not exists api_key_changes on mcpmeter.api_key (revision);
comment on table mcpmeter.api_key is
  'The keys by which callers are known. Proxies read what has changed every second; secrets are nowhere in here';
comment on column mcpmeter.api_key.id is
  'the key''s public id, as in mcp_server_request_log.api_key_id; stays the same when the secret is exchanged';
comment on column mcpmeter.api_key.hash is 'SHA-256 of the secret, 64 hexadecimal digits';
comment on column mcpmeter.api_key.previous_hash is
  'the same of the secret before, which is accepted until previous_until; null if there is none';
comment on column mcpmeter.api_key.previous_until is 'until when the secret before is accepted';
comment on column mcpmeter.api_key.name is 'what its owner calls it';
comment on column mcpmeter.api_key.user_id is 'whose calls are made with it; no foreign key';
comment on column mcpmeter.api_key.organization_id is 'the organisation of that user; no foreign key';
comment on column mcpmeter.api_key.routes is
  'the routes it is good for: a list of names, in which * stands for any characters; empty for all of them';
comment on column mcpmeter.api_key.tools is 'the tools it may call, in the same way';
comment on column mcpmeter.api_key.rate_per_minute is 'how many calls a minute it may make; null for any number';
comment on column mcpmeter.api_key.created_at is 'when it was made';
comment on column mcpmeter.api_key.expires_at is 'from when on it is refused; null for never';
comment on column mcpmeter.api_key.revoked_at is 'when it was revoked; null if it was not';
comment on column mcpmeter.api_key.last_used_at is 'when a proxy has last accepted it, to the minute or so';
comment on column mcpmeter.api_key.revision is
  'the number of its last change, from api_key_revision; a use is no change';

create table if not exists mcpmeter.api_key_revision (
  is_only_row boolean primary key default true check (is_only_row),
  revision    bigint not null
);
insert into mcpmeter.api_key_revision (revision) values (0) on conflict do nothing;
comment on table mcpmeter.api_key_revision is
  'One row. Whoever changes a key raises its number first, in the same transaction: so changes are committed in the '
  'order of their numbers, and whoever has read one number has missed no smaller one';
comment on column mcpmeter.api_key_revision.is_only_row is 'true, and there is no second truth';
comment on column mcpmeter.api_key_revision.revision is 'how many changes there were';

create or replace function mcpmeter.ensure_partitions(from_at timestamptz, to_at timestamptz)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  parent constant regclass := 'mcpmeter.mcp_server_request_log';
  from_day constant date := (from_at at time zone 'UTC')::date;
  to_day constant date := (to_at at time zone 'UTC')::date;
  day date;
  partition text;
  made integer := 0;
begin
  -- A hypertable makes its own chunks.
  if not exists (select from pg_partitioned_table where partrelid = parent) then
    return 0;
  end if;
  if to_day - from_day > 366 then
    raise exception 'will not make partitions for % days at once', to_day - from_day
      using errcode = 'invalid_parameter_value';
  end if;
  for days in 0 .. to_day - from_day loop
    day := from_day + days;
    partition := 'mcp_server_request_log_' || to_char(day, 'YYYYMMDD');
    continue when to_regclass('mcpmeter.' || partition) is not null;
    -- The lock of migrations; whoever waited for it looks again, because the other may have made the table.
    perform pg_advisory_xact_lock(7882267387984373106);
    continue when to_regclass('mcpmeter.' || partition) is not null;
    -- Made apart and attached, because `create table … partition of` locks out every reader of the parent.
    execute format('create table mcpmeter.%I (like mcpmeter.mcp_server_request_log_template including all)',
                   partition);
    execute format('comment on table mcpmeter.%I is %L', partition,
                   'The calls of ' || to_char(day, 'YYYY-MM-DD') || ' (UTC)');
    execute format('alter table mcpmeter.mcp_server_request_log attach partition mcpmeter.%I'
                   ' for values from (%L) to (%L)', partition,
                   to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    made := made + 1;
    -- Cells of a day without a partition are of rows that were dropped.
    perform mcpmeter.rollup_keep(day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
  end loop;
  return made;
end $$;
comment on function mcpmeter.ensure_partitions(timestamptz, timestamptz) is
  'Makes the missing day partitions between two instants, both included; says how many it made';

-- Rollups (journal/src/rollup.rs). A cell follows its rows while kept_at is null: it is deleted and made anew
-- whenever its bucket is marked in rollup_dirty. The tables of hours and days are made from the next shorter ones.
-- Marks of an outbox are its own, so that no proxy waits for the commit of another.
create table if not exists mcpmeter.rollup_5min_tool (
  bucket_start            timestamptz not null,
  kept_at                 timestamptz,
  mcp_server_instance_id  text,
  tool_name               text,
  calls                   bigint not null,
  ok                      bigint not null,
  input_required          bigint not null,
  task_created            bigint not null,
  tool_error              bigint not null,
  rpc_error               bigint not null,
  http_error              bigint not null,
  upstream_error          bigint not null,
  timeout                 bigint not null,
  cancelled               bigint not null,
  denied                  bigint not null,
  limited                 bigint not null,
  input_bytes             bigint not null,
  output_bytes            bigint not null,
  cpu_calls               bigint not null,
  cpu_ms                  double precision not null,
  duration_ms             double precision not null,
  latency_buckets         smallint[] not null,
  latency_counts          integer[] not null
);
-- Null is a value here: a list of tools has no tool_name, a cell that follows its rows no kept_at.
create unique index if not exists rollup_5min_tool_cell
  on mcpmeter.rollup_5min_tool (bucket_start, mcp_server_instance_id, tool_name, kept_at) nulls not distinct;

create table if not exists mcpmeter.rollup_5min_usage (
  bucket_start            timestamptz not null,
  kept_at                 timestamptz,
  organization_id         text,
  user_id                 text,
  api_key_id              text,
  calls                   bigint not null,
  ok                      bigint not null,
  input_required          bigint not null,
  task_created            bigint not null,
  tool_error              bigint not null,
  rpc_error               bigint not null,
  http_error              bigint not null,
  upstream_error          bigint not null,
  timeout                 bigint not null,
  cancelled               bigint not null,
  denied                  bigint not null,
  limited                 bigint not null,
  input_bytes             bigint not null,
  output_bytes            bigint not null,
  cpu_calls               bigint not null,
  cpu_ms                  double precision not null,
  duration_ms             double precision not null,
  latency_buckets         smallint[] not null,
  latency_counts          integer[] not null
);
create unique index if not exists rollup_5min_usage_cell
  on mcpmeter.rollup_5min_usage (bucket_start, organization_id, user_id, api_key_id, kept_at) nulls not distinct;

do $$
declare
  subject text;
  comments constant text[] := array[
    'bucket_start', 'when the bucket of time begins; calls belong to it by their created_at',
    'kept_at', 'null while the cell follows its rows; then when it was kept because retention deletes them',
    'calls', 'calls of any status',
    'input_bytes', 'sum of input_bytes',
    'output_bytes', 'sum of output_bytes',
    'cpu_calls', 'calls whose cpu_ms is known',
    'cpu_ms', 'sum of cpu_ms over those',
    'duration_ms', 'sum of duration_ms',
    'latency_buckets', 'histogram: the values of latency_bucket that occur, sorted',
    'latency_counts', 'histogram: how many calls have the latency_bucket in the same place'];
  status text;
  place integer;
begin
  foreach subject in array array['tool', 'usage'] loop
    for place in 1 .. array_length(comments, 1) by 2 loop
      execute format('comment on column mcpmeter.%I.%I is %L',
                     'rollup_5min_' || subject, comments[place], comments[place + 1]);
    end loop;
    foreach status in array array['ok', 'input_required', 'task_created', 'tool_error', 'rpc_error', 'http_error',
      'upstream_error', 'timeout', 'cancelled', 'denied', 'limited'] loop
      execute format('comment on column mcpmeter.%I.%I is %L',
                     'rollup_5min_' || subject, status, 'calls with this status');
    end loop;
  end loop;
end $$;
comment on column mcpmeter.rollup_5min_tool.mcp_server_instance_id is 'the MCP server instance that was called';
comment on column mcpmeter.rollup_5min_tool.tool_name is 'the tool that was called; null for a list of tools';
comment on column mcpmeter.rollup_5min_usage.organization_id is 'whose calls they are';
comment on column mcpmeter.rollup_5min_usage.user_id is 'whose calls they are';
comment on column mcpmeter.rollup_5min_usage.api_key_id is 'with which key they were made';

create table if not exists mcpmeter.rollup_hour_tool (like mcpmeter.rollup_5min_tool including all);
create table if not exists mcpmeter.rollup_day_tool (like mcpmeter.rollup_5min_tool including all);
create table if not exists mcpmeter.rollup_hour_usage (like mcpmeter.rollup_5min_usage including all);
create table if not exists mcpmeter.rollup_day_usage (like mcpmeter.rollup_5min_usage including all);
comment on table mcpmeter.rollup_5min_tool is 'Calls added up per 5 minutes, instance and tool';
comment on table mcpmeter.rollup_hour_tool is 'Calls added up per hour, instance and tool';
comment on table mcpmeter.rollup_day_tool is 'Calls added up per day (UTC), instance and tool';
comment on table mcpmeter.rollup_5min_usage is
  'Calls added up per 5 minutes, organisation, user and key; deleted with the rows, when their hours are kept';
comment on table mcpmeter.rollup_hour_usage is 'Calls added up per hour, organisation, user and key';
comment on table mcpmeter.rollup_day_usage is 'Calls added up per day (UTC), organisation, user and key';

do $$
begin
  if to_regclass('mcpmeter.rollup_dirty') is not null then
    return;
  end if;
  create table mcpmeter.rollup_dirty (
    bucket_start timestamptz not null,
    spool_id     uuid not null,
    version      bigint not null default 1,
    marked_at    timestamptz not null default clock_timestamp(),
    primary key (bucket_start, spool_id)
  );
  -- What was stored before there were rollups; jumps from bucket to bucket instead of reading the rows.
  insert into mcpmeter.rollup_dirty (bucket_start, spool_id)
  with recursive bucket (start) as (
    select date_bin('5 minutes', min(created_at), 'epoch') from mcpmeter.mcp_server_request_log
    union all
    select (select date_bin('5 minutes', min(created_at), 'epoch') from mcpmeter.mcp_server_request_log
            where created_at >= bucket.start + interval '5 minutes')
    from bucket where bucket.start is not null)
  select start, '00000000-0000-0000-0000-000000000000' from bucket where start is not null;
end $$;
comment on table mcpmeter.rollup_dirty is
  'The 5-minute buckets whose rows have changed since their cells were made; the one of this moment always has';
comment on column mcpmeter.rollup_dirty.bucket_start is 'when the bucket begins';
comment on column mcpmeter.rollup_dirty.spool_id is 'the outbox whose rows came; all zeroes for rows older than the rollups';
comment on column mcpmeter.rollup_dirty.version is 'grows whenever more rows of that outbox come';
comment on column mcpmeter.rollup_dirty.marked_at is 'when the last of them came';

create or replace function mcpmeter.rollup_keep(from_at timestamptz, to_at timestamptz)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- In hours: a day of the session's time zone may have 23 or 25 of them.
  first_day constant timestamptz := date_bin('1 day', from_at + interval '24 hours' - interval '1 microsecond', 'epoch');
  end_day constant timestamptz := date_bin('1 day', to_at, 'epoch');
begin
  update mcpmeter.rollup_5min_tool set kept_at = now()
  where bucket_start >= from_at and bucket_start < to_at and kept_at is null;
  update mcpmeter.rollup_5min_usage set kept_at = now()
  where bucket_start >= from_at and bucket_start < to_at and kept_at is null;
  -- As many as there are users: of whole days the hours are enough.
  update mcpmeter.rollup_hour_usage set kept_at = now()
  where bucket_start >= first_day and bucket_start < end_day and kept_at is null;
  delete from mcpmeter.rollup_5min_usage where bucket_start >= first_day and bucket_start < end_day;
end $$;
comment on function mcpmeter.rollup_keep(timestamptz, timestamptz) is
  'To be called before the rows of a range are deleted: their cells stay as they are, whatever comes later';
revoke execute on function mcpmeter.rollup_keep(timestamptz, timestamptz) from public;

-- The functions of the keeper (journal/src/retention.rs). Each call is one transaction and one small step, so that
-- it can be killed anywhere. The caller sets lock_timeout to milliseconds: whatever needs the whole log for itself
-- gives up behind a long report, and is asked again later, instead of making everybody queue behind the two.

create or replace function mcpmeter.default_partition_rows()
returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  found bigint := 0;
begin
  if to_regclass('mcpmeter.mcp_server_request_log_default') is not null then
    execute 'select count(*) from (select from mcpmeter.mcp_server_request_log_default limit 1000) as found' into found;
  end if;
  return found;
end $$;
comment on function mcpmeter.default_partition_rows() is
  'How many rows the default partition holds, counted up to 1000: there should be none';

create or replace function mcpmeter.refuse_strays(starts timestamptz[])
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  day date;
begin
  if to_regclass('mcpmeter.mcp_server_request_log_default') is null then
    return true;
  end if;
  for day in
    select distinct (start at time zone 'UTC')::date from unnest(starts) as start
    where start >= '1970-01-01 00:00:00+00' and start < '9999-12-31 00:00:00+00'
  loop
    continue when to_regclass('mcpmeter.mcp_server_request_log_' || to_char(day, 'YYYYMMDD')) is not null;
    -- Where rows of that day lie there already, its partition cannot be made, and the default one is the right place.
    if not exists (select from mcpmeter.mcp_server_request_log_default
                   where created_at >= day::timestamp at time zone 'UTC'
                     and created_at < (day + 1)::timestamp at time zone 'UTC'
                     and xmin <> pg_current_xact_id()::xid) then
      raise exception 'the partition of % was dropped while calls of that day were being stored', day
        using errcode = 'object_not_in_prerequisite_state', hint = 'They are stored again, after making it.';
    end if;
  end loop;
  return true;
end $$;
comment on function mcpmeter.refuse_strays(timestamptz[]) is
  'To be called after storing rows of these instants, in the same transaction: fails if some went to the default '
  'partition although their day could have one of its own';

create or replace function mcpmeter.empty_default_partition()
returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  day date;
  partition text;
  moved bigint := 0;
  here bigint;
  names text;
begin
  perform pg_advisory_xact_lock(7882267387984373106);
  -- Until the end nobody reads or writes in there; reports over all of the log wait.
  lock table mcpmeter.mcp_server_request_log_default in access exclusive mode;
  select string_agg(quote_ident(attname), ', ' order by attnum) into names
  from pg_attribute
  where attrelid = 'mcpmeter.mcp_server_request_log'::regclass and attnum > 0 and not attisdropped;
  for day in
    select distinct (created_at at time zone 'UTC')::date from mcpmeter.mcp_server_request_log_default
    where created_at >= '1970-01-01 00:00:00+00' and created_at < '9999-12-31 00:00:00+00' order by 1
  loop
    partition := 'mcp_server_request_log_' || to_char(day, 'YYYYMMDD');
    execute format('create table mcpmeter.%I (like mcpmeter.mcp_server_request_log_template including all)', partition);
    execute format('comment on table mcpmeter.%I is %L', partition,
                   'The calls of ' || to_char(day, 'YYYY-MM-DD') || ' (UTC)');
    execute format('with moved as (delete from mcpmeter.mcp_server_request_log_default
                                   where created_at >= %L and created_at < %L returning *)
                    insert into mcpmeter.%I (%s) select %4$s from moved',
                   to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00',
                   partition, names);
    get diagnostics here = row_count;
    execute format('alter table mcpmeter.mcp_server_request_log attach partition mcpmeter.%I'
                   ' for values from (%L) to (%L)', partition,
                   to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    moved := moved + here;
  end loop;
  return moved;
end $$;
comment on function mcpmeter.empty_default_partition() is
  'Moves the rows of the default partition into partitions of their days, in one transaction; says how many';

create or replace function mcpmeter.lock_expired_day(days integer)
returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  parent constant regclass := 'mcpmeter.mcp_server_request_log';
  oldest date;
begin
  -- One proxy of many. Until the caller's transaction ends.
  if days < 1 or not pg_try_advisory_xact_lock(7882267387984373107) then
    return null;
  end if;
  if exists (select from pg_partitioned_table where partrelid = parent) then
    select min(to_date(right(relname, 8), 'YYYYMMDD')) into oldest
    from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = parent and relname ~ '^mcp_server_request_log_[0-9]{8}$';
  else
    select (min(created_at) at time zone 'UTC')::date into oldest from mcpmeter.mcp_server_request_log;
  end if;
  if oldest is null or (oldest + 1)::timestamp at time zone 'UTC' > now() - make_interval(days => days) then
    return null;
  end if;
  if exists (select from pg_partitioned_table where partrelid = parent) then
    execute format('lock table mcpmeter.%I in share mode', 'mcp_server_request_log_' || to_char(oldest, 'YYYYMMDD'));
  end if;
  return oldest::timestamp at time zone 'UTC';
end $$;
comment on function mcpmeter.lock_expired_day(integer) is
  'The oldest day all of whose rows are older than so many days, locked against writers; null if there is none, or '
  'if somebody else is at it';

create or replace function mcpmeter.drop_day(day timestamptz)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  parent constant regclass := 'mcpmeter.mcp_server_request_log';
  partition constant text := 'mcp_server_request_log_' || to_char(day at time zone 'UTC', 'YYYYMMDD');
begin
  if exists (select from pg_partitioned_table where partrelid = parent) then
    execute format('drop table if exists mcpmeter.%I, mcpmeter.%I, mcpmeter.%I',
                   partition, partition || '_new', partition || '_old');
    return true;
  end if;
  if exists (select from pg_extension where extname = 'timescaledb') then
    -- The extension may be in any schema, and this function's search path has none of them.
    execute (select format('select %I.drop_chunks(%L, older_than => %L::timestamptz)', nspname,
                           'mcpmeter.mcp_server_request_log', day + interval '24 hours')
             from pg_extension join pg_namespace on pg_namespace.oid = extnamespace where extname = 'timescaledb');
  end if;
  -- All of them: cells of what remained would count it again as soon as one more call came for its bucket.
  delete from mcpmeter.mcp_server_request_log
  where created_at >= day and created_at < day + interval '24 hours';
  return true;
end $$;
comment on function mcpmeter.drop_day(timestamptz) is
  'Deletes the rows of a day (UTC), all of them: drops its partition, or where there are no partitions (then to be '
  'called in a repeatable read transaction, so that a row that comes after rollup_keep stays) deletes them';

create or replace function mcpmeter.compress_next(days integer)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  parent constant regclass := 'mcpmeter.mcp_server_request_log';
  day date;
  partition text;
  fresh text;
  former text;
  from_at text;
  to_at text;
  names text;
begin
  if not exists (select from pg_partitioned_table where partrelid = parent)
     or not pg_try_advisory_xact_lock(7882267387984373108) then
    return null;
  end if;
  -- What was begun comes first, and whatever days says: a day that has been exchanged and not been tidied up, then
  -- one that has been built and not been exchanged.
  select to_date(substr(relname, 24, 8), 'YYYYMMDD') into day
  from pg_class left join pg_inherits on inhrelid = pg_class.oid
  where relnamespace = 'mcpmeter'::regnamespace and relkind = 'r'
    -- Only what these steps have made themselves, which its comment tells: whoever names a table like that has his
    -- plans with it. Nor a day that somebody has detached; and of one that somebody has dropped the former table stays.
    and ((relname ~ '^mcp_server_request_log_[0-9]{8}_new$'
            and obj_description(pg_class.oid, 'pg_class') like '%, compressed'
            and to_regclass('mcpmeter.' || left(relname, 31)) is null
          or (relname ~ '^mcp_server_request_log_[0-9]{8}_new$'
                and obj_description(pg_class.oid, 'pg_class') like '%, compressed'
              or relname ~ '^mcp_server_request_log_[0-9]{8}_old$'
                and obj_description(pg_class.oid, 'pg_class') like '%, exchanged')
            and exists (select from pg_inherits as attached where attached.inhparent = parent
                          and attached.inhrelid = to_regclass('mcpmeter.' || left(relname, 31))))
         or days > 0 and inhparent = parent and relname ~ '^mcp_server_request_log_[0-9]{8}$'
            and to_regclass('mcpmeter.' || relname || '_new') is null
            and to_regclass('mcpmeter.' || relname || '_old') is null
            and coalesce(obj_description(pg_class.oid, 'pg_class'), '') not like '%, compressed'
            and (to_date(right(relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC'
                <= now() - make_interval(days => days))
  order by relname not like '%\_old', relname not like '%\_new', relname limit 1;
  if day is null then
    return null;
  end if;
  partition := 'mcp_server_request_log_' || to_char(day, 'YYYYMMDD');
  fresh := partition || '_new';
  former := partition || '_old';
  from_at := to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00';
  to_at := to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00';
  select string_agg(quote_ident(attname), ', ' order by attnum) into names
  from pg_attribute where attrelid = parent and attnum > 0 and not attisdropped;

  -- Somebody has dropped the day: nobody needs it any more.
  if to_regclass('mcpmeter.' || partition) is null then
    execute format('drop table if exists mcpmeter.%I', fresh);
    return 'gave up ' || partition;
  end if;

  -- Third and last: rows that came for the day while its new table was being built are in the former one only.
  if to_regclass('mcpmeter.' || former) is not null then
    execute format(
      'with late as (
         insert into mcpmeter.mcp_server_request_log (%2$s) select %2$s from mcpmeter.%1$I as former
         where not exists (select from mcpmeter.mcp_server_request_log as kept
                           where kept.created_at = former.created_at and kept.id = former.id
                             and kept.created_at >= %3$L and kept.created_at < %4$L)
         returning created_at)
       insert into mcpmeter.rollup_dirty (bucket_start, spool_id)
       select distinct date_bin(''5 minutes'', created_at, ''epoch''), uuid ''00000000-0000-0000-0000-000000000000''
       from late
       on conflict (bucket_start, spool_id)
       do update set version = rollup_dirty.version + 1, marked_at = clock_timestamp()',
      former, names, from_at, to_at);
    execute format('drop table mcpmeter.%I', former);
    return 'finished ' || partition;
  end if;

  -- Second: exchange. Needs the log for itself, for milliseconds, and waits for that no longer than lock_timeout.
  if to_regclass('mcpmeter.' || fresh) is not null then
    execute format('alter table mcpmeter.mcp_server_request_log detach partition mcpmeter.%I', partition);
    execute format('alter table mcpmeter.%I rename to %I', partition, former);
    execute format('comment on table mcpmeter.%I is %L', former,
                   'The calls of ' || to_char(day, 'YYYY-MM-DD') || ' (UTC), exchanged');
    execute format('alter table mcpmeter.%I rename to %I', fresh, partition);
    -- The constraint of the same content spares PostgreSQL reading the rows.
    execute format('alter table mcpmeter.mcp_server_request_log attach partition mcpmeter.%I'
                   ' for values from (%L) to (%L)', partition, from_at, to_at);
    execute format('alter table mcpmeter.%I drop constraint day', partition);
    return 'exchanged ' || partition;
  end if;

  -- First: build beside. The same rows in the order of their key, and indexes of one column, in which each value
  -- is stored once with the places of its rows: 7 bytes a row instead of 40.
  execute format('create table mcpmeter.%I (like mcpmeter.mcp_server_request_log_template including all'
                 ' excluding indexes, constraint day check (created_at >= %L and created_at < %L))',
                 fresh, from_at, to_at);
  execute format('comment on table mcpmeter.%I is %L', fresh,
                 'The calls of ' || to_char(day, 'YYYY-MM-DD') || ' (UTC), compressed');
  execute format('insert into mcpmeter.%I (%s) select %2$s from mcpmeter.%3$I order by created_at, id',
                 fresh, names, partition);
  execute format('alter table mcpmeter.%I add primary key (created_at, id) with (fillfactor = 100)', fresh);
  execute format('create index on mcpmeter.%I (user_id) with (fillfactor = 100)', fresh);
  execute format('create index on mcpmeter.%I (mcp_server_instance_id) with (fillfactor = 100)', fresh);
  execute format('create index on mcpmeter.%I (tool_name) with (fillfactor = 100)', fresh);
  execute format('create index on mcpmeter.%I (status) with (fillfactor = 100)', fresh);
  execute format('create index on mcpmeter.%I (transport_type) with (fillfactor = 100)', fresh);
  execute format('analyze mcpmeter.%I', fresh);
  return 'built ' || partition;
end $$;
comment on function mcpmeter.compress_next(integer) is
  'Takes the next step towards compressing the oldest day all of whose rows are older than so many days: builds the '
  'compressed table beside it, exchanges the two, tidies up. With 0 days it only finishes what was begun. Says what it '
  'did; null if there is nothing to do';

-- They delete, or hold locks: for the owner, and for whom he grants them to.
revoke execute on function mcpmeter.empty_default_partition(), mcpmeter.lock_expired_day(integer),
  mcpmeter.drop_day(timestamptz), mcpmeter.compress_next(integer) from public;

-- What the shipper needs first, and a week in which nobody need be there to make more.
select mcpmeter.ensure_partitions(now(), now() + interval '7 days');

insert into mcpmeter.schema_version (version) values (5) on conflict do nothing;

commit;
