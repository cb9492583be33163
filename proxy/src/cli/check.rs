//! `mcpmeter check`: is the configuration right?

use super::{ConfigArgs, Failure};
use crate::files;
use clap::Args;

/// Reads the configuration and the files it names as `serve` would, and says everything that is wrong with them: exit code
/// 2. What is valid, and hardly what anybody wants, is a warning. Nothing is started, and nothing is connected to.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.config.origin().load().map_err(|problems| Failure::config(&problems, self.json))?;
        files::examine(&config).map_err(|bad| Failure::files(&bad, self.json))?;
        let file = self.config.config.display().to_string();
        let warnings = mcpmeter_config::warnings(&config);
        if self.json {
            let routes: Vec<_> = config.routes.iter().map(|route| &route.name).collect();
            let told =
                serde_json::json!({ "file": file, "valid": true, "routes": routes, "warnings": warnings });
            println!("{told}");
        } else {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            let routes = config.routes.len();
            println!("{file} is valid: {routes} {noun}", noun = if routes == 1 { "route" } else { "routes" });
        }
        Ok(())
    }
}
