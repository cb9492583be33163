//! Rewrites the part of a file that stands between two markers, `<!-- NAME: begin -->` and `<!-- NAME: end -->`. Never
//! touches the rest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A section cannot be rewritten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The file cannot be read or written.
    #[error("cannot rewrite {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The markers are missing.
    #[error("{path} has no section between <!-- {name}: begin --> and <!-- {name}: end -->")]
    NoSection {
        /// The file.
        path: PathBuf,
        /// The section.
        name: &'static str,
    },
}

/// Puts `report` between the markers `name` in the file at `path`.
pub(crate) fn write_section(path: &Path, name: &'static str, report: &str) -> Result<(), WriteError> {
    let fail = |source| WriteError::Io { path: path.into(), source };
    let text = fs::read_to_string(path).map_err(fail)?;
    let text = replace_section(&text, name, report)
        .ok_or_else(|| WriteError::NoSection { path: path.into(), name })?;
    fs::write(path, text).map_err(fail)
}

fn replace_section(text: &str, name: &str, report: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{report}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_between_its_own_markers_is_rewritten() {
        let text = "a\n<!-- x: begin -->\nx\n<!-- x: end -->\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nz\n";
        let new = replace_section(text, "figures", "new\n").unwrap();
        let expected = "a\n<!-- x: begin -->\nx\n<!-- x: end -->\n<!-- figures: begin -->\n\nnew\n\n<!-- figures: end -->\nz\n";
        assert_eq!(new, expected);
        assert_eq!(replace_section("no markers", "figures", "new"), None);
    }

    #[test]
    fn the_readme_has_every_section_that_is_written() {
        let readme = include_str!("../README.md");
        for name in ["figures", "memory", "growth"] {
            assert!(replace_section(readme, name, "").is_some(), "{name}");
        }
    }
}
