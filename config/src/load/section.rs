//! One table of the file, read key by key: the mechanism behind every section.
//!
//! A reader asks for each key it knows, always, present or not; [`Section::finish`] then reports what nobody
//! asked for. A problem is recorded, and reading goes on with the default, so that one run finds them all. No
//! such default reaches anyone: with a problem there is no configuration.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::found::{Found, Raw};
use super::reader::{Reader, is_listed};
use super::suggestion;
use crate::{Place, Problem};

pub(super) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// `proxy`, `proxy.tls`, `route`; empty for the whole file.
    path: String,
    table: Option<&'a DeTable<'a>>,
    /// Where the table begins; nowhere if it is not in the file.
    header: Place,
    /// Its number among the tables of the reader.
    number: usize,
    known: Vec<&'static str>,
}

/// What became of one key.
pub(super) enum Reading<T> {
    Absent,
    /// A problem has been recorded.
    Invalid,
    Valid(T),
}

impl<'r, 'a> Section<'r, 'a> {
    /// The whole file.
    pub(super) fn root(reader: &'r mut Reader<'a>, table: &'a DeTable<'a>) -> Self {
        let number = reader.open(String::new(), "");
        let (path, table) = (String::new(), Some(table));
        Self { reader, path, table, header: Place::Nowhere, number, known: Vec::new() }
    }

    /// The table under a key; one that is absent reads like an empty one, because variables may fill it.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_, 'a> {
        let found = self.find_in_file(key);
        self.open(key, found, ["[", "]"])
    }

    /// One table of an array of tables; `None` with a problem recorded if it is none.
    pub(super) fn element(&mut self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Section<'_, 'a>> {
        let found = Found::in_file(value, self.reader.source);
        Some(self.open(key, Some(found), ["[[", "]]"])).filter(|section| section.is_present())
    }

    fn open(&mut self, key: &str, found: Option<Found<'a>>, brackets: [&str; 2]) -> Section<'_, 'a> {
        let path = self.full_key(key);
        let (mut table, mut header) = (None, Place::Nowhere);
        if let Some(found) = found {
            table = self.settle(key, found.place.clone(), found.as_table()).valid();
            header = found.place;
        }
        let number = self.reader.open(format!("{}{path}{}", brackets[0], brackets[1]), &path);
        Section { reader: self.reader, path, table, header, number, known: Vec::new() }
    }

    /// Whether the table is in the file.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the table has the key, valid or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> Place {
        self.header.clone()
    }

    /// Where a key of the table stands.
    pub(super) fn place_in_file(&self, key: &str) -> Place {
        let found = self.table.and_then(|table| table.get_key_value(key));
        found.map_or(Place::Nowhere, |(key, _)| self.reader.source.place(key.span()))
    }

    /// The folder at which relative paths of the file start.
    pub(super) fn folder(&self) -> &'a Path {
        self.reader.source.folder()
    }

    pub(super) fn integer<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        let reading = self.read(key, |found| found.as_integer(&range));
        reading.valid().and_then(|number| T::try_from(number).ok()).unwrap_or(default)
    }

    /// A number that has no default.
    pub(super) fn optional_integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.read(key, |found| found.as_integer(&range)).valid()
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.read(key, Found::as_boolean).valid().unwrap_or(default)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, |found| found.as_full_text().map(str::to_owned)).valid()
    }

    /// A path, made relative to the folder it was written in.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.read(key, Found::as_path).valid()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        self.read(key, |found| found.as_choice(choices)).valid().unwrap_or(default)
    }

    /// Reads one key with a decoder whose problems say what is wrong with the value, but not which key it is.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        decode: impl FnOnce(&Found<'a>) -> Result<T, Problem>,
    ) -> Reading<T> {
        let Some(found) = self.find(key) else {
            return Reading::Absent;
        };
        let reading = self.settle(key, found.place.clone(), decode(&found));
        if matches!(reading, Reading::Valid(_)) {
            self.reader.remember_place(self.full_key(key), found.place);
        }
        reading
    }

    /// A key that there was once: a problem that says what to write now.
    pub(super) fn refuse_retired(&mut self, key: &'static str, help: &str) {
        let full_key = self.full_key(key);
        let overridden = self.reader.take_override(&full_key).map(|(_, place)| place);
        let in_file = self.has(key).then(|| self.place_in_file(key));
        if in_file.is_some() {
            self.known.push(key);
        }
        for place in overridden.into_iter().chain(in_file) {
            let problem = Problem::new("key-retired", format!("`{full_key}` is no longer there")).at(place);
            self.report(problem.label("without effect").help(help));
        }
    }

    /// Reads the elements of an array; each one that is wrong is a problem of its own.
    pub(super) fn each<T>(
        &mut self,
        key: &'static str,
        decode: impl Fn(&Found<'a>) -> Result<T, Problem>,
    ) -> Reading<Vec<T>> {
        let elements = match self.read(key, Found::elements) {
            Reading::Valid(elements) => elements,
            Reading::Absent => return Reading::Absent,
            Reading::Invalid => return Reading::Invalid,
        };
        let number = elements.len();
        let values: Vec<T> = elements
            .into_iter()
            .filter_map(|element| self.settle(key, element.place.clone(), decode(&element)).valid())
            .collect();
        if values.len() == number { Reading::Valid(values) } else { Reading::Invalid }
    }

    /// As [`Section::read`]; that the key is absent is a problem too.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        decode: impl FnOnce(&Found<'a>) -> Result<T, Problem>,
    ) -> Option<T> {
        let reading = self.read(key, decode);
        if reading.is_absent() {
            self.report_missing(key);
        }
        reading.valid()
    }

    pub(super) fn report_missing(&mut self, key: &str) {
        let problem = Problem::new("key-missing", format!("`{}` is missing", self.full_key(key)))
            .at(self.header.clone())
            .label(format!("needs `{key}`"));
        self.report(problem);
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.reader.report(problem);
    }

    /// Where the valid value of a key came from, by its full name.
    pub(super) fn place_of(&self, full_key: &str) -> Place {
        self.reader.place_of(full_key)
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for key in table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let place = self.reader.source.place(key.span());
            let problem = self.describe_unknown(key.get_ref()).at(place);
            self.reader.report(problem);
        }
    }

    fn describe_unknown(&self, key: &str) -> Problem {
        let kind = if self.path.is_empty() { "section" } else { "key" };
        let problem = Problem::new("key-unknown", format!("unknown {kind} `{}`", self.full_key(key)))
            .label(format!("unknown {kind}"));
        let lower = key.to_ascii_lowercase();
        match suggestion::find_nearest(&lower, self.known.iter().copied()) {
            Some(nearest) => problem.help(format!("did you mean `{nearest}`?")),
            None => problem.help(format!("known here: {}", self.known.join(", "))),
        }
    }

    /// Records the problem, if there is one, under the name of the key.
    fn settle<T>(&mut self, key: &str, place: Place, result: Result<T, Problem>) -> Reading<T> {
        match result {
            Ok(value) => Reading::Valid(value),
            Err(mut problem) => {
                problem.message = format!("invalid `{}`: {}", self.full_key(key), problem.message);
                self.report(problem.at(place));
                Reading::Invalid
            }
        }
    }

    fn find(&mut self, key: &'static str) -> Option<Found<'a>> {
        let full_key = self.full_key(key);
        let overridden = if is_listed(&full_key) { None } else { self.reader.take_override(&full_key) };
        self.reader.keys.push(full_key);
        let in_file = self.find_in_file(key);
        let source = self.reader.source;
        let found = overridden.map(|(text, place)| Found { raw: Raw::Text(text), place, source }).or(in_file);
        let place = found.as_ref().map_or(Place::Nowhere, |found| found.place.clone());
        self.reader.tables[self.number].keys.push((key, place));
        found
    }

    fn find_in_file(&mut self, key: &'static str) -> Option<Found<'a>> {
        self.known.push(key);
        let value = self.table?.get(key)?;
        Some(Found::in_file(value, self.reader.source))
    }

    /// A key of the table as a person would name it: `proxy.listen`.
    pub(super) fn full_key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<T> Reading<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn valid(self) -> Option<T> {
        match self {
            Self::Valid(value) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }
}
