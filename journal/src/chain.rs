//! An error as one line: its text and the texts of everything that caused it.

use std::{error::Error, fmt::Write};

/// The error and its causes, separated by colons.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.contains(&told) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {told}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_cause_that_the_error_names_already_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the store")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("disk full"));
        assert_eq!(chain(&error), "cannot open the store: disk full");
        assert_eq!(chain(&io::Error::other(error)), "cannot open the store: disk full");
    }
}
