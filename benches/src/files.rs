//! Open files: one or two per connection, more than a shell allows by default.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this program and those it starts have as many open files as is allowed at all; an error if that is less than
/// `wanted`.
pub(crate) fn allow_files(wanted: u64) -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    match maximum {
        Some(maximum) if maximum < wanted => {
            Err(io::Error::other(format!("{wanted} open files are needed, {maximum} are allowed")))
        }
        _ => Ok(()),
    }
}
