//! Where the values of a complete JSON document stand: for whoever has to exchange one of them and leave every other
//! byte alone.
//!
//! As lenient as the scanner (any depth, `NaN`, lone surrogates), never recursive, and without memory of its own. Of
//! an unbalanced document it says what it can and ends; it never panics.

use super::{
    lexer::{Passing, StringEnd, find_string_end},
    text,
};
use std::{borrow::Cow, ops::Range};

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key, unescaped.
    pub key: Cow<'a, [u8]>,
    /// Where its value stands in the document, quotes and braces included.
    pub value: Range<usize>,
}

/// The members of an object, in their order. Empty if there is no object.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    document: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// Those of the object that stands in this part of the document.
    pub fn of(document: &'a [u8], object: Range<usize>) -> Self {
        let document = document.get(..object.end).unwrap_or_default();
        let start = skip_blank(document, object.start);
        let at = if document.get(start) == Some(&b'{') { start + 1 } else { document.len() };
        Self { document, at }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let quote = skip_blank(self.document, self.at);
        if self.document.get(quote) != Some(&b'"') {
            self.at = self.document.len();
            return None;
        }
        let key_end = end_of_string(self.document, quote);
        let key = text::unescape_exact(self.document.get(quote + 1..key_end - 1)?);
        let start = skip_blank(self.document, key_end);
        let end = end_of_value(self.document, start);
        self.at = end;
        (start < end).then_some(Member { key, value: start..end })
    }
}

/// The elements of an array. Empty if there is no array.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    document: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    /// Those of the array that stands in this part of the document.
    pub fn of(document: &'a [u8], array: Range<usize>) -> Self {
        let document = document.get(..array.end).unwrap_or_default();
        let start = skip_blank(document, array.start);
        let at = if document.get(start) == Some(&b'[') { start + 1 } else { document.len() };
        Self { document, at }
    }
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = skip_blank(self.document, self.at);
        let end = end_of_value(self.document, start);
        self.at = if start < end { end } else { self.document.len() };
        (start < end).then_some(start..end)
    }
}

/// The value that a path of keys leads to. Of keys that come twice the last counts.
pub fn find_value(document: &[u8], object: Range<usize>, path: &[&[u8]]) -> Option<Range<usize>> {
    path.iter().try_fold(object, |object, key| {
        Members::of(document, object).filter(|member| *member.key == **key).last().map(|member| member.value)
    })
}

fn skip_blank(document: &[u8], from: usize) -> usize {
    let rest = document.get(from..).unwrap_or_default();
    let blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | 0xef | 0xbb | 0xbf);
    rest.iter().position(|byte| !blank(byte)).map_or(document.len(), |at| from + at)
}

/// Behind the closing quote of the string that begins here.
fn end_of_string(document: &[u8], quote: usize) -> usize {
    let part = find_string_end(false, &document[quote + 1..]);
    match part.end {
        StringEnd::Closed => quote + 1 + part.used,
        StringEnd::Open { .. } => document.len().max(quote + 2),
    }
}

/// Behind the value that begins here; here, if none does.
fn end_of_value(document: &[u8], start: usize) -> usize {
    let end = match document.get(start) {
        None | Some(b'}' | b']') => start,
        Some(b'"') => end_of_string(document, start),
        Some(b'{' | b'[') => end_of_container(document, start),
        Some(_) => {
            let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']' | b'"');
            document[start..].iter().position(ends).map_or(document.len(), |at| start + at)
        }
    };
    end.min(document.len())
}

fn end_of_container(document: &[u8], start: usize) -> usize {
    let mut passing = Passing::BEGIN;
    start + 1 + passing.pass(&document[start + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(document: &str, path: &[&str]) -> Option<String> {
        let path: Vec<&[u8]> = path.iter().map(|key| key.as_bytes()).collect();
        let found = find_value(document.as_bytes(), 0..document.len(), &path)?;
        Some(document[found].to_owned())
    }

    #[test]
    fn a_path_leads_to_the_bytes_as_they_were_written() {
        let document = r#" { "a" : {"b":[1,{"c":"}"}], "\u0064": 1.0e0 } ,"id": "x\"y" , "n":NaN} "#;
        assert_eq!(find(document, &["a", "d"]).as_deref(), Some("1.0e0"));
        assert_eq!(find(document, &["a", "b"]).as_deref(), Some(r#"[1,{"c":"}"}]"#));
        assert_eq!(find(document, &["id"]).as_deref(), Some(r#""x\"y""#));
        assert_eq!(find(document, &["n"]).as_deref(), Some("NaN"));
        assert_eq!(find(document, &["a", "b", "c"]), None, "an array has no members");
        assert_eq!(find(document, &["c"]), None);
    }

    #[test]
    fn of_a_key_that_comes_twice_the_last_counts() {
        assert_eq!(find(r#"{"id":1,"id":2}"#, &["id"]).as_deref(), Some("2"));
    }

    #[test]
    fn elements_are_the_values_of_an_array() {
        let document = br#"[1, {"a":[2,3]} ,"x]", null]"#;
        let found: Vec<_> = Elements::of(document, 0..document.len()).map(|at| &document[at]).collect();
        assert_eq!(found, [&b"1"[..], br#"{"a":[2,3]}"#, br#""x]""#, b"null"]);
        assert_eq!(Elements::of(b"{}", 0..2).count(), 0);
    }

    #[test]
    fn every_beginning_of_a_document_ends_without_a_panic() {
        let document = r#"[{"a":{"b":["c\\\"",{"d":1}]},"e":true,"f":"g\u00"}]"#.as_bytes();
        for end in 0..document.len() {
            let cut = &document[..end];
            for element in Elements::of(cut, 0..end) {
                let members: Vec<_> = Members::of(cut, element).collect();
                assert!(members.len() <= 3);
            }
            assert_eq!(find_value(cut, Range { start: 5, end: 3 }, &[b"a"]), None);
        }
        assert_eq!(Members::of(b"{\"", 0..2).count(), 0);
        assert_eq!(Members::of(b"{\"a\"}", 0..5).count(), 0);
        assert_eq!(Members::of(b"{:::", 0..400).count(), 0);
    }
}
