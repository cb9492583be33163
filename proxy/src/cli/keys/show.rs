//! A key for people and for programs: never its hash, and its secret only beside it, when that was just made.

use crate::{api_key::Secret, printable::printable};
use mcpmeter_journal::{ApiKey, rfc3339};
use mcpmeter_observer::{Text, Timestamp};
use serde_json::{Value, json};

/// What has become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It works.
    Active,
    /// It works, and so does its secret before.
    Rotating,
    /// Its time is over.
    Expired,
    /// Somebody has revoked it.
    Revoked,
}

impl State {
    pub(super) fn of(key: &ApiKey, now: Timestamp) -> Self {
        match key {
            ApiKey { revoked_at: Some(_), .. } => Self::Revoked,
            ApiKey { expires_at: Some(at), .. } if *at <= now => Self::Expired,
            ApiKey { previous: Some(previous), .. } if previous.valid_until > now => Self::Rotating,
            _ => Self::Active,
        }
    }

    /// Whether a proxy accepts it.
    pub(super) const fn works(self) -> bool {
        matches!(self, Self::Active | Self::Rotating)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// The key as an object.
pub(super) fn to_json(key: &ApiKey, now: Timestamp) -> Value {
    let time = |at: Option<Timestamp>| at.map(rfc3339);
    json!({
        "id": key.id,
        "state": State::of(key, now).as_str(),
        "name": key.name,
        "user_id": key.user_id,
        "organization_id": key.organization_id,
        "routes": key.routes,
        "tools": key.tools,
        "rate_per_minute": key.rate_per_minute,
        "created_at": rfc3339(key.created_at),
        "expires_at": time(key.expires_at),
        "revoked_at": time(key.revoked_at),
        "previous_secret_until": time(key.previous.as_ref().map(|previous| previous.valid_until)),
        "last_used_at": time(key.last_used_at),
    })
}

/// The same with the secret, for the one time that it is shown.
pub(super) fn as_json(key: &ApiKey, secret: &Secret<'_>, now: Timestamp) -> String {
    let mut object = to_json(key, now);
    object["secret"] = secret.expose().into();
    object.to_string()
}

/// The cells of the key's line.
pub(super) fn cells(key: &ApiKey, now: Timestamp) -> [String; 10] {
    let text = |text: &Option<Text>| text.as_ref().map_or_else(|| "-".to_owned(), |text| printable(text));
    let list = |list: &[Text]| if list.is_empty() { "all".to_owned() } else { printable(&list.join(",")) };
    // To the second, in UTC, as expiries are given.
    let time = |at: Timestamp| format!("{}Z", rfc3339(at).split('.').next().unwrap_or_default());
    let maybe = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), time);
    [
        key.id.to_string(),
        State::of(key, now).as_str().to_owned(),
        printable(&key.user_id),
        text(&key.organization_id),
        text(&key.name),
        list(&key.routes),
        list(&key.tools),
        time(key.created_at),
        maybe(key.expires_at),
        maybe(key.last_used_at),
    ]
}
