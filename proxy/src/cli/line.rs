//! One call on one line, for people: `TIME STATUS SERVER/TOOL DURATION BYTES USER CLIENT [error]`.

use crate::printable::printable;
use anstyle::{AnsiColor, Style as Colour};
use serde_json::Value;
use std::io::IsTerminal;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// With colours. The status is a word all the same.
    Coloured,
    /// Letters only.
    Plain,
}

impl Style {
    pub(crate) fn for_stream(stream: &impl IsTerminal) -> Self {
        if super::wants_colour(stream) { Self::Coloured } else { Self::Plain }
    }
}

/// A call, as `Row` or the live feed gives it, as a line.
pub(crate) fn render(row: &Value, style: Style) -> String {
    let text = |key: &str| row[key].as_str().map(printable);
    let number = |key: &str| row[key].as_u64().unwrap_or(0);
    let time = local_time(row["created_at"].as_str().unwrap_or_default());
    let status = row["status"].as_str().unwrap_or("?");
    let called = match text("tool_name") {
        Some(tool) => tool,
        None => row["method"].as_str().unwrap_or("?").to_owned(),
    };
    let target = format!("{}/{called}", text("mcp_server_instance_id").unwrap_or_default());
    let duration = human_duration(row["duration_ms"].as_f64().unwrap_or(0.0));
    let bytes = format!("{} -> {}", human_bytes(number("input_bytes")), human_bytes(number("output_bytes")));
    let client = text("client_name").or_else(|| text("user_agent")).unwrap_or_default();
    let mut line = format!("{time}  {status:<14}  {target:<32}  {duration:>8}  {bytes:>18}");
    for part in [text("user_id").unwrap_or_default(), client] {
        if !part.is_empty() {
            line.push_str("  ");
            line.push_str(&part);
        }
    }
    let error =
        [text("error_code"), text("error_message")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    if !error.is_empty() {
        line.push_str(&format!("  [{}]", error.chars().take(200).collect::<String>()));
    }
    paint(&line, status, style)
}

fn paint(line: &str, status: &str, style: Style) -> String {
    let colour = match status {
        _ if style == Style::Plain => return line.to_owned(),
        "ok" | "input_required" | "task_created" => AnsiColor::Green,
        "cancelled" | "denied" | "limited" => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    let colour = Colour::new().fg_color(Some(colour.into()));
    line.replacen(status, &format!("{colour}{status}{colour:#}"), 1)
}

fn local_time(rfc3339: &str) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(instant) => {
            instant.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => rfc3339.to_owned(),
    }
}

pub(crate) fn human_duration(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_what_happened() {
        let row = json!({
            "created_at": "2026-11-22T14:05:31.000000Z", "status": "rpc_error", "method": "tools/call",
            "mcp_server_instance_id": "everything", "tool_name": "ec\u{1b}[2Jho", "duration_ms": 3.21,
            "input_bytes": 48, "output_bytes": 12_345, "user_id": "u_1", "client_name": "claude-code",
            "error_code": "-32602", "error_message": "no such tool",
        });
        let line = render(&row, Style::Plain);
        assert!(line.contains("rpc_error       everything/ec [2Jho"), "{line}");
        assert!(
            line.ends_with("3.2 ms       48 B -> 12 kB  u_1  claude-code  [-32602 no such tool]"),
            "{line}"
        );
        assert!(render(&row, Style::Coloured).contains("\u{1b}[31mrpc_error\u{1b}[0m"));
    }

    #[test]
    fn a_list_is_called_by_its_method() {
        let row = json!({ "status": "ok", "method": "tools/list", "mcp_server_instance_id": "a", "tool_name": null });
        assert!(render(&row, Style::Plain).contains("a/tools/list"));
    }
}
