//! Names with `*` in them, as rules and limits select by. No regular expressions: a pattern is read at a glance, and
//! matched in time that grows with the product of two short texts, never worse.

use std::fmt;

/// A text in which every `*` stands for any number of characters, also none. There is no way to write a plain `*`, and
/// upper and lower case differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that is written like this.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of the text is what the pattern stands for.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The earliest place of each part leaves the most for those after it.
        for part in middle.split('*') {
            match text.find(part) {
                Some(at) => text = &text[at + part.len()..],
                None => return false,
            }
        }
        text.ends_with(last)
    }

    /// Whether it matches all that the other one does. A `*` of the other can only be met by one of ours.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        for (pattern, yes, no) in [
            ("read", &["read"][..], &["", "Read", "read ", "reader", "re"][..]),
            ("*", &["", "a", "*", "ä\n"], &[]),
            ("read_*", &["read_", "read_file"], &["read", "xread_", "Read_file"]),
            ("*_file", &["_file", "read_file"], &["_files", "file"]),
            ("a*b*c", &["abc", "aXbYc", "abbc", "abcbc"], &["ab", "ac", "acb", "abcX", "Xabc"]),
            ("**", &["", "x"], &[]),
            ("a**b", &["ab", "axb"], &["a", "b"]),
            ("ab*ba", &["abba", "abXba"], &["aba", "ab", "ba"]),
            ("a*a", &["aa", "aXa"], &["a"]),
            ("", &[""], &["a"]),
            ("*ä*", &["ä", "xäy"], &["a"]),
            ("a.c", &["a.c"], &["abc"]),
        ] {
            let matches = |text: &&&str| Pattern::new(pattern).matches(text);
            assert_eq!(yes.iter().filter(matches).count(), yes.len(), "{pattern}");
            assert_eq!(no.iter().filter(matches).count(), 0, "{pattern}");
        }
    }

    #[test]
    fn many_stars_cost_little() {
        let pattern = Pattern::new("*a".repeat(500));
        let text = "a".repeat(499) + "b" + &"a".repeat(20_000);
        let began = std::time::Instant::now();
        assert!(pattern.matches(&text) && !pattern.matches(&text[..500]));
        assert!(began.elapsed().as_millis() < 500);
    }

    #[test]
    fn one_pattern_covers_another_only_if_it_matches_all_of_it() {
        let covers = |wide: &str, narrow: &str| Pattern::new(wide).covers(&Pattern::new(narrow));
        assert!(covers("*", "a*") && covers("a*", "ab*") && covers("a*", "a*") && covers("a*c", "ab*c"));
        assert!(!covers("a", "*") && !covers("a*", "*") && !covers("ab*", "a*") && !covers("*b", "*"));
    }
}
