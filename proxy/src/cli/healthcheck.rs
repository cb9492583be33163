//! `mcpmeter healthcheck`: for containers that have no curl.

use super::{ConfigArgs, Failure, ask_admin::AdminArgs, block_on};
use clap::Args;
use std::io;

/// Asks /readyz of a running proxy: exit code 0 if it is ready, 1 if not, 3 if there is none.
#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Healthcheck {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let door = self.admin.find_door(&self.config)?;
        let response = block_on(door.probe("/readyz"))??;
        if response.status().is_success() {
            return Ok(());
        }
        Err(Failure::failed("not ready", &io::Error::other(response.status().to_string())))
    }
}
