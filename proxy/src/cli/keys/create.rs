//! `mcpmeter keys create`: what is asked for is checked before anything is stored; the secret is printed once.

use super::{as_json, key_failure, no_randomness, now, open_store, print_made};
use crate::{
    api_key::{PublicId, Secret},
    cli::{ConfigArgs, Failure, block_on, filter::parse_span},
};
use clap::Args;
use jiff::{civil::Date, tz::TimeZone};
use mcpmeter_config::Config;
use mcpmeter_journal::{ApiKey, KeyError, KeyStore, rfc3339};
use mcpmeter_observer::{Text, Timestamp};

/// The longest name, id or pattern, in characters. Every row of a call repeats two of them.
const LONGEST: usize = 256;
/// Routes, or tools, of one key. A hundred thousand such keys would still be a gigabyte.
const MOST_PATTERNS: usize = 64;
/// Ids that are tried. A second one is needed once in 40,000 times where there are 100,000 keys.
const TRIES: usize = 3;

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whose calls are made with it; rows of calls have it as user_id
    #[arg(long, value_name = "ID")]
    user: String,
    /// The user's organisation
    #[arg(long, value_name = "ID")]
    org: Option<String>,
    /// What the key is for, to tell it from others
    #[arg(long)]
    name: Option<String>,
    /// Only for this route; may be given several times, and `*` stands for any characters
    #[arg(long, value_name = "ROUTE")]
    route: Vec<String>,
    /// Only for calls of this tool; likewise
    #[arg(long, value_name = "TOOL")]
    tool: Vec<String>,
    /// At most so many calls a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    per_minute: Option<u32>,
    /// Refused from then on: after a time (12h, 90d), or from a date on (2027-01-31, its beginning in UTC)
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Create {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        self.check()?;
        let expires_at = self.expires.as_deref().map(|text| parse_expiry(text, now())).transpose()?;
        let store = open_store(&config)?;
        let (key, secret) = block_on(self.make(&store, expires_at))??;
        if self.json {
            print_made(&as_json(&key, &secret, now()), &key)?;
        } else {
            print_made(secret.expose(), &key)?;
            let until = expires_at.map_or_else(String::new, |at| format!(" until {}", rfc3339(at)));
            eprintln!(
                "{} is for {}{until}. Its secret is printed above, and shown only now.",
                key.id, key.user_id
            );
            eprintln!("Clients send it as `Authorization: Bearer SECRET`, for example:");
            eprintln!(
                "  claude mcp add --transport http NAME {} --header \"Authorization: Bearer SECRET\"",
                self.example_url(&config)
            );
        }
        self.warn_of_unknown_routes(&config);
        Ok(())
    }

    async fn make(
        &self,
        store: &KeyStore,
        expires_at: Option<Timestamp>,
    ) -> Result<(ApiKey, Secret<'static>), Failure> {
        let mut tries = 1;
        loop {
            let id = PublicId::generate().map_err(|error| no_randomness(&error))?;
            let secret = Secret::generate(id).map_err(|error| no_randomness(&error))?;
            let key = self.key(&secret, expires_at);
            match store.create(key.clone()).await {
                Ok(()) => return Ok((key, secret)),
                Err(KeyError::Taken { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(key_failure(&error)),
            }
        }
    }

    fn key(&self, secret: &Secret<'_>, expires_at: Option<Timestamp>) -> ApiKey {
        let texts = |list: &[String]| list.iter().map(|text| Text::from(text.as_str())).collect();
        ApiKey {
            id: secret.id().to_string().into(),
            hash: secret.hash(),
            previous: None,
            name: self.name.as_deref().map(Text::from),
            user_id: self.user.as_str().into(),
            organization_id: self.org.as_deref().map(Text::from),
            routes: texts(&self.route),
            tools: texts(&self.tool),
            rate_per_minute: self.per_minute,
            created_at: now(),
            expires_at,
            revoked_at: None,
            last_used_at: None,
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let texts =
            [("--user", Some(&self.user)), ("--org", self.org.as_ref()), ("--name", self.name.as_ref())];
        for (option, text) in texts {
            text.map_or(Ok(()), |text| check_text(option, text))?;
        }
        for (option, list) in [("--route", &self.route), ("--tool", &self.tool)] {
            list.iter().try_for_each(|text| check_text(option, text))?;
            if list.len() > MOST_PATTERNS {
                let text =
                    format!("{option} is given {} times, {MOST_PATTERNS} are the most: use `*`", list.len());
                return Err(Failure::usage(&text));
            }
        }
        match self.route.iter().find(|route| route.contains([',', ' ', '/'])) {
            Some(route) => Err(Failure::usage(&format!(
                "\"{route}\" is no route: give each one its name as in the configuration, and --route once for each"
            ))),
            None => Ok(()),
        }
    }

    /// Where a client could send it: to the first route that it is good for.
    fn example_url(&self, config: &Config) -> String {
        let scheme = if config.proxy.tls.is_some() { "https" } else { "http" };
        let is_named = |name: &str| self.route.is_empty() || self.route.iter().any(|route| route == name);
        let route = config.routes.iter().map(|route| route.name.as_str()).find(|name| is_named(name));
        format!("{scheme}://{}/{}/mcp", config.proxy.listen, route.unwrap_or("ROUTE"))
    }

    /// Another proxy of the same store may have it: no failure.
    fn warn_of_unknown_routes(&self, config: &Config) {
        let is_known = |name: &str| config.routes.iter().any(|route| route.name == name);
        for route in self.route.iter().filter(|route| !route.contains('*') && !is_known(route)) {
            eprintln!("warning: {} has no route \"{route}\"", self.config.config.display());
        }
    }
}

fn check_text(option: &str, text: &str) -> Result<(), Failure> {
    let problem = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.chars().any(char::is_control) {
        "has a control character in it".to_owned()
    } else if text.chars().count() > LONGEST {
        format!("is longer than {LONGEST} characters")
    } else {
        return Ok(());
    };
    Err(Failure::usage(&format!("{option} {problem}")))
}

/// After a time, from a date on, or from an instant on; not in the past.
fn parse_expiry(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let at = if let Some(span) = parse_span(text) {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_microsecond(now.0.saturating_add(micros)).ok()
    } else if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        Some(instant)
    } else {
        let date = text.parse::<Date>().ok();
        date.and_then(|date| date.to_zoned(TimeZone::UTC).ok()).map(|zoned| zoned.timestamp())
    };
    match at.map(|at| Timestamp(at.as_microsecond())) {
        Some(at) if at > now => Ok(at),
        Some(_) => Err(Failure::usage(&format!("--expires {text} is in the past"))),
        None => Err(Failure::usage(&format!(
            "--expires \"{text}\": write a time such as 12h or 90d, a date such as 2027-01-31, or an instant such as 2027-01-31T18:00:00Z"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_expires_after_a_time_or_from_a_date_on() {
        let now = Timestamp(1_772_323_200_000_000);
        let read =
            |text| parse_expiry(text, now).map(|at| at.0 - now.0).map_err(|failure| format!("{failure:?}"));
        let day = 86_400_000_000;
        assert_eq!(read("90d"), Ok(90 * day));
        assert_eq!(read("1h30m"), Ok(day / 16));
        assert_eq!(read("2026-03-02"), Ok(day));
        assert_eq!(read("2026-03-01T12:00:00+06:00"), Ok(day / 4));
        for past in ["0d", "2026-03-01", "1999-01-01T00:00:00Z"] {
            assert!(read(past).is_err_and(|told| told.contains("is in the past")), "{past}");
        }
        for nonsense in ["tomorrow", "-5d", "", "90", "2026-02-30", "99999999999999d", "9999999999d"] {
            assert!(read(nonsense).is_err_and(|told| told.contains("write a time")), "{nonsense}");
        }
    }
}
