//! Which calls are asked for, and the one SQL text that asks either store.
//!
//! The two dialects differ in the table's name and nothing else: `$1` numbers parameters in both, rows are
//! compared as pairs in both, and instants and UUIDs are hidden behind [`Value`].

use crate::{
    columns::{Kind, NAMES},
    row::Cursor,
    value::Value,
};
use mcpmeter_observer::{Method, Status, Timestamp};
use std::{borrow::Cow, fmt::Write};

/// Which calls are wanted: those that meet every condition that is set. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallFilter {
    /// Of this user.
    pub user: Option<String>,
    /// Of this organisation.
    pub organization: Option<String>,
    /// To this MCP server instance.
    pub instance: Option<String>,
    /// Of this tool.
    pub tool: Option<String>,
    /// With one of these statuses; empty for any.
    pub status: Vec<Status>,
    /// With this method.
    pub method: Option<Method>,
    /// Begun at this instant or later.
    pub since: Option<Timestamp>,
    /// Begun before this instant.
    pub until: Option<Timestamp>,
    /// Only failures, as [`Status::is_failure`] has it.
    pub errors_only: bool,
}

/// A statement and its parameters.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<(Value<'static>, Kind)>,
}

impl CallFilter {
    /// The statement for the newest calls before the cursor, at most `limit`, newest first.
    pub(crate) fn query(&self, table: &str, before: Option<Cursor>, limit: u32) -> Query {
        let mut conditions = Conditions::default();
        conditions.equal("user_id", self.user.as_deref());
        conditions.equal("organization_id", self.organization.as_deref());
        conditions.equal("mcp_server_instance_id", self.instance.as_deref());
        conditions.equal("tool_name", self.tool.as_deref());
        conditions.equal("method", self.method.map(Method::as_str));
        if let Some(statuses) = self.statuses() {
            conditions.status_in(&statuses);
        }
        if let Some(since) = self.since {
            conditions.instant("created_at >=", since);
        }
        if let Some(until) = self.until {
            conditions.instant("created_at <", until);
        }
        if let Some(cursor) = before {
            conditions.before(cursor);
        }
        let names = &*NAMES;
        let Conditions { text, parameters } = conditions;
        let sql =
            format!("select {names} from {table}{text} order by created_at desc, id desc limit {limit}");
        Query { sql, parameters }
    }

    /// The statuses that are wanted; `None` for any.
    fn statuses(&self) -> Option<Vec<Status>> {
        if self.status.is_empty() && !self.errors_only {
            return None;
        }
        let asked = if self.status.is_empty() { Status::ALL } else { &self.status };
        Some(asked.iter().copied().filter(|status| !self.errors_only || status.is_failure()).collect())
    }
}

/// A `where` clause as it grows.
#[derive(Debug, Default)]
struct Conditions {
    text: String,
    parameters: Vec<(Value<'static>, Kind)>,
}

impl Conditions {
    fn equal(&mut self, column: &str, text: Option<&str>) {
        if let Some(text) = text {
            let place = self.bind(Value::Text(Cow::Owned(text.to_owned())), Kind::Text);
            self.and(&format!("{column} = {place}"));
        }
    }

    fn instant(&mut self, comparison: &str, at: Timestamp) {
        let place = self.bind(Value::Time(at), Kind::Timestamp);
        self.and(&format!("{comparison} {place}"));
    }

    fn status_in(&mut self, statuses: &[Status]) {
        // The words are ours, and need no quoting; the index on status wants to see them as a list.
        let words: Vec<_> = statuses.iter().map(|status| format!("'{status}'")).collect();
        self.and(&if words.is_empty() {
            "1 = 0".to_owned()
        } else {
            format!("status in ({})", words.join(", "))
        });
    }

    fn before(&mut self, cursor: Cursor) {
        // Said twice: partitions are only pruned by a comparison of their own column.
        self.instant("created_at <=", cursor.created_at);
        let created_at = self.bind(Value::Time(cursor.created_at), Kind::Timestamp);
        let id = self.bind(Value::Uuid(cursor.id.0), Kind::Uuid);
        self.and(&format!("(created_at, id) < ({created_at}, {id})"));
    }

    fn bind(&mut self, value: Value<'static>, kind: Kind) -> String {
        self.parameters.push((value, kind));
        format!("${}", self.parameters.len())
    }

    fn and(&mut self, condition: &str) {
        let word = if self.text.is_empty() { "where" } else { "and" };
        // Writing to a String cannot fail.
        let _ = write!(self.text, " {word} {condition}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_joined_and_numbered_in_order() {
        let filter = CallFilter {
            user: Some("u".to_owned()),
            status: vec![Status::Ok, Status::Timeout],
            errors_only: true,
            since: Some(Timestamp(5)),
            ..CallFilter::default()
        };
        let Query { sql, parameters } = filter.query("t", None, 10);
        let tail = sql.split_once(" from ").unwrap().1;
        assert_eq!(
            tail,
            "t where user_id = $1 and status in ('timeout') and created_at >= $2 \
             order by created_at desc, id desc limit 10"
        );
        assert_eq!(parameters.len(), 2);
    }

    #[test]
    fn errors_that_are_not_failures_are_asked_for_in_vain() {
        let filter = CallFilter { status: vec![Status::Ok], errors_only: true, ..CallFilter::default() };
        assert!(filter.query("t", None, 1).sql.contains("where 1 = 0"));
    }
}
