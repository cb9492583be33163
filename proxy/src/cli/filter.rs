//! The filters that `tail` and `calls` share.

use super::Failure;
use clap::Args;
use jiff::SignedDuration;
use mcpmeter_journal::CallFilter;
use mcpmeter_observer::{Method, Status, Timestamp};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Which calls are wanted. Several conditions must all be met; --status may be given several times.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only calls of this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only calls of this organisation
    #[arg(long, value_name = "ID")]
    org: Option<String>,
    /// Only calls to this server instance
    #[arg(long, value_name = "ID")]
    server: Option<String>,
    /// Only calls of this tool
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Only calls that ended so: ok, tool_error, rpc_error, http_error, upstream_error, timeout, cancelled …
    #[arg(long, value_name = "STATUS")]
    status: Vec<Status>,
    /// Only tools/list or tools/call
    #[arg(long, value_name = "METHOD")]
    method: Option<Method>,
    /// Only failed calls
    #[arg(long)]
    errors: bool,
}

impl FilterArgs {
    /// As a condition for the store.
    pub(crate) fn to_filter(&self) -> CallFilter {
        CallFilter {
            user: self.user.clone(),
            organization: self.org.clone(),
            instance: self.server.clone(),
            tool: self.tool.clone(),
            status: self.status.clone(),
            method: self.method,
            errors_only: self.errors,
            ..CallFilter::default()
        }
    }

    /// The same condition on a call as JSON.
    pub(crate) fn matches(&self, row: &Value) -> bool {
        let text = |key: &str| row[key].as_str();
        let is = |wanted: &Option<String>, key: &str| {
            wanted.as_deref().is_none_or(|wanted| text(key) == Some(wanted))
        };
        let status = text("status").and_then(|status| status.parse::<Status>().ok());
        is(&self.user, "user_id")
            && is(&self.org, "organization_id")
            && is(&self.server, "mcp_server_instance_id")
            && is(&self.tool, "tool_name")
            && self.method.is_none_or(|method| text("method") == Some(method.as_str()))
            && (self.status.is_empty() || status.is_some_and(|status| self.status.contains(&status)))
            && (!self.errors || status.is_some_and(Status::is_failure))
    }
}

/// An instant: `10m`, `2h30m`, `7d` ago, or a date and time (RFC 3339).
pub(crate) fn parse_instant(text: &str) -> Result<Timestamp, Failure> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(instant.as_microsecond()));
    }
    let Some(ago) = parse_span(text) else {
        return Err(Failure::usage(&format!(
            "\"{text}\" is no instant: write an age such as 10m, 2h or 7d, or a time such as 2026-11-22T14:00:00Z"
        )));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let micros = i64::try_from(now)
        .unwrap_or(i64::MAX)
        .saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX));
    Ok(Timestamp(micros))
}

/// A span of time: `10m`, `2h30m`, `7d`.
pub(crate) fn parse_span(text: &str) -> Option<SignedDuration> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let span = match days {
        // Beyond that hours do not fit.
        Some(days) => {
            days.checked_mul(24).filter(|hours| hours.abs() < 1 << 40).map(SignedDuration::from_hours)
        }
        None => text.parse().ok(),
    };
    span.filter(|span| !span.is_negative())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn matches(arguments: &str) -> bool {
        let line = Line::try_parse_from(format!("x {arguments}").split_whitespace()).expect("valid");
        line.filter.matches(&json!({
            "user_id": "u", "organization_id": null, "mcp_server_instance_id": "s", "tool_name": "t",
            "method": "tools/call", "status": "tool_error",
        }))
    }

    #[test]
    fn every_condition_has_to_be_met() {
        for yes in [
            "",
            "--user u",
            "--errors",
            "--status ok --status tool_error",
            "--tool t --server s",
            "--method tools/call",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["--user v", "--org o", "--status ok", "--tool t --server x", "--method tools/list"] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn instants_are_ages_or_times() {
        assert_eq!(parse_instant("1970-01-01T00:00:01Z").expect("a time"), Timestamp(1_000_000));
        let (hour, day) = (parse_instant("1h").expect("an age"), parse_instant("1d").expect("an age"));
        let apart = hour.0 - day.0;
        assert!((apart - 23 * 3_600_000_000).abs() < 1_000_000, "{apart}");
        assert!(parse_instant("yesterday").is_err());
        assert!(parse_instant("-5m").is_err());
    }
}
