//! `mcpmeter undertake`: not for people. The process that ends our servers if we are killed.

use super::Failure;
use crate::stdio::process::undertake;

/// Ends the process groups that it is told of on stdin when that closes. mcpmeter starts it by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Undertake {}

impl Undertake {
    pub(crate) fn run(self) -> Result<(), Failure> {
        undertake().map_err(|error| Failure::failed("cannot wait", &error))
    }
}
