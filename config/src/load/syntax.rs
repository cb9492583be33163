//! Syntax errors of the TOML parser as problems, and what of the rest can be believed beside them.

use toml::de::Error;

use super::numbered::Numbered;
use crate::{Place, Problem};

/// The syntax errors, and those other problems that are no consequence of one.
///
/// The parser guesses what a broken line means and goes on. After a wrong guess a key may seem unknown or
/// missing, so only problems with values count, and only on lines that are sound.
pub(super) fn merge(source: &Numbered<'_>, errors: &[Error], problems: Vec<Problem>) -> Vec<Problem> {
    if errors.is_empty() {
        return problems;
    }
    let mut all: Vec<Problem> = errors.iter().map(|error| describe(source, error)).collect();
    let broken: Vec<usize> = all.iter().filter_map(line_of).collect();
    let credible = |problem: &Problem| {
        problem.code.starts_with("value-") && line_of(problem).is_none_or(|line| !broken.contains(&line))
    };
    all.extend(problems.into_iter().filter(credible));
    all
}

fn line_of(problem: &Problem) -> Option<usize> {
    match &problem.place {
        Place::File(position) => Some(position.line),
        _ => None,
    }
}

fn describe(source: &Numbered<'_>, error: &Error) -> Problem {
    let end = source.text.len();
    let span = error.span().unwrap_or(end..end);
    let message = error.message();
    let problem = Problem::new("toml-syntax", format!("not TOML: {message}")).at(source.place(span));
    if message.starts_with("duplicate key") {
        return problem.label("set above already");
    }
    // `listen = 127.0.0.1:7300` is a float gone wrong to the parser.
    let unquoted = ["string values must be quoted", "invalid float", "invalid integer", "invalid date"];
    if unquoted.iter().any(|beginning| message.starts_with(beginning)) {
        return problem.help("texts, addresses and paths stand in quotes: key = \"value\"");
    }
    problem
}
