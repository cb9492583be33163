//! Bodies of calls, from the configuration to who holds them ([`mcpmeter_observer`]) and who seals them
//! ([`mcpmeter_journal`]). Never shows a key.

use mcpmeter_config::{self as config, Record};
use mcpmeter_journal::{BodyKey, BodyKeys};
use mcpmeter_observer::{BodyRule, KeepBodies};

/// What an instance is to keep whose route says this.
pub(crate) const fn rule(bodies: config::Bodies, record: &Record) -> BodyRule {
    let keep = match bodies {
        config::Bodies::Off => KeepBodies::Off,
        config::Bodies::Errors => KeepBodies::Errors,
        config::Bodies::All => KeepBodies::All,
    };
    BodyRule { keep, max_bytes: record.bodies_max_bytes }
}

/// What bodies are sealed and opened with.
pub(crate) fn keys(record: &Record) -> BodyKeys {
    BodyKeys::new(record.bodies_key.iter().map(|key| BodyKey::new(key.expose())).collect())
}
