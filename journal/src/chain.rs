//! An error as one line: its text and the texts of everything that caused it.

use std::{error::Error, fmt::Write};

/// The error and its causes, separated by colons.
pub(crate) fn chain(error: &dyn Error) -> String {
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
