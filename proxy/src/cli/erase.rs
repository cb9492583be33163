//! `mcpmeter erase`: a person's calls, removed or anonymised everywhere, with a report that says what is left.

use super::{ConfigArgs, Failure, block_on, keys::now};
use crate::key_ring::key_store;
use clap::{ArgGroup, Args, builder::NonEmptyStringValueParser};
use mcpmeter_config::{Config, StoreUrl};
use mcpmeter_journal::{
    ApiKey, EraseError, EraseReport, Erasure, KeyError, Leftover, Manner, Places, PostgresUrl, Whose, erase,
};
use std::{
    io::{BufRead, IsTerminal, stdin},
    path::PathBuf,
};

/// Removes the calls of a user or an organisation from the store, the outbox and the totals, while proxies run or when
/// they do not. Exit code 1 if something could not be reached; it says what, and what to do. Calls that end after it has
/// begun are recorded as ever. Backups are out of its reach.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["user", "org"]))]
pub(crate) struct Erase {
    #[command(flatten)]
    config: ConfigArgs,
    /// The calls with this user_id
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// The calls with this organization_id, whoever made them
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    org: Option<String>,
    /// Keep the calls without anything that leads to a person, under a random name, so that totals stay
    #[arg(long, alias = "anonymize")]
    anonymise: bool,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Erase in this SQLite file too, such as one of `mcpmeter stdio`; may be given several times
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The outboxes of all other proxies of this database have been seen to
    #[arg(long)]
    elsewhere_done: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Erase {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let may_ask = stdin().is_terminal();
        if !self.yes && !self.dry_run && !may_ask {
            return Err(Failure::usage(
                "what is erased cannot be brought back: say --yes, or look first with --dry-run",
            ));
        }
        let (places, mut notes) = self.places(&config)?;
        if !self.yes && !self.dry_run && !self.ask(&places)? {
            return Err(Failure::found(1, "nothing was erased"));
        }
        let manner = match (self.dry_run, self.anonymise) {
            (true, _) => Manner::Count,
            (false, true) => Manner::Anonymise,
            (false, false) => Manner::Remove,
        };
        let erasure = Erasure::new(self.whose(), manner);
        // First, so that what stood there is cleaned up with the rest.
        let keys = self.forget_keys(&config, manner)?;
        let mut report = self.erase(&erasure, &places)?;
        if keys > 0 {
            report.rows.insert(("the store".to_owned(), "api_key".to_owned()), keys);
        }
        if keys > 0 && manner != Manner::Count {
            notes.push(format!("{keys} keys are revoked, and no longer say whose they were"));
        }
        notes.append(&mut report.notes);
        report.notes = notes;
        if self.json {
            println!("{}", self.to_json(&erasure, &report));
        } else {
            self.print(&erasure, &report);
        }
        if report.left.is_empty() {
            return Ok(());
        }
        Err(Failure::found(1, "not everything could be reached"))
    }

    fn whose(&self) -> Whose {
        match (&self.user, &self.org) {
            (Some(user), _) => Whose::User(user.clone()),
            (None, Some(org)) => Whose::Organization(org.clone()),
            (None, None) => unreachable!("one of them is required"),
        }
    }

    /// The person in words.
    fn person(&self) -> String {
        match self.whose() {
            Whose::User(id) => format!("user \"{id}\""),
            Whose::Organization(id) => format!("organisation \"{id}\""),
        }
    }

    /// Where to erase, and what is to be said about it.
    fn places(&self, config: &Config) -> Result<(Places, Vec<String>), Failure> {
        let mut notes = Vec::new();
        let mut places =
            Places { others: self.files.clone(), elsewhere_done: self.elsewhere_done, ..Places::default() };
        let missing = |file: &PathBuf| format!("{} does not exist", file.display());
        if let Some(file) = self.files.iter().find(|file| !file.exists()) {
            return Err(Failure::usage(&missing(file)));
        }
        match &config.store.url {
            StoreUrl::Sqlite(file) if file.exists() => places.file = Some(file.clone()),
            StoreUrl::Sqlite(file) => notes.push(format!("{}: no call has been stored there", missing(file))),
            StoreUrl::Postgres(url) => {
                let url: PostgresUrl =
                    url.expose().parse().map_err(|error| Failure::failed("cannot use store.url", &error))?;
                places.postgres = Some(url);
                let outbox = &config.store.outbox;
                if outbox.exists() {
                    places.file = Some(outbox.clone());
                } else {
                    notes.push(format!(
                        "{}: no proxy with this configuration was on this machine",
                        missing(outbox)
                    ));
                }
            }
        }
        let names = |name: &Option<String>, id: &Option<String>| id.is_some() && name == id;
        for route in &config.routes {
            if names(&route.user_id, &self.user) || names(&route.organization_id, &self.org) {
                let name = &route.name;
                notes.push(format!(
                    "the route `{name}` names the {}: its next calls are theirs again",
                    self.person()
                ));
            }
        }
        Ok((places, notes))
    }

    /// Says how much there is, and asks whether it is to go.
    fn ask(&self, places: &Places) -> Result<bool, Failure> {
        let counted = self.erase(&Erasure::new(self.whose(), Manner::Count), places)?;
        let verb = if self.anonymise { "anonymise" } else { "remove" };
        eprint!("{verb} {} of the {} for ever? [y/N] ", rows(counted.total()), self.person());
        let mut answer = String::new();
        stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|error| Failure::failed("cannot read the answer", &error))?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn erase(&self, erasure: &Erasure, places: &Places) -> Result<EraseReport, Failure> {
        block_on(Box::pin(erase(erasure, places)))?.map_err(|error| failure(&error))
    }

    /// Keys of the person are revoked, and no longer say whose they were.
    fn forget_keys(&self, config: &Config, manner: Manner) -> Result<u64, Failure> {
        let store =
            key_store(&config.store.url).map_err(|error| Failure::failed("cannot use store.url", &error))?;
        let whose = self.whose();
        let is_theirs = |key: &&ApiKey| match &whose {
            Whose::User(id) => *key.user_id == **id,
            Whose::Organization(id) => key.organization_id.as_deref() == Some(id),
        };
        let forgetting = async {
            let keys = match store.list().await {
                // Where there is no store there is no key.
                Err(KeyError::NoFile { .. } | KeyError::NoTables) => return Ok(0),
                keys => keys?,
            };
            let mut forgotten = 0;
            for key in keys.iter().filter(is_theirs) {
                if manner != Manner::Count {
                    store.forget(&key.id, now()).await?;
                }
                forgotten += 1;
            }
            Ok::<u64, KeyError>(forgotten)
        };
        block_on(Box::pin(forgetting))?.map_err(|error| key_failure(&error))
    }

    fn print(&self, erasure: &Erasure, report: &EraseReport) {
        let (total, person) = (rows(report.total()), self.person());
        match (self.dry_run, erasure.name()) {
            (true, _) => println!("to be erased: {total} of the {person}"),
            (false, Some(name)) => println!("anonymised: {total} of the {person}, under the name {name} now"),
            (false, None) => println!("removed: {total} of the {person}"),
        }
        for ((place, table), rows) in report.rows.iter().filter(|(_, rows)| **rows > 0) {
            println!("  {rows:>10}  {table}  in {place}");
        }
        for Leftover { place, text, advice } in &report.left {
            println!("left  {place}: {text}\n      → {advice}");
        }
        report.notes.iter().for_each(|note| println!("note  {note}"));
    }

    fn to_json(&self, erasure: &Erasure, report: &EraseReport) -> serde_json::Value {
        let rows = report.rows.iter().map(
            |((place, table), rows)| serde_json::json!({ "place": place, "table": table, "rows": rows }),
        );
        let left = report.left.iter().map(|Leftover { place, text, advice }| {
            serde_json::json!({ "place": place, "text": text, "advice": advice })
        });
        serde_json::json!({
            "user": self.user,
            "organization": self.org,
            "manner": if self.dry_run { "count" } else if self.anonymise { "anonymise" } else { "remove" },
            "name": erasure.name(),
            "total": report.total(),
            "rows": rows.collect::<Vec<_>>(),
            "left": left.collect::<Vec<_>>(),
            "notes": report.notes,
            "complete": report.left.is_empty(),
        })
    }
}

fn key_failure(error: &KeyError) -> Failure {
    if error.is_unreachable() {
        Failure::unreachable("nothing was erased", error)
    } else {
        Failure::failed("cannot forget keys", error)
    }
}

fn rows(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

fn failure(error: &EraseError) -> Failure {
    if error.is_unreachable() { Failure::unreachable("", error) } else { Failure::failed("", error) }
}
