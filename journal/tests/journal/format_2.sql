-- A SQLite file as the version before format 3 left it (`user_version` 2): two calls in the store. Made by that version;
-- only the spelling of keywords was changed.
pragma user_version = 2;
create table meta (key text primary key, value blob not null) strict, without rowid;
insert into meta values('rollups',x'01');
insert into meta values('spool_id',x'bf63fbe2936b46798742dc33abb20081');
create table outbox (
          seq integer primary key autoincrement, format integer not null, record blob not null) strict;
create table quarantine (
          seq integer primary key, format integer not null, record blob not null,
          reason text not null, set_aside_at integer not null) strict;
create table mcp_server_request_log ("id" blob not null, "created_at" integer not null, "completed_at" integer not null, "duration_ms" real not null, "latency_bucket" integer not null, "ttfb_ms" real, "first_event_ms" real, "proxy_us" real, "user_id" text, "organization_id" text, "mcp_server_instance_id" text not null, "tool_name" text, "method" text not null, "transport_type" text not null, "client_transport" text not null, "protocol_version" text, "status" text not null, "status_detail" text, "origin" text, "error_code" text, "error_message" text, "error_detail" text, "http_status" integer, "input_bytes" integer not null, "output_bytes" integer not null, "http_request_bytes" integer, "http_response_bytes" integer, "cpu_ms" real, "cpu_shared" integer, "cpu_percent" real, "memory_bytes" integer, "auth_method" text not null, "auth_state" text not null, "api_key_id" text, "rate_limit_state" text, "client_ip" text, "user_agent" text, "client_name" text, "client_version" text, "session_hash" text, "trace_id" text, "span_id" text, "parent_span_id" text, "rpc_id" text, "framing" text, "match" text not null, "batch_size" integer, "batch_index" integer, "tool_count" integer, "redelivered" integer not null, "client_left" integer not null, "cancel_requested" integer not null, "header_mismatch" integer not null, "task_hash" text, "mrtr_group" text, primary key (created_at, id)) strict, without rowid;
insert into mcp_server_request_log values(x'01a207b077927750bff215ed8e22808c',1795425335186974,1795425335187708,0.50100000000000000088,95,null,null,null,'u_1',null,'a','add','tools/call','STREAMABLE_HTTPS','STREAMABLE_HTTPS','2025-03-26','upstream_error','unreachable','upstream','connect_refused','Connection refused (os error 111)',null,502,70,0,70,0,null,null,null,null,'none','missing',null,null,'127.0.0.0/24','curl/7.88.1',null,null,null,null,null,null,'1',null,'none',null,null,null,0,0,0,0,null,null);
insert into mcp_server_request_log values(x'01a207b077c07ba18cf41a68707f68f7',1795425335232620,1795425335232955,0.20799999999999999045,74,null,null,null,'u_1',null,'a','add','tools/call','STREAMABLE_HTTPS','STREAMABLE_HTTPS','2025-03-26','upstream_error','unreachable','upstream','connect_refused','Connection refused (os error 111)',null,502,70,0,70,0,null,null,null,null,'none','missing',null,null,'127.0.0.0/24','curl/7.88.1',null,null,null,null,null,null,'2',null,'none',null,null,null,0,0,0,0,null,null);
create table rollup_dirty (
           bucket_start integer primary key, version integer not null, marked_at integer not null) strict;
insert into rollup_dirty values(1795425300000000,1,1795425335255335);
create table rollup_5min_tool (bucket_start integer not null, kept_at integer, mcp_server_instance_id text, tool_name text, calls integer not null, ok integer not null, input_required integer not null, task_created integer not null, tool_error integer not null, rpc_error integer not null, http_error integer not null, upstream_error integer not null, timeout integer not null, cancelled integer not null, denied integer not null, limited integer not null, input_bytes integer not null, output_bytes integer not null, cpu_calls integer not null,
               cpu_ms real not null, duration_ms real not null, latency_buckets text not null, latency_counts text not null) strict;
create table rollup_5min_usage (bucket_start integer not null, kept_at integer, organization_id text, user_id text, api_key_id text, calls integer not null, ok integer not null, input_required integer not null, task_created integer not null, tool_error integer not null, rpc_error integer not null, http_error integer not null, upstream_error integer not null, timeout integer not null, cancelled integer not null, denied integer not null, limited integer not null, input_bytes integer not null, output_bytes integer not null, cpu_calls integer not null,
               cpu_ms real not null, duration_ms real not null, latency_buckets text not null, latency_counts text not null) strict;
create table rollup_hour_tool (bucket_start integer not null, kept_at integer, mcp_server_instance_id text, tool_name text, calls integer not null, ok integer not null, input_required integer not null, task_created integer not null, tool_error integer not null, rpc_error integer not null, http_error integer not null, upstream_error integer not null, timeout integer not null, cancelled integer not null, denied integer not null, limited integer not null, input_bytes integer not null, output_bytes integer not null, cpu_calls integer not null,
               cpu_ms real not null, duration_ms real not null, latency_buckets text not null, latency_counts text not null) strict;
create table rollup_hour_usage (bucket_start integer not null, kept_at integer, organization_id text, user_id text, api_key_id text, calls integer not null, ok integer not null, input_required integer not null, task_created integer not null, tool_error integer not null, rpc_error integer not null, http_error integer not null, upstream_error integer not null, timeout integer not null, cancelled integer not null, denied integer not null, limited integer not null, input_bytes integer not null, output_bytes integer not null, cpu_calls integer not null,
               cpu_ms real not null, duration_ms real not null, latency_buckets text not null, latency_counts text not null) strict;
create table rollup_day_tool (bucket_start integer not null, kept_at integer, mcp_server_instance_id text, tool_name text, calls integer not null, ok integer not null, input_required integer not null, task_created integer not null, tool_error integer not null, rpc_error integer not null, http_error integer not null, upstream_error integer not null, timeout integer not null, cancelled integer not null, denied integer not null, limited integer not null, input_bytes integer not null, output_bytes integer not null, cpu_calls integer not null,
               cpu_ms real not null, duration_ms real not null, latency_buckets text not null, latency_counts text not null) strict;
create table rollup_day_usage (bucket_start integer not null, kept_at integer, organization_id text, user_id text, api_key_id text, calls integer not null, ok integer not null, input_required integer not null, task_created integer not null, tool_error integer not null, rpc_error integer not null, http_error integer not null, upstream_error integer not null, timeout integer not null, cancelled integer not null, denied integer not null, limited integer not null, input_bytes integer not null, output_bytes integer not null, cpu_calls integer not null,
               cpu_ms real not null, duration_ms real not null, latency_buckets text not null, latency_counts text not null) strict;
create table rollup_leaving (bucket_start integer primary key) strict;
create table rollup_late (created_at integer not null, id blob not null,
           primary key (created_at, id)) strict, without rowid;
create table mcp_log_gap (
      seq integer primary key autoincrement, from_at integer not null, to_at integer not null,
      calls integer not null, reason text not null, shipped integer not null default -1, closed integer not null default 0) strict;
create table ring (
      ring_id blob not null, segment integer not null, generation integer not null, "offset" integer not null,
      primary key (ring_id, segment)) strict, without rowid;
create table mcp_process_sample (
           instance_id text not null, at integer not null, spool_id blob not null, cpu_seconds_total real not null, resident_bytes integer not null, processes integer not null, restarts integer not null, uptime_seconds real not null, unattributed_cpu_seconds real not null, primary key (instance_id, at, spool_id)) strict, without rowid;
create table process_sample_outbox (seq integer primary key autoincrement, instance_id text not null, at integer not null, spool_id blob not null, cpu_seconds_total real not null, resident_bytes integer not null, processes integer not null, restarts integer not null, uptime_seconds real not null, unattributed_cpu_seconds real not null) strict;
create index mcp_server_request_log_user on mcp_server_request_log (user_id, created_at);
create index mcp_server_request_log_instance on mcp_server_request_log (mcp_server_instance_id, created_at);
create index rollup_5min_tool_bucket on rollup_5min_tool (bucket_start);
create index rollup_5min_usage_bucket on rollup_5min_usage (bucket_start);
create index rollup_hour_tool_bucket on rollup_hour_tool (bucket_start);
create index rollup_hour_usage_bucket on rollup_hour_usage (bucket_start);
create index rollup_day_tool_bucket on rollup_day_tool (bucket_start);
create index rollup_day_usage_bucket on rollup_day_usage (bucket_start);
create index mcp_process_sample_at on mcp_process_sample (at);
