//! The files that a configuration names beside itself: whether they can be used, told all at once before anything starts.
//! Keeps nothing of them.

use crate::{identity, tls};
use mcpmeter_config::Config;
use mcpmeter_journal::chain;
use std::fmt;

/// One thing that is wrong with a file.
#[derive(Debug)]
pub(crate) struct BadFile {
    /// A stable word to search for.
    pub(crate) code: &'static str,
    /// One line that reads alone.
    pub(crate) message: String,
}

/// All that is wrong with the files that a configuration names. Never empty.
#[derive(Debug, thiserror::Error)]
pub(crate) struct BadFiles(Vec<BadFile>);

impl BadFiles {
    /// Each with a line of its own.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, BadFile> {
        self.0.iter()
    }
}

impl fmt::Display for BadFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.iter().map(|bad| bad.message.as_str()).collect();
        f.write_str(&lines.join("\nerror: "))
    }
}

/// Reads every file of certificates and of issuers' keys that a configuration names.
pub(crate) fn examine(config: &Config) -> Result<(), BadFiles> {
    let certificates = tls::examine(config).into_iter().map(|bad| ("certificate-unusable", chain(&bad)));
    let keys = identity::examine(config).into_iter().map(|bad| ("jwks-unusable", chain(&bad)));
    let bad: Vec<_> = certificates.chain(keys).map(|(code, message)| BadFile { code, message }).collect();
    if bad.is_empty() { Ok(()) } else { Err(BadFiles(bad)) }
}
