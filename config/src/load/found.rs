//! One value as it was found, and its conversion to the type its key has.
//!
//! The problems made here say what is wrong with the value; [`super::section`] adds which key it is. A value
//! is quoted in a message only where it can be no secret.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::{Source, numbered::Numbered, suggestion};
use crate::{Place, Problem};

/// A value, and where it came from.
pub(super) struct Found<'a> {
    pub(super) raw: Raw<'a>,
    pub(super) place: Place,
    pub(super) source: &'a Numbered<'a>,
}

pub(super) enum Raw<'a> {
    /// From the file.
    Toml(&'a DeValue<'a>),
    /// From a variable or a flag; it takes the type of its key.
    Text(&'a str),
}

impl<'a> Found<'a> {
    pub(super) fn in_file(value: &'a Spanned<DeValue<'a>>, source: &'a Numbered<'a>) -> Self {
        let place = source.place(value.span());
        Self { raw: Raw::Toml(value.get_ref()), place, source }
    }

    /// The folder at which a relative path starts.
    pub(super) fn base(&self) -> &'a Path {
        match self.raw {
            Raw::Toml(_) => self.source.folder(),
            Raw::Text(_) => Path::new(""),
        }
    }

    pub(super) fn as_text(&self) -> Result<&'a str, Problem> {
        match self.raw {
            Raw::Toml(DeValue::String(text)) => Ok(text),
            Raw::Text(text) => Ok(text),
            Raw::Toml(_) => Err(self.expected("a string")),
        }
    }

    pub(super) fn as_full_text(&self) -> Result<&'a str, Problem> {
        match self.as_text()? {
            "" => Err(Problem::new("value-invalid", "it is empty").label("empty")),
            text => Ok(text),
        }
    }

    /// A path, relative to the folder it was written in.
    pub(super) fn as_path(&self) -> Result<PathBuf, Problem> {
        Ok(self.base().join(self.as_full_text()?))
    }

    pub(super) fn as_boolean(&self) -> Result<bool, Problem> {
        match self.raw {
            Raw::Toml(&DeValue::Boolean(value)) => Ok(value),
            Raw::Text("true") => Ok(true),
            Raw::Text("false") => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    pub(super) fn as_integer(&self, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
        let number = match self.raw {
            Raw::Toml(DeValue::Integer(number)) => number_of(number),
            Raw::Text(text) if is_integer(text) => text.parse().ok(),
            _ => return Err(self.expected("an integer")),
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            Problem::new("value-range", format!("it must be from {low} to {high}")).label("out of range")
        })
    }

    pub(super) fn as_choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Problem> {
        let text = self.as_text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let problem = Problem::new("value-choice", format!("it must be one of {}", words.join(", ")));
        let problem = problem.label("not one of them");
        let lower = text.to_ascii_lowercase();
        Err(match suggestion::find_nearest(&lower, choices.iter().map(|(word, _)| *word)) {
            Some(word) => problem.help(format!("did you mean \"{word}\"?")),
            None => problem,
        })
    }

    /// The elements of an array; in a variable or a flag they are separated by commas.
    pub(super) fn elements(&self) -> Result<Vec<Found<'a>>, Problem> {
        let source = self.source;
        match self.raw {
            Raw::Toml(DeValue::Array(array)) => {
                Ok(array.iter().map(|element| Found::in_file(element, source)).collect())
            }
            Raw::Toml(_) => Err(self.expected("an array")),
            Raw::Text(text) => {
                let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
                let found = |text| Found { raw: Raw::Text(text), place: self.place.clone(), source };
                Ok(elements.map(found).collect())
            }
        }
    }

    pub(super) fn as_table(&self) -> Result<&'a DeTable<'a>, Problem> {
        match self.raw {
            Raw::Toml(DeValue::Table(table)) => Ok(table),
            _ => Err(self.expected("a table")),
        }
    }

    /// The array behind `[[name]]`.
    pub(super) fn as_tables(&self) -> Result<&'a DeArray<'a>, Problem> {
        match self.raw {
            Raw::Toml(DeValue::Array(array)) => Ok(array),
            Raw::Toml(DeValue::Table(_)) => {
                Err(self.expected("an array of tables").help("write two brackets, as in [[route]]"))
            }
            _ => Err(self.expected("an array of tables")),
        }
    }

    /// The value has another type than its key.
    pub(super) fn expected(&self, expected: &str) -> Problem {
        let found = match &self.raw {
            Raw::Toml(DeValue::Integer(_)) => "an integer".to_owned(),
            Raw::Toml(DeValue::Array(_)) => "an array".to_owned(),
            Raw::Toml(value) => format!("a {}", value.type_str()),
            Raw::Text(text) => format!("`{text}`"),
        };
        Problem::new("value-type", format!("expected {expected}, found {found}"))
            .label(format!("expected {expected}"))
    }
}

impl<'a> Source<'a> {
    /// The folder of the file, where its relative paths start; without a file the current directory, as "".
    pub(super) fn folder(&self) -> &'a Path {
        self.path.and_then(Path::parent).unwrap_or(Path::new(""))
    }
}

fn number_of(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
