//! The command line. Data goes to stdout, everything else to stderr; exit codes mean what DESIGN.md 6 says.

mod ask_admin;
mod body;
mod calls;
mod check;
mod doctor;
mod erase;
mod failure;
mod filter;
mod healthcheck;
mod keys;
mod line;
mod migrate;
mod panel;
mod run;
mod serve;
mod stdio;
mod tail;
mod undertake;

pub(crate) use failure::Failure;
pub(crate) use panel::Bar;

use crate::reload::{self, ConfigOrigin};
use clap::{Args, Parser, Subcommand};
use mcpmeter_config::Config;
use std::{io::IsTerminal, path::PathBuf};

const EXAMPLES: &str = "\
Start:
  mcpmeter run -- npx -y @modelcontextprotocol/server-everything
  mcpmeter check -c mcpmeter.toml          is the configuration right?
  mcpmeter serve -c mcpmeter.toml          run the proxy
  mcpmeter stdio -- npx -y SERVER          for clients that start their servers themselves
  claude mcp add --transport http NAME http://127.0.0.1:7300/NAME/mcp

Watch:
  mcpmeter tail                            calls as they happen
  mcpmeter calls --since 1h --errors       what failed in the last hour
  mcpmeter calls --tool search --json      as JSON, one object a line
  mcpmeter body CALL_ID                    what was asked and answered, where record.bodies keeps it
  mcpmeter doctor                          is everything recorded, and if not, why?

Let in:
  mcpmeter keys create --user alice        a key; its secret is shown once
  mcpmeter keys list                       which there are, and when they were last used
  mcpmeter keys revoke ID                  refused by every proxy within seconds

Forget:
  mcpmeter erase --user u_1 --dry-run      how many rows are there of this user?
  mcpmeter erase --user u_1                remove them, everywhere (--anonymise keeps totals)

Exit codes: 0 fine, 1 failed, 2 wrong usage or invalid configuration, 3 a dependency is unreachable,
130 interrupted.";

/// A transparent reverse proxy for MCP servers: every tools/list and tools/call becomes a row.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one stdio server behind HTTP, without a configuration file
    Run(run::Run),
    /// Run the proxy
    Serve(serve::Serve),
    /// Stand between a client that speaks only stdio and its server
    Stdio(stdio::Stdio),
    /// Check the configuration and say everything that is wrong with it
    Check(check::Check),
    /// Create or update the PostgreSQL schema
    Migrate(migrate::Migrate),
    /// Show calls as they happen
    Tail(tail::Tail),
    /// Show past calls, newest first
    Calls(calls::Calls),
    /// Show what was asked and answered in a call, where that is kept
    Body(body::Body),
    /// Create, list, revoke and rotate the keys by which callers are known
    Keys(keys::Keys),
    /// Examine proxy, files and database, and say what is wrong and what to do
    Doctor(doctor::Doctor),
    /// Remove or anonymise the calls of a person, everywhere
    Erase(erase::Erase),
    /// Ask a running proxy whether it is ready (for containers)
    Healthcheck(healthcheck::Healthcheck),
    #[command(hide = true)]
    Undertake(undertake::Undertake),
}

impl Cli {
    /// Does what was asked for.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Run(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::Stdio(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Migrate(command) => command.run(),
            Command::Tail(command) => command.run(),
            Command::Calls(command) => command.run(),
            Command::Body(command) => command.run(),
            Command::Keys(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Erase(command) => command.run(),
            Command::Healthcheck(command) => command.run(),
            Command::Undertake(command) => command.run(),
        }
    }
}

/// Which configuration a command works with.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "MCPMETER_CONFIG", default_value = "mcpmeter.toml")]
    config: PathBuf,
}

impl ConfigArgs {
    fn origin(&self) -> ConfigOrigin {
        ConfigOrigin {
            file: self.config.clone(),
            seen: reload::stamp(&self.config),
            ..ConfigOrigin::default()
        }
    }

    fn load(&self) -> Result<Config, Failure> {
        self.origin().load().map_err(|problems| Failure::config(&problems, false))
    }
}

/// Whether to colour what goes to a stream.
fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A runtime for commands that ask and are done.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| Failure::failed("cannot start", &error))?.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
