-- The PostgreSQL schema of mcpmeter, version 1: the only DDL for it. PostgreSQL 15 to 18.
--
-- `mcpmeter migrate` (and `mcpmeter serve`, unless told not to) runs this file; `psql -v ON_ERROR_STOP=1 -f
-- schema.sql` does the same. Running it again, or twice at once, changes nothing.
--
-- The columns of mcp_server_request_log are those of journal/src/columns.rs, in that order; a test compares
-- the two. Rules: no foreign keys (identities are snapshots), no triggers, no sequence, and no default on
-- created_at, because a retried batch must carry the same keys.
--
-- Scale-out, each before the first row is written:
--   Citus:       after this file:  select create_distributed_table('mcpmeter.mcp_server_request_log', 'id');
--   TimescaleDB: before this file: create extension timescaledb;   (the table then becomes a hypertable)
--
-- A role that only writes needs: usage on schema mcpmeter; insert on mcp_server_request_log; select, insert and
-- update on outbox_cursor. Partitions are made by a function that runs with its owner's rights.

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
  if exists (select from mcpmeter.schema_version where version > 1) then
    raise exception 'the database has schema version %, this mcpmeter knows version 1: upgrade mcpmeter',
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

create index if not exists mcp_server_request_log_user on mcpmeter.mcp_server_request_log (user_id, created_at);
create index if not exists mcp_server_request_log_instance
  on mcpmeter.mcp_server_request_log (mcp_server_instance_id, created_at);
create index if not exists mcp_server_request_log_tool on mcpmeter.mcp_server_request_log (tool_name, created_at);
create index if not exists mcp_server_request_log_status on mcpmeter.mcp_server_request_log (status, created_at);
create index if not exists mcp_server_request_log_transport
  on mcpmeter.mcp_server_request_log (transport_type, created_at);

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
  'tools/list or tools/call';
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
  'CPU time of the upstream''s process over the call''s window, in milliseconds';
comment on column mcpmeter.mcp_server_request_log.cpu_percent is
  'the same as percent of one core';
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

-- After indexes and comments, which it takes over.
do $$
begin
  if to_regclass('mcpmeter.mcp_server_request_log_default') is null
     and exists (select from pg_partitioned_table where partrelid = 'mcpmeter.mcp_server_request_log'::regclass) then
    create table mcpmeter.mcp_server_request_log_default (like mcpmeter.mcp_server_request_log including all);
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
    execute format('create table mcpmeter.%I (like mcpmeter.mcp_server_request_log including all)', partition);
    execute format('comment on table mcpmeter.%I is %L', partition,
                   'The calls of ' || to_char(day, 'YYYY-MM-DD') || ' (UTC)');
    execute format('alter table mcpmeter.mcp_server_request_log attach partition mcpmeter.%I'
                   ' for values from (%L) to (%L)', partition,
                   to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    made := made + 1;
  end loop;
  return made;
end $$;
comment on function mcpmeter.ensure_partitions(timestamptz, timestamptz) is
  'Makes the missing day partitions between two instants, both included; says how many it made';

-- What the shipper needs first, and a week in which nobody need be there to make more.
select mcpmeter.ensure_partitions(now(), now() + interval '7 days');

insert into mcpmeter.schema_version (version) values (1) on conflict do nothing;

commit;
