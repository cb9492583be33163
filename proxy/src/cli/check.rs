//! `mcpmeter check`: is the configuration right?

mod print;

use super::{ConfigArgs, Failure};
use crate::files;
use clap::Args;

/// Reads the configuration and the files it names as `serve` would, and says everything that is wrong with them: exit code
/// 2. What is valid, and hardly what anybody wants, is a warning. Nothing is started, and nothing is connected to.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print every value that is in force, and where it comes from; secrets are masked
    #[arg(long)]
    print: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let origin = self.config.origin();
        let bad = |problems| Failure::config(&problems, self.json);
        let config = origin.load().map_err(bad)?;
        files::examine(&config).map_err(|bad| Failure::files(&bad, self.json))?;
        let file = self.config.config.display().to_string();
        let warnings = mcpmeter_config::warnings(&config);
        let settings = if self.print { Some(origin.settings().map_err(bad)?) } else { None };
        if self.json {
            let routes: Vec<_> = config.routes.iter().map(|route| &route.name).collect();
            let mut told =
                serde_json::json!({ "file": file, "valid": true, "routes": routes, "warnings": warnings });
            if let Some(settings) = settings {
                told["settings"] = print::to_json(&settings, &file);
            }
            println!("{told}");
        } else {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            if let Some(settings) = settings {
                print!("{}", print::to_toml(&settings, &file));
                return Ok(());
            }
            let routes = config.routes.len();
            println!("{file} is valid: {routes} {noun}", noun = if routes == 1 { "route" } else { "routes" });
        }
        Ok(())
    }
}
