//! The members of messages and of their `params`, each seen as often as it is written.

use super::{Envelope, MAX_MESSAGES, Message, TOOLS_CALL, Unreadable};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// Reads a whole body: a message, or an array of them.
pub(super) fn read_document(text: &str) -> Result<Envelope<'_>, Unreadable> {
    // From here on it is known to be JSON, with nothing behind it.
    let whole: &RawValue = serde_json::from_str(text).map_err(|_| Unreadable::Json)?;
    if !whole.get().starts_with('[') {
        return Ok(Envelope { messages: vec![read_message(whole)?], is_batch: false });
    }
    let mut messages = Vec::new();
    for_each(whole, |_, element| match messages.len() {
        MAX_MESSAGES => Err(Unreadable::Batch),
        _ => {
            messages.push(read_message(element)?);
            Ok(())
        }
    })?;
    if messages.is_empty() { Err(Unreadable::NoMessage) } else { Ok(Envelope { messages, is_batch: true }) }
}

fn read_message(value: &RawValue) -> Result<Message<'_>, Unreadable> {
    if !value.get().starts_with('{') {
        return Err(Unreadable::NoMessage);
    }
    let (mut message, mut params) = (Message::default(), None);
    for_each(value, |key, value| {
        let is_new = match name_of(key, &["method", "params", "id"]) {
            Name::Known("method") => {
                message.method.replace(text_of(value).ok_or(Unreadable::Method)?).is_none()
            }
            Name::Known("params") => params.replace(value).is_none(),
            Name::Known(_) => {
                let id = Some(value.get()).filter(|id| is_id(id)).ok_or(Unreadable::Id)?;
                message.id.replace(id).is_none()
            }
            Name::Almost => return Err(Unreadable::AlmostMember),
            Name::Other => true,
        };
        if is_new { Ok(()) } else { Err(Unreadable::Duplicate) }
    })?;
    match message.method.as_deref() {
        // Whatever the method is, some server would see another one.
        Some(method) if method.contains(char::is_control) => return Err(Unreadable::Method),
        Some(TOOLS_CALL) => message.tool = Some(tool_of(params.ok_or(Unreadable::Tool)?)?),
        Some(method) if resembles(method.trim(), TOOLS_CALL) => return Err(Unreadable::Method),
        _ => {}
    }
    Ok(message)
}

/// `params.name` of a call.
fn tool_of(params: &RawValue) -> Result<Cow<'_, str>, Unreadable> {
    if !params.get().starts_with('{') {
        return Err(Unreadable::Tool);
    }
    let mut tool = None;
    for_each(params, |key, value| match name_of(key, &["name"]) {
        Name::Known(_) if tool.is_some() => Err(Unreadable::Duplicate),
        Name::Known(_) => {
            tool = Some(text_of(value).ok_or(Unreadable::Tool)?);
            Ok(())
        }
        Name::Almost => Err(Unreadable::AlmostMember),
        Name::Other => Ok(()),
    })?;
    let is_plain = |name: &Cow<'_, str>| !name.contains(char::is_control) && name.trim() == name;
    tool.filter(is_plain).ok_or(Unreadable::Tool)
}

/// The text of a string. Of one with half a surrogate pair there is none, and of what is no string.
fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        return serde_json::from_str(value.get()).map(Cow::Owned).ok();
    }
    Some(Cow::Borrowed(inside))
}

/// A string, a number or `null`.
fn is_id(raw: &str) -> bool {
    match raw.as_bytes() {
        [b'"', ..] => serde_json::from_str::<Cow<'_, str>>(raw).is_ok(),
        [first, ..] => first.is_ascii_digit() || *first == b'-' || raw == "null",
        [] => false,
    }
}

/// What a member is called.
enum Name {
    /// Exactly so.
    Known(&'static str),
    /// So to servers that are less exact.
    Almost,
    Other,
}

fn name_of(key: &str, names: &[&'static str]) -> Name {
    if let Some(name) = names.iter().find(|name| **name == key) {
        return Name::Known(name);
    }
    // JavaScript copies the members of `__proto__` into what it copies, and C ends a name at NUL.
    let is_almost =
        key == "__proto__" || key.contains(char::is_control) || names.iter().any(|name| resembles(key, name));
    if is_almost { Name::Almost } else { Name::Other }
}

/// Whether a text is the name, which is in lower case, once case is disregarded as generously as any language does it:
/// to Go `ſ` is an `s` and the Kelvin sign a `k`; elsewhere a dotless or dotted `i` is an `i`.
fn resembles(text: &str, name: &str) -> bool {
    // What folds to a letter has at most three bytes, and a dot of two may follow.
    if !(name.len()..=5 * name.len()).contains(&text.len()) {
        return false;
    }
    let folded = text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    folded.filter(|folded| *folded != '\u{307}').eq(name.chars())
}

/// Shows every member of an object with its key, or every element of an array with none, in order; ends with the first
/// that is refused. To be used on valid JSON.
fn for_each<'v>(
    value: &'v RawValue,
    see: impl FnMut(&str, &'v RawValue) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut refused = None;
    let visitor = ForEach { see, refused: &mut refused };
    let read = serde_json::Deserializer::from_str(value.get()).deserialize_any(visitor);
    // Nothing else can be wrong but a key with half a surrogate pair.
    read.map_err(|_| refused.unwrap_or(Unreadable::Json))
}

struct ForEach<'r, F> {
    see: F,
    refused: &'r mut Option<Unreadable>,
}

impl<'de, F: FnMut(&str, &'de RawValue) -> Result<(), Unreadable>> ForEach<'_, F> {
    /// `serde` has no words for what is refused, so it is noted beside.
    fn show<E: Error>(&mut self, key: &str, value: &'de RawValue) -> Result<(), E> {
        (self.see)(key, value).map_err(|unreadable| {
            *self.refused = Some(unreadable);
            E::custom(unreadable)
        })
    }
}

impl<'de, F: FnMut(&str, &'de RawValue) -> Result<(), Unreadable>> Visitor<'de> for ForEach<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key_seed(Key)? {
            self.show(&key, members.next_value()?)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            self.show("", element)?;
        }
        Ok(())
    }
}

/// Reads a key, unescaped.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
