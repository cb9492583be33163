//! `mcpmeter keys`: the keys by which callers are known, in the store of the configuration. A secret is printed when it is
//! made, to stdout and on its own, and never again.

mod create;
mod list;
mod show;

use super::{ConfigArgs, Failure, block_on, filter::parse_span};
use crate::{
    api_key::{NoRandomness, PublicId, Secret},
    clock::Clock,
    key_ring::key_store,
};
use clap::{Args, Subcommand};
use mcpmeter_config::Config;
use mcpmeter_journal::{ApiKey, KeyError, KeyStore, rfc3339};
use mcpmeter_observer::Timestamp;
use show::{as_json, to_json};
use std::{
    io::{self, Write, stdout},
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  mcpmeter keys create --user alice --route github --tool 'search_*' --expires 90d
  mcpmeter keys list --json
  mcpmeter keys rotate key_3fK9aZ02                another secret; the old one works for a day
  mcpmeter keys revoke key_3fK9                    the beginning of an id is enough

The store is read and written directly, so no proxy need run; those that do know of a change within seconds.";

/// Keys that clients send, for routes that ask for one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print its secret, which is shown only then
    Create(Box<create::Create>),
    /// Show the keys that work, the newest first
    List(list::List),
    /// Have every proxy refuse a key from now on
    Revoke(Revoke),
    /// Give a key another secret; the old one works for a while
    Rotate(Rotate),
}

#[derive(Debug, Args)]
struct Revoke {
    #[command(flatten)]
    config: ConfigArgs,
    /// The key's id, or enough of its beginning; a secret that has got into the wrong hands will do
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Rotate {
    #[command(flatten)]
    config: ConfigArgs,
    /// The key's id, or enough of its beginning
    id: String,
    /// How long the old secret works on: 90m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", conflicts_with = "now")]
    grace: String,
    /// Refuse the old secret at once
    #[arg(long)]
    now: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Create(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Revoke(command) => command.run(),
            Command::Rotate(command) => command.run(),
        }
    }
}

impl Revoke {
    fn run(self) -> Result<(), Failure> {
        let store = open_store(&self.config.load()?)?;
        // Whoever has found a secret somewhere need not know which part of it is the id.
        let id = Secret::parse(&self.id).map_or(self.id.clone(), |secret| secret.id().to_string());
        let key = block_on(store.revoke(&id, now()))?.map_err(|error| key_failure(&error))?;
        if self.json {
            return print(&to_json(&key, now()).to_string());
        }
        let since = key.revoked_at.unwrap_or_default();
        print(&format!(
            "{} is revoked since {}: every proxy refuses it within seconds",
            key.id,
            rfc3339(since)
        ))
    }
}

impl Rotate {
    fn run(self) -> Result<(), Failure> {
        let grace = match parse_span(&self.grace) {
            _ if self.now => Duration::ZERO,
            Some(grace) => grace.unsigned_abs(),
            None => {
                let text = format!("\"{}\" is no span of time: write one such as 90m, 24h or 7d", self.grace);
                return Err(Failure::usage(&text));
            }
        };
        let store = open_store(&self.config.load()?)?;
        let (key, secret) = block_on(rotate(&store, &self.id, grace))??;
        if self.json {
            return print_made(&as_json(&key, &secret, now()), &key);
        }
        print_made(secret.expose(), &key)?;
        eprintln!("{} has another secret, which is printed above and shown only now.", key.id);
        match &key.previous {
            Some(previous) => eprintln!("The one before works until {}.", rfc3339(previous.valid_until)),
            None => eprintln!("The one before is refused by every proxy within seconds."),
        }
        Ok(())
    }
}

async fn rotate(store: &KeyStore, id: &str, grace: Duration) -> Result<(ApiKey, Secret<'static>), Failure> {
    let found = store.find(id).await.map_err(|error| key_failure(&error))?;
    let Some(public_id) = PublicId::parse(&found.id) else {
        return Err(Failure::usage(&format!("{} was not made by mcpmeter: make another key", found.id)));
    };
    let secret = Secret::generate(public_id).map_err(|error| no_randomness(&error))?;
    let changed = store.rotate(&found.id, secret.hash(), grace, now()).await;
    Ok((changed.map_err(|error| key_failure(&error))?, secret))
}

fn open_store(config: &Config) -> Result<KeyStore, Failure> {
    key_store(&config.store.url).map_err(|error| Failure::failed("cannot use store.url", &error))
}

pub(super) fn now() -> Timestamp {
    Clock::start().timestamp()
}

fn no_randomness(error: &NoRandomness) -> Failure {
    Failure::failed("cannot make a secret", error)
}

/// The errors say what to do, each for itself.
fn key_failure(error: &KeyError) -> Failure {
    match error {
        KeyError::Unreachable(_) => Failure::unreachable("", error),
        KeyError::NoFile { .. } | KeyError::TooShort { .. } | KeyError::Ambiguous { .. } => {
            Failure::usage(&error.to_string())
        }
        _ => Failure::failed("", error),
    }
}

fn print(line: &str) -> Result<(), Failure> {
    match write_line(line) {
        // `mcpmeter keys list | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::failed("cannot print", &error)),
    }
}

/// Prints what is shown only once: if nobody has read it, the key is of no use.
fn print_made(line: &str, key: &ApiKey) -> Result<(), Failure> {
    let lost = || {
        format!(
            "cannot print the secret, which is lost: `mcpmeter keys rotate {} --now` makes another one",
            key.id
        )
    };
    write_line(line).map_err(|error| Failure::failed(&lost(), &error))
}

fn write_line(line: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
