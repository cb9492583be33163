//! A pattern of the operator's: something that must not be kept and that only this house knows.

use regex::{Regex, RegexBuilder};

/// The most bytes a compiled pattern may take, and as many again what it needs while it is applied.
const MAX_SIZE: usize = 1 << 20;
/// The deepest nesting of groups.
const MAX_NESTING: u32 = 32;

/// A regular expression in the syntax of the `regex` crate, and what its matches are called.
#[derive(Clone, Debug)]
pub struct SecretPattern {
    /// Stands in the place of what is taken out.
    pub name: String,
    /// Compiled within limits; never matches the empty text.
    pub regex: Regex,
}

/// Two patterns are the same if they are written the same.
impl PartialEq for SecretPattern {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for SecretPattern {}

/// Compiles a pattern, or says why not, in a few words.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).nest_limit(MAX_NESTING);
    let regex = builder.build().map_err(|error| describe(&error))?;
    if regex.is_match("") {
        return Err("it matches the empty text, and so everywhere".to_owned());
    }
    Ok(regex)
}

/// A syntax error is shown in several lines, of which the last one says what is wrong.
fn describe(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("compiled, it takes more than {limit} bytes"),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}
