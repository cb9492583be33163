//! `mcpmeter migrate`: the PostgreSQL schema, created or brought up to date.

use super::{ConfigArgs, Failure, block_on};
use clap::Args;
use mcpmeter_config::StoreUrl;
use mcpmeter_journal::PostgresUrl;

/// Applies schema.sql to the database of store.url. May be run any number of times, and by several at once.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let StoreUrl::Postgres(url) = &config.store.url else {
            return Err(Failure::usage(
                "store.url is a SQLite file, which needs no migration; set it to postgres://…, or MCPMETER_STORE__URL",
            ));
        };
        let url: PostgresUrl =
            url.expose().parse().map_err(|error| Failure::failed("cannot use store.url", &error))?;
        let migration = block_on(mcpmeter_journal::migrate(&url))?.map_err(|error| {
            if error.is_unreachable() {
                Failure::unreachable("", &error)
            } else {
                Failure::failed("", &error)
            }
        })?;
        let to = migration.to;
        if self.json {
            println!("{}", serde_json::json!({ "from": migration.from, "to": to }));
            return Ok(());
        }
        match migration.from {
            Some(from) if from == to => {
                println!("schema version {to}: up to date")
            }
            Some(from) => println!("schema version {from} -> {to}"),
            None => println!("schema version {to} created"),
        }
        Ok(())
    }
}
