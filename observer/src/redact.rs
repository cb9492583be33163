//! What must not be kept is taken out here, before a text becomes part of a record (promise 5): credentials in the forms
//! that turn up in messages, numbers and addresses of people, and what the operator's own patterns say.
//!
//! Looks for each kind in the text as it is written and as its escapes mean it, and takes time in proportion to its length.
//! Fails closed: a text that cannot be looked through is not kept at all. What is not recognised stays, so texts are capped
//! as well.

mod document;
mod email;
mod escape;
mod finding;
mod glance;
mod iban;
mod named;
mod number;
mod opaque;
pub(crate) mod own;
mod place;
mod private_key;
mod token;
mod url;
mod value;

use crate::call::Text;
use finding::{Found, Rule};
use glance::Glance;
use regex::Regex;
use std::{borrow::Cow, sync::Arc};

/// The longest text that is looked through, in bytes. It takes well below a millisecond.
const MAX_TEXT: usize = 64 << 10;
/// What stands in the place of a longer one.
const TOO_LONG: &str = "[redacted: too long]";
/// What stands in the place of a text in an encoding that is not UTF-8: names of secrets cannot be read in it.
const UNREADABLE: &str = "[redacted: not UTF-8]";
/// Characters that could not be read; JavaScript makes one where it cuts a text within a character.
const MAX_UNREADABLE: usize = 1;
/// The most matches of one pattern of the operator's in a text. Looking for each begins anew, so that what is proportional
/// to the text is the time for one.
const MAX_MATCHES: usize = 256;
/// What is shorter is not looked for by itself: it stands everywhere.
const MIN_SECRET: usize = 4;
/// What stands in the place of a text with more.
const TOO_MUCH: &str = "[redacted: too many matches]";

/// Kinds of personal data that an operator may want to keep. Credentials are no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personal {
    /// E-mail addresses.
    Email,
    /// Phone numbers.
    Phone,
    /// Numbers of payment cards.
    Card,
    /// Japanese individual numbers.
    MyNumber,
    /// International bank account numbers.
    Iban,
}

/// A pattern of the operator's, and what it is called in the place of what it matches.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The mask says it.
    pub name: Text,
    /// Must not match the empty text. Whoever compiles it bounds its size.
    pub regex: Regex,
}

/// Takes out of texts what must not be kept. Made once per configuration, shared by all instances.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Rules that are not applied.
    dropped: Vec<Rule>,
    patterns: Vec<Pattern>,
}

/// How a text ends that is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its own end.
    Whole,
    /// Somewhere: what stands there may be the beginning of a secret.
    Cut,
}

impl End {
    pub(crate) const fn of(is_cut: bool) -> Self {
        if is_cut { Self::Cut } else { Self::Whole }
    }
}

impl Redactor {
    /// All kinds but those that are to be kept, and the operator's patterns.
    pub fn new(kept: &[Personal], patterns: Vec<Pattern>) -> Arc<Self> {
        named::prepare();
        url::prepare();
        let rules = |kind: &Personal| match kind {
            Personal::Email => &[Rule::Email][..],
            Personal::Phone => &[Rule::InternationalPhone, Rule::AmericanPhone, Rule::JapanesePhone],
            Personal::Card => &[Rule::Card],
            Personal::MyNumber => &[Rule::MyNumber],
            Personal::Iban => &[Rule::Iban],
        };
        Arc::new(Self { dropped: kept.iter().flat_map(rules).copied().collect(), patterns })
    }

    /// The text with a mask in the place of each secret. Takes time in proportion to its length.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redact_until(text, text.len(), "")
    }

    /// A JSON text, of which everything stays but what is secret in its strings and numbers; as much of it as goes into
    /// `cap` bytes.
    pub fn redact_document(&self, json: &str, cap: usize) -> Text {
        let mut kept = document::redact(self, json, cap, End::Whole);
        kept.truncate(kept.floor_char_boundary(cap));
        kept.into()
    }

    /// The same for a message or its beginning: where it was cut, nothing stays that could be the beginning of a secret.
    pub(crate) fn redact_message(&self, json: &str, end: End) -> String {
        document::redact(self, json, usize::MAX, end)
    }

    /// A text as a record may keep it: secrets masked, at most `cap` bytes, cut at a whole character.
    pub(crate) fn keep(&self, text: &str, cap: usize, end: End) -> Text {
        let text = self.read_document(text, end);
        let until = if end == End::Cut { place::safe_end(&text) } else { text.len() };
        let masked = self.redact_until(&text, until, "");
        masked[..masked.floor_char_boundary(cap)].into()
    }

    /// A text that is a document itself, as many tools answer, read as one: there, names say what other strings are.
    fn read_document<'t>(&self, text: &'t str, end: End) -> Cow<'t, str> {
        if text.len() > MAX_TEXT || !document::is_one(text) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(document::redact(self, text, usize::MAX, end))
    }

    /// The same for what stands in JSON without quotes.
    fn redact_with_quotes<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redact_until(text, text.len(), "\"")
    }

    /// The text up to `until`, looked at as a whole.
    fn redact_until<'t>(&self, text: &'t str, until: usize, quote: &str) -> Cow<'t, str> {
        if text.len() > MAX_TEXT {
            return TOO_LONG.into();
        }
        let glance = Glance::at(text);
        if glance.has(glance::WIDE) && text.matches(char::REPLACEMENT_CHARACTER).nth(MAX_UNREADABLE).is_some()
        {
            return UNREADABLE.into();
        }
        let Some(found) = self.find(text, glance) else { return TOO_MUCH.into() };
        let decoded = if glance.has(glance::ESCAPE) { escape::decode(text) } else { None };
        let Some(plain) = decoded else { return self.replace(text, until, found, quote) };
        match self.find(&plain, Glance::at(&plain)) {
            Some(meant) if meant.is_empty() => self.replace(text, until, found, quote),
            Some(meant) if meant.len().max(found.len()) > MAX_MATCHES => TOO_MUCH.into(),
            Some(meant) => {
                let until =
                    escape::decode(&text[..until]).map_or(until, |plain| plain.len()).min(plain.len());
                let masked = self.replace(&plain, plain.floor_char_boundary(until), meant, quote);
                without_written(masked.into_owned(), text, &found).into()
            }
            None => TOO_MUCH.into(),
        }
    }

    /// `None` if there is too much to be found.
    fn find(&self, text: &str, glance: Glance) -> Option<Vec<Found>> {
        let mut found = find_known(text, glance);
        if !self.dropped.is_empty() {
            found.retain(|found| !self.dropped.contains(&found.rule));
        }
        for (place, pattern) in self.patterns.iter().enumerate() {
            let matches = pattern.regex.find_iter(text).filter(|found| !found.is_empty());
            let before = found.len();
            found.extend(
                matches.take(MAX_MATCHES).map(|found| Found::new(found.range(), Rule::Pattern(place))),
            );
            if found.len() == before + MAX_MATCHES {
                return None;
            }
        }
        Some(found)
    }

    /// The text up to `until` with masks, or as it is.
    fn replace<'t>(&self, text: &'t str, until: usize, mut found: Vec<Found>, quote: &str) -> Cow<'t, str> {
        found.retain(|found| found.bytes.start < until);
        // What begins before the end has been seen behind it, too.
        let until = found.iter().fold(until, |until, found| until.max(found.bytes.end));
        if found.is_empty() {
            return Cow::Borrowed(&text[..until]);
        }
        let masked = finding::replace(&text[..until], found, |kept, rule| {
            let name = match rule {
                Rule::Pattern(place) => Some(&*self.patterns[place].name),
                rule => finding::name_of(rule),
            };
            kept.push_str(quote);
            kept.push_str("[redacted");
            if let Some(name) = name {
                kept.push(' ');
                kept.push_str(name);
            }
            kept.push(']');
            kept.push_str(quote);
        });
        Cow::Owned(masked)
    }
}

/// Looks for one kind.
type Finder = fn(&str, &mut Vec<Found>);

/// What is found by the rules that everybody has.
fn find_known(text: &str, glance: Glance) -> Vec<Found> {
    use glance::{AT, BREAK, COLON, DIGIT, EQUALS, ESCAPE, HYPHEN, SLASH, UPPER, WIDE};
    let mut found = Vec::new();
    // The first of two that begin together gives the mask its name.
    let finders: [(bool, Finder); 9] = [
        (glance.has(HYPHEN) && glance.has(UPPER), private_key::find),
        (glance.has(COLON | EQUALS | BREAK | ESCAPE | WIDE), named::find),
        (glance.has(AT) && glance.has(COLON), url::find_users),
        (glance.has(EQUALS), url::find_parameters),
        (glance.has(SLASH), url::find_webhooks),
        (glance.has(DIGIT | UPPER), token::find),
        (glance.has(AT | WIDE), email::find),
        (glance.digits >= number::MIN_DIGITS || glance.has(WIDE), number::find),
        (glance.has(UPPER) && glance.digits > 1, iban::find),
    ];
    for (is_possible, find) in finders {
        if is_possible {
            find(text, &mut found);
        }
    }
    found
}

/// A text in which escapes are undone, also without what was found in it as it was written.
fn without_written(mut plain: String, text: &str, found: &[Found]) -> String {
    for found in found {
        let written = &text[found.bytes.clone()];
        let meant = escape::decode(written).unwrap_or_else(|| written.to_owned());
        if meant.len() >= MIN_SECRET && plain.contains(&meant) {
            plain = plain.replace(&meant, "[redacted]");
        }
    }
    plain
}

#[cfg(test)]
mod tests;
