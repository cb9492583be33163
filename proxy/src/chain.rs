//! An error and everything behind it, on one line: what a person is told, and what a record keeps.

use std::error::Error;

/// The error's words and those of its causes, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
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
