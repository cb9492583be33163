//! What PostgreSQL says.

use super::finding::{Finding, tell_gaps};
use mcpmeter_journal::{Database, PostgresUrl, SCHEMA_VERSION, SurveyError};

/// A difference between two clocks that makes rows look wrong, in seconds.
const CLOCKS_DIFFER: f64 = 2.0;
/// Partitions are made for a week ahead; fewer days than these mean that nobody has made any lately.
const ENOUGH_DAYS: u32 = 3;

/// Asks it.
pub(super) async fn examine(url: &PostgresUrl, findings: &mut Vec<Finding>) {
    match Database::survey(url).await {
        Ok(database) => tell(url, &database, findings),
        Err(SurveyError::Unreachable(error)) => findings.push(Finding::unreachable(
            "postgres",
            format!("{url} cannot be reached, {error}"),
            "calls wait in the outbox until it can; nothing else is needed",
        )),
        Err(SurveyError::Refused(error)) => findings.push(Finding::problem(
            "postgres",
            format!("{url} refuses, {error}"),
            "check user, password and rights; calls wait in the outbox",
        )),
    }
}

fn tell(url: &PostgresUrl, database: &Database, findings: &mut Vec<Finding>) {
    let millis = database.round_trip.as_secs_f64() * 1e3;
    findings.push(Finding::ok("postgres", format!("{url} answers in {millis:.1} ms")));
    findings.push(tell_clock(database.clock_ahead_seconds));
    findings.push(tell_schema(database.schema_version));
    if database.schema_version != Some(SCHEMA_VERSION) {
        return;
    }
    findings.push(match database.days_ahead {
        None => Finding::ok("partitions", "they are made by an extension"),
        Some(days) if days >= ENOUGH_DAYS => {
            Finding::ok("partitions", format!("there are partitions for the next {days} days"))
        }
        Some(days) => Finding::warning(
            "partitions",
            format!("there are partitions for only {days} of the next 7 days"),
            "a running mcpmeter makes them, and so does `mcpmeter migrate`",
        ),
    });
    findings.push(match database.default_partition_rows {
        0 => Finding::ok("default", "the default partition is empty"),
        rows => Finding::problem(
            "default",
            format!(
                "there are {rows}{} rows in the default partition",
                if rows >= 1000 { " or more" } else { "" }
            ),
            "run \"select mcpmeter.empty_default_partition()\" as the owner of the tables",
        ),
    });
    tell_gaps("all-gaps", &database.gaps, findings);
}

fn tell_clock(ahead: f64) -> Finding {
    let text = format!(
        "PostgreSQL's clock is {:.3} s {}",
        ahead.abs(),
        if ahead < 0.0 { "behind" } else { "ahead" }
    );
    if ahead.abs() < CLOCKS_DIFFER {
        Finding::ok("clock", text)
    } else {
        Finding::warning("clock", text, "let both machines keep the time with NTP")
    }
}

fn tell_schema(version: Option<i32>) -> Finding {
    match version {
        Some(SCHEMA_VERSION) => Finding::ok("schema", format!("version {SCHEMA_VERSION}, as wanted")),
        None => Finding::problem(
            "schema",
            "there is none",
            "run `mcpmeter migrate`, or start with store.migrate = true",
        ),
        Some(version) if version < SCHEMA_VERSION => Finding::problem(
            "schema",
            format!("version {version}, but this mcpmeter wants {SCHEMA_VERSION}"),
            "run `mcpmeter migrate`",
        ),
        Some(version) => Finding::problem(
            "schema",
            format!("version {version}, but this mcpmeter knows {SCHEMA_VERSION}"),
            "upgrade mcpmeter",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn an_old_schema_and_a_wrong_clock_are_told() {
        assert_eq!(tell_schema(Some(SCHEMA_VERSION)).level, Level::Ok);
        assert!(
            [None, Some(0), Some(SCHEMA_VERSION + 1)]
                .map(tell_schema)
                .iter()
                .all(|f| f.level == Level::Problem)
        );
        assert_eq!(
            [0.1, -3.0, 3.0].map(|ahead| tell_clock(ahead).level),
            [Level::Ok, Level::Warning, Level::Warning]
        );
    }
}
