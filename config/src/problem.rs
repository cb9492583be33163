//! Everything that is wrong with a configuration, in words a person can act on.
//!
//! Holds a copy of the file's text in which secrets are already masked: nothing here can print one.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

mod render;

/// All problems of one configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: Option<PathBuf>,
    masked_text: String,
    problems: Vec<Problem>,
}

/// One problem: what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable word to search for and to test against: `key-unknown`, `route-duplicate-name`.
    pub code: &'static str,
    /// One sentence that reads alone: lower case, no full stop, no secret.
    pub message: String,
    /// Where the faulty value came from.
    pub place: Place,
    /// A few words under the faulty text; may be empty.
    pub label: String,
    /// Other places in the file that belong to it.
    pub related: Vec<Label>,
    /// What to write instead; may have several lines.
    pub help: Option<String>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The configuration file.
    File(Position),
    /// An environment variable, by name.
    Variable(String),
    /// A command-line flag, by name.
    Flag(String),
    /// No place of its own: a default, or something that is not there.
    Nowhere,
}

/// A stretch of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The bytes of the file.
    pub span: Range<usize>,
}

/// A remark on another place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub position: Position,
    /// The remark: a few words.
    pub text: String,
}

impl Problems {
    /// Sorts the problems by place. `masked_text` has as many bytes as the file, so that positions hold.
    pub(crate) fn new(file: Option<&Path>, masked_text: String, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match &problem.place {
            Place::File(position) => position.span.start,
            _ => usize::MAX,
        });
        Self { file: file.map(Path::to_owned), masked_text, problems }
    }

    /// The problems, in the order of the file; those of the environment and of flags come last.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }

    /// `2 problems found in mcpmeter.toml`.
    pub fn summary(&self) -> String {
        let number = self.problems.len();
        let noun = if number == 1 { "problem" } else { "problems" };
        match &self.file {
            Some(file) => format!("{number} {noun} found in {}", file.display()),
            None => format!("{number} {noun} found in the configuration"),
        }
    }

    /// All problems with their source lines, in the manner of cargo; the last line is the summary.
    pub fn render(&self, color: bool) -> String {
        render::render(self, color)
    }

    /// The object that `check --json` prints: `{"error": {"code", "message", "details": […]}}`.
    pub fn to_json(&self) -> Value {
        let details: Vec<Value> = self.problems.iter().map(|problem| self.detail(problem)).collect();
        json!({ "error": { "code": "config_invalid", "message": self.summary(), "details": details } })
    }

    fn detail(&self, problem: &Problem) -> Value {
        let Problem { code, message, place, label, related, help } = problem;
        let mut detail = json!({ "code": code, "message": message, "label": label, "help": help });
        match place {
            Place::File(Position { line, column, .. }) => {
                detail["file"] = json!(self.file);
                detail["line"] = json!(line);
                detail["column"] = json!(column);
            }
            Place::Variable(name) => detail["variable"] = json!(name),
            Place::Flag(name) => detail["flag"] = json!(name),
            Place::Nowhere => detail["file"] = json!(self.file),
        }
        let remark = |Label { position, text }: &Label| json!({ "line": position.line, "column": position.column, "text": text });
        detail["related"] = related.iter().map(remark).collect();
        detail
    }
}

impl Problem {
    /// A problem without a place yet.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            place: Place::Nowhere,
            label: String::new(),
            related: Vec::new(),
            help: None,
        }
    }

    /// Sets the place, unless a finer one is known already.
    pub(crate) fn at(mut self, place: Place) -> Self {
        if self.place == Place::Nowhere {
            self.place = place;
        }
        self
    }

    pub(crate) fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Adds a remark where the other value stands in the file; elsewhere the message has to say it.
    pub(crate) fn related(mut self, place: &Place, text: impl Into<String>) -> Self {
        if let Place::File(position) = place {
            self.related.push(Label { position: position.clone(), text: text.into() });
        }
        self
    }
}

impl fmt::Display for Problems {
    /// As [`Problems::render`] without colour.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
