//! The dashboard's questions, put to 30 days of rows and, where they can answer, to the rollups of the same rows.

use std::future::pending;
use std::time::{Duration, Instant};

use mcpmeter_journal::{Dimension, Opened, PostgresUrl, Reader, RollupQuery, Span, Subject};
use mcpmeter_observer::Timestamp;

use super::{calls::Calls, open_journal, ship};
use crate::postgres::Cluster;

/// 2026-03-01T00:00:00Z.
const START: i64 = 1_772_323_200_000_000;
const DAY: i64 = 86_400_000_000;
const HOUR: i64 = DAY / 24;
const DAYS: i64 = 30;
const REPEATS: usize = 3;

/// A question: its name, what it is in SQL, and what it is to the rollups. `$from` and `$to` are instants.
struct Question {
    name: &'static str,
    /// The end of the 30 days.
    last: i64,
    sql: &'static str,
    rollup: Option<fn() -> RollupQuery>,
}

const QUESTIONS: [Question; 9] = [
    Question {
        name: "p95 per minute, an hour",
        last: HOUR,
        sql: "select date_bin('1 minute', created_at, 'epoch') b, percentile_cont(0.95) within group (order by \
              duration_ms) from mcpmeter.mcp_server_request_log where $range group by b",
        rollup: None,
    },
    Question {
        name: "p95 per 5 minutes, a day",
        last: DAY,
        sql: "select date_bin('5 minutes', created_at, 'epoch') b, percentile_cont(0.95) within group (order by \
              duration_ms) from mcpmeter.mcp_server_request_log where $range group by b",
        rollup: Some(|| query(Subject::Tool, Span::FiveMinutes, true, &[], true)),
    },
    Question {
        name: "p95 per hour, 30 days",
        last: DAYS * DAY,
        sql: "select date_bin('1 hour', created_at, 'epoch') b, percentile_cont(0.95) within group (order by \
              duration_ms) from mcpmeter.mcp_server_request_log where $range group by b",
        rollup: Some(|| query(Subject::Tool, Span::Hour, true, &[], true)),
    },
    Question {
        name: "tools by calls, 30 days",
        last: DAYS * DAY,
        sql: "select mcp_server_instance_id, tool_name, count(*) c, count(*) filter (where status in ('tool_error', \
              'rpc_error', 'http_error', 'upstream_error', 'timeout')) from mcpmeter.mcp_server_request_log where \
              $range group by 1, 2 order by c desc limit 20",
        rollup: Some(|| {
            query(Subject::Tool, Span::Day, false, &[Dimension::Instance, Dimension::Tool], false)
        }),
    },
    Question {
        name: "tools by calls, a day",
        last: DAY,
        sql: "select mcp_server_instance_id, tool_name, count(*) c, count(*) filter (where status in ('tool_error', \
              'rpc_error', 'http_error', 'upstream_error', 'timeout')) from mcpmeter.mcp_server_request_log where \
              $range group by 1, 2 order by c desc limit 20",
        rollup: Some(|| {
            query(Subject::Tool, Span::Day, false, &[Dimension::Instance, Dimension::Tool], false)
        }),
    },
    Question {
        name: "usage per organisation and user, 30 days",
        last: DAYS * DAY,
        sql: "select organization_id, user_id, count(*), sum(input_bytes), sum(output_bytes) from \
              mcpmeter.mcp_server_request_log where $range group by 1, 2",
        rollup: Some(|| {
            query(Subject::Usage, Span::Day, false, &[Dimension::Organization, Dimension::User], false)
        }),
    },
    Question {
        name: "errors per instance, a day",
        last: DAY,
        sql: "select mcp_server_instance_id, count(*) from mcpmeter.mcp_server_request_log where $range and status in \
              ('tool_error', 'rpc_error', 'http_error', 'upstream_error', 'timeout') group by 1",
        rollup: Some(|| query(Subject::Tool, Span::Day, false, &[Dimension::Instance], false)),
    },
    Question {
        name: "a user's calls and bytes per day, 30 days",
        last: DAYS * DAY,
        sql: "select date_bin('1 day', created_at, 'epoch') b, count(*), sum(output_bytes) from \
              mcpmeter.mcp_server_request_log where $range and user_id = 'user_7' group by b",
        rollup: Some(|| RollupQuery {
            only: vec![(Dimension::User, Some("user_7".to_owned()))],
            ..query(Subject::Usage, Span::Day, true, &[], false)
        }),
    },
    Question {
        name: "last 50 calls of a user",
        last: DAYS * DAY,
        sql: "select * from mcpmeter.mcp_server_request_log where $range and user_id = 'user_7' order by created_at \
              desc limit 50",
        rollup: None,
    },
];

fn query(subject: Subject, span: Span, by_time: bool, by: &[Dimension], latency: bool) -> RollupQuery {
    RollupQuery {
        subject,
        span,
        since: Timestamp(START),
        until: Timestamp(START + DAYS * DAY),
        only: Vec::new(),
        by_time,
        by: by.to_vec(),
        latency,
        present: false,
    }
}

/// Stores the rows, rolls them up, asks, and prints a line per question.
pub(super) fn measure(rows: u64, cluster: &Cluster) -> anyhow::Result<()> {
    let url = cluster.database();
    let took = load(rows, cluster, &url)?;
    cluster.query(&url, "vacuum analyze");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reader = runtime
        .block_on(async { Reader::postgres(&url.parse::<PostgresUrl>()?).map_err(anyhow::Error::from) })?;
    for Question { name, last, sql, rollup } in &QUESTIONS {
        let raw = best(|| explain(cluster, &url, sql, *last))?;
        let rolled = match rollup {
            None => "–".to_owned(),
            Some(ask) => {
                let mut ask = ask();
                ask.since = Timestamp(START + DAYS * DAY - last);
                let once = || {
                    let began = Instant::now();
                    runtime.block_on(reader.rollup(&ask))?;
                    Ok(began.elapsed().as_secs_f64() * 1e3)
                };
                format!("{:.1} ms", best(once)?)
            }
        };
        println!("| {name} | {raw:.1} ms | {rolled} |");
    }
    println!("| rolling everything up | – | {:.2} µs a row |", took.as_secs_f64() * 1e6 / rows as f64);
    Ok(())
}

/// Returns how long the rollups took.
fn load(rows: u64, cluster: &Cluster, url: &str) -> anyhow::Result<Duration> {
    let directory = tempfile::tempdir()?;
    let Opened { journal, writer, shipper, keeper } = open_journal(directory.path(), Some(url))?;
    let mut calls = Calls::from(START, DAYS * DAY / i64::try_from(rows)?);
    ship::fill(&journal, &writer, &mut calls, rows)?;
    let shipper = shipper.expect("PostgreSQL is configured");
    ship::run_until(|| journal.accounts().stored >= rows, shipper.run(pending(), Duration::ZERO))?;
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut keeper = keeper;
    while cluster.query(url, "select count(*) from mcpmeter.rollup_dirty") != "0" {
        runtime.block_on(keeper.roll_up());
    }
    writer.close()?;
    Ok(began.elapsed())
}

/// Milliseconds, as PostgreSQL says.
fn explain(cluster: &Cluster, url: &str, sql: &str, last: i64) -> anyhow::Result<f64> {
    let range = format!(
        "created_at >= to_timestamp({}) and created_at < to_timestamp({})",
        (START + DAYS * DAY - last) / 1_000_000,
        (START + DAYS * DAY) / 1_000_000
    );
    let sql = sql.replace("$range", &range);
    let told = cluster
        .query(url, &format!("set max_parallel_workers_per_gather = 0; explain (analyze, timing off) {sql}"));
    let time = told.lines().find_map(|line| line.strip_prefix("Execution Time: ")?.strip_suffix(" ms"));
    Ok(time.ok_or_else(|| anyhow::anyhow!("no execution time in {told}"))?.parse()?)
}

fn best(once: impl Fn() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut times = (0..REPEATS).map(|_| once()).collect::<anyhow::Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[0])
}
