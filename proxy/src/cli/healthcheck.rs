//! `mcpmeter healthcheck`: for containers that have no curl.

use super::{ConfigArgs, Failure, ask_admin, block_on};
use clap::Args;
use std::{io, net::SocketAddr};

/// Asks /readyz of a running proxy: exit code 0 if it is ready, 1 if not, 3 if there is none.
#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    #[command(flatten)]
    config: ConfigArgs,
    /// The admin port of the proxy [default: admin.listen of the configuration]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
}

impl Healthcheck {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let admin = match self.admin {
            Some(admin) => admin,
            None => self.config.load()?.admin.listen,
        };
        let response = block_on(ask_admin::get(admin, "/readyz"))??;
        if response.status().is_success() {
            return Ok(());
        }
        Err(Failure::failed("not ready", &io::Error::other(response.status().to_string())))
    }
}
