//! `mcpmeter serve`: the proxy itself.

use super::{ConfigArgs, Failure, panel};
use crate::{
    app::{App, StartError},
    reload::{self, ConfigOrigin},
    telemetry,
};
use clap::Args;
use std::io::{IsTerminal, stderr};

/// Runs the proxy until SIGTERM or Ctrl-C. SIGHUP or a changed file reloads the configuration.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where MCP clients connect [overrides proxy.listen]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where dashboard, metrics and probes are served [overrides admin.listen]
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Option<String>,
    /// Also print each call to stdout, as `mcpmeter tail` does
    #[arg(long)]
    tail: bool,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let origin = self.origin();
        let config = origin.load().map_err(|problems| Failure::config(&problems, false))?;
        let bar = panel::Bar::new();
        telemetry::start(&config, &bar);
        reload::warn_of(&config);
        let app = App::build(config, origin).map_err(|error| start_failure(&error))?;
        if self.tail || stderr().is_terminal() {
            panel::greet(&app).map_err(|error| Failure::failed("", &error))?;
        }
        if self.tail {
            panel::follow(&app.live(), app.pulse(), bar.clone());
        }
        let ended = app.run().map_err(|error| start_failure(&error));
        bar.clear();
        ended
    }

    fn origin(&self) -> ConfigOrigin {
        let mut origin = self.config.origin();
        let flags = [
            ("--listen", "proxy.listen", &self.listen),
            ("--admin-listen", "admin.listen", &self.admin_listen),
        ];
        let given = |(name, key, value): (_, _, &Option<String>)| Some((name, key, value.clone()?));
        origin.flags = flags.into_iter().filter_map(given).collect();
        origin
    }
}

fn start_failure(error: &StartError) -> Failure {
    Failure::failed("", error)
}
