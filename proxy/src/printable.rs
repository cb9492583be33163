//! Texts that a caller has chosen, for people and terminals: names of tools, mostly. What is stored is never changed.

/// The text with blanks in the place of what would move the cursor, ring the bell, turn the direction of what follows, or
/// be there unseen.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if is_hidden(character) { ' ' } else { character }).collect()
}

/// Whether that changes nothing.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.contains(is_hidden)
}

/// Controls, separators of lines, marks of direction, and what has no width but those that letters are joined by.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_moves_rings_turns_or_hides() {
        for (text, expected) in [
            ("search_files", "search_files"),
            ("検索 é ✓ 👩\u{200d}🚀", "検索 é ✓ 👩\u{200d}🚀"),
            ("a\u{1b}[2J\u{7}\r\n\u{9b}b", "a [2J    b"),
            ("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{e0041}f", "a b c d e f"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
