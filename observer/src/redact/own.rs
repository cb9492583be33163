//! Secrets that are known: what a client has shown in its own head, wherever its server repeats it. They may have any form,
//! so that no rule finds them.

use std::borrow::Cow;

/// What is shorter is no secret, and stands everywhere.
const MIN: usize = 8;
const MASK: &str = "[redacted]";

/// Whether a text is long enough to be looked for.
pub(crate) const fn is_long_enough(secret: &str) -> bool {
    secret.len() >= MIN
}

/// The text without the secret, and without a beginning of it that is at least half of it: texts are cut. Secrets of
/// fewer than 8 bytes are not looked for.
pub(crate) fn without<'t>(text: &'t str, secret: &str) -> Cow<'t, str> {
    let Some(begin) = secret.get(..secret.floor_char_boundary(MIN)).filter(|begin| begin.len() >= MIN) else {
        return Cow::Borrowed(text);
    };
    let least = MIN.max(secret.len() / 2);
    let (mut kept, mut behind) = (String::new(), 0);
    for (at, _) in text.match_indices(begin) {
        let same = common(&text[at..], secret);
        if same >= least && at >= behind {
            kept.push_str(&text[behind..at]);
            kept.push_str(MASK);
            behind = at + same;
        }
    }
    if behind == 0 {
        return Cow::Borrowed(text);
    }
    kept.push_str(&text[behind..]);
    Cow::Owned(kept)
}

/// How many bytes two texts begin with that are the same, up to a whole character.
fn common(text: &str, secret: &str) -> usize {
    let same = text.bytes().zip(secret.bytes()).take_while(|(one, other)| one == other).count();
    secret.floor_char_boundary(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_secret_is_taken_out_whole_or_cut() {
        let secret = "Zx81-4fd2-9c0e-77aa";
        for (text, kept) in [
            ("no such token Zx81-4fd2-9c0e-77aa, sorry", "no such token [redacted], sorry"),
            ("Zx81-4fd2-9c0e-77aaZx81-4fd2-9c0e-77aa", "[redacted][redacted]"),
            ("it was cut: Zx81-4fd2-9c", "it was cut: [redacted]"),
            ("Zx81-4fd", "Zx81-4fd"),
            ("Zx81-4fé", "Zx81-4fé"),
            ("", ""),
        ] {
            assert_eq!(without(text, secret), kept);
        }
        assert_eq!(without("a short one", "short"), "a short one");
        assert_eq!(without("ééééé", "éééééé"), "[redacted]");
    }
}
