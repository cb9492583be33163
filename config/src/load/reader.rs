//! What all sections share while one configuration is read: overrides, and the problems so far.

use std::collections::BTreeMap;

use super::{Source, numbered::Numbered, suggestion};
use crate::{Place, Problem};

pub(super) struct Reader<'a> {
    pub(super) source: &'a Numbered<'a>,
    pub(super) problems: Vec<Problem>,
    /// Every key that was asked for, as `proxy.listen`: what exists, and so what may be suggested.
    pub(super) keys: Vec<String>,
    /// Where the valid values came from; a default is not listed.
    places: BTreeMap<String, Place>,
    /// Every table that was opened, with what was asked of it.
    pub(super) tables: Vec<Asked>,
    overrides: Vec<Override<'a>>,
}

/// One table: all its keys that exist, in the order in which they were asked for, and where their values stand.
pub(super) struct Asked {
    /// As the file heads it: `[proxy]`, `[[route]]`; empty for the whole file.
    pub(super) header: String,
    /// `proxy`, `route`; empty for the whole file.
    pub(super) path: String,
    /// A key that has no value has no place.
    pub(super) keys: Vec<(&'static str, Place)>,
}

/// A value that takes the place of the file's.
struct Override<'a> {
    key: String,
    value: &'a str,
    place: Place,
    used: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Numbered<'a>) -> Self {
        let overrides = source.flags.iter().map(|flag| Override {
            key: flag.key.to_owned(),
            value: flag.value,
            place: Place::Flag(flag.name.to_owned()),
            used: false,
        });
        let overrides = overrides.chain(section_variables(source)).chain(database_url(source)).collect();
        Self {
            source,
            problems: Vec::new(),
            keys: Vec::new(),
            places: BTreeMap::new(),
            tables: Vec::new(),
            overrides,
        }
    }

    /// Opens a table, and gives it its number.
    pub(super) fn open(&mut self, header: String, path: &str) -> usize {
        self.tables.push(Asked { header, path: path.to_owned(), keys: Vec::new() });
        self.tables.len() - 1
    }

    /// What a flag or a variable says of a key, if its place is one.
    pub(super) fn overriding(&self, key: &str, place: &Place) -> Option<&'a str> {
        let is_it = |one: &&Override<'_>| one.key == key && one.place == *place;
        self.overrides.iter().find(is_it).map(|one| one.value)
    }

    /// The strongest override of a key. All its overrides count as used, also the weaker ones.
    pub(super) fn take_override(&mut self, key: &str) -> Option<(&'a str, Place)> {
        let mut strongest = None;
        for candidate in self.overrides.iter_mut().filter(|candidate| candidate.key == key) {
            candidate.used = true;
            strongest = strongest.or_else(|| Some((candidate.value, candidate.place.clone())));
        }
        strongest
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn remember_place(&mut self, key: String, place: Place) {
        self.places.insert(key, place);
    }

    /// Where a valid value came from.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or(Place::Nowhere)
    }

    /// Variables and flags that set nothing. Their values are not shown: they may be misspelled secrets.
    pub(super) fn report_unused_overrides(&mut self) {
        let problems: Vec<_> =
            self.overrides.iter().filter(|one| !one.used).map(|one| self.describe_unused(one)).collect();
        self.problems.extend(problems);
    }

    fn describe_unused(&self, unused: &Override<'_>) -> Problem {
        let nearest = suggestion::find_nearest(&unused.key, self.keys.iter().map(String::as_str));
        let meant = nearest.unwrap_or(&unused.key);
        let problem = match &unused.place {
            Place::Variable(name) => Problem::new("variable-unknown", format!("`{name}` sets no key")),
            _ => Problem::new("flag-unknown", format!("there is no key `{}`", unused.key)),
        };
        let problem = problem.at(unused.place.clone());
        match (nearest, &unused.place) {
            _ if is_listed(meant) => {
                let list = meant.split('.').next().unwrap_or(meant);
                problem.help(format!("{list}s are set in the file only, as [[{list}]]"))
            }
            (Some(key), Place::Variable(_)) => problem.help(format!("did you mean `{}`?", variable_of(key))),
            (Some(key), _) => problem.help(format!("did you mean `{key}`?")),
            (None, _) => problem,
        }
    }
}

/// What there may be several of.
const LISTS: [&str; 4] = ["limit", "quota", "route", "rule"];

/// Whether a key is part of a route or the like, and so cannot be overridden: which route would it be?
pub(super) fn is_listed(key: &str) -> bool {
    LISTS.contains(&key.split('.').next().unwrap_or(key)) || key.starts_with("privacy.redact.")
}

/// A double underscore is what makes a variable ours: `MCPMETER_CONFIG` belongs to the command line.
fn section_variables<'a>(source: &'a Source<'a>) -> impl Iterator<Item = Override<'a>> {
    source.environment.iter().filter_map(|(name, value)| {
        let key = name.strip_prefix("MCPMETER_").filter(|rest| rest.contains("__"))?;
        Some(Override {
            key: key.replace("__", ".").to_ascii_lowercase(),
            value,
            place: Place::Variable(name.clone()),
            used: false,
        })
    })
}

/// The variable that platforms set for whatever database they provide; only PostgreSQL is meant for us.
fn database_url<'a>(source: &'a Source<'a>) -> Option<Override<'a>> {
    let (name, value) = source.environment.iter().find(|(name, _)| name == "DATABASE_URL")?;
    super::store::is_postgres(value).then(|| Override {
        key: "store.url".to_owned(),
        value,
        place: Place::Variable(name.clone()),
        used: false,
    })
}

fn variable_of(key: &str) -> String {
    format!("MCPMETER_{}", key.replace('.', "__").to_ascii_uppercase())
}
