//! Which refusals are records of their own. The first of a kind are; of a flood only the number is kept, as one record for
//! each kind and window, so that whoever guesses passwords fills neither the store nor anybody's day.

use mcpmeter_observer::{
    AuthMethod, AuthState, CallId, CallRecord, Caller, Failure, Identity, Method, Text, Tick, Timestamp,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long refusals are counted together.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// The most records of one kind in a window.
const ROWS_OF_A_KIND: u64 = 10;
/// The same where the caller is known.
const ROWS_OF_A_KNOWN_KIND: u64 = 100;
/// The most records in a window.
const ROWS: u64 = 1_000;
/// The most kinds that are told apart in a window. What is beyond them is counted for the instance and its reason only.
const MAX_KINDS: usize = 1_000;

/// The refusals so far, and those of the current window. Shared by all workers; its locks are taken for refused requests
/// only.
#[derive(Default)]
pub(crate) struct Refusals {
    window: Mutex<Window>,
    counters: Family<ReasonLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Default)]
struct Window {
    began: Option<Tick>,
    rows: u64,
    kinds: HashMap<Kind, Counted>,
}

/// What is counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    instance_id: Text,
    client_ip: Option<Text>,
    code: &'static str,
}

struct Counted {
    identity: Identity,
    /// The first one's.
    auth: (AuthMethod, AuthState),
    failure: Failure,
    rows: u64,
    /// Those that are no records.
    others: u64,
}

impl Refusals {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the counters.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests that mcpmeter has refused by itself";
        registry.register("refused_requests", help, self.counters.clone());
    }

    /// One more, for this reason.
    pub(crate) fn count(&self, reason: &'static str) {
        self.counters.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Takes note of the refusal of a caller that is known, or need not be; whether it is to be a record of its own. The
    /// records say what was called, so there may be more of them.
    pub(crate) fn note_known(
        &self,
        identity: &Identity,
        client_ip: Option<&Text>,
        (auth, failure): ((AuthMethod, AuthState), &Failure),
        now: Tick,
    ) -> bool {
        self.note_up_to(ROWS_OF_A_KNOWN_KIND, identity, client_ip, (auth, failure), now)
    }

    /// The same of a caller that is not let in. `client_ip` is minimised.
    pub(crate) fn note(
        &self,
        identity: &Identity,
        client_ip: Option<&Text>,
        (caller, failure): (&Caller, &Failure),
        now: Tick,
    ) -> bool {
        let auth = (caller.auth_method, caller.auth_state);
        self.note_up_to(ROWS_OF_A_KIND, identity, client_ip, (auth, failure), now)
    }

    fn note_up_to(
        &self,
        most: u64,
        identity: &Identity,
        client_ip: Option<&Text>,
        (auth, failure): ((AuthMethod, AuthState), &Failure),
        now: Tick,
    ) -> bool {
        self.count(failure.code);
        let mut window = self.window();
        window.began.get_or_insert(now);
        let mut kind = Kind {
            instance_id: Text::clone(&identity.instance_id),
            client_ip: client_ip.cloned(),
            code: failure.code,
        };
        if window.kinds.len() >= MAX_KINDS && !window.kinds.contains_key(&kind) {
            kind.client_ip = None;
        }
        let has_room = window.rows < ROWS;
        let counted = window.kinds.entry(kind).or_insert_with(|| Counted {
            identity: identity.clone(),
            auth,
            failure: failure.clone(),
            rows: 0,
            others: 0,
        });
        let is_row = has_room && counted.rows < most;
        *if is_row { &mut counted.rows } else { &mut counted.others } += 1;
        window.rows += u64::from(is_row);
        is_row
    }

    /// The records of what was only counted, if the window is over or `is_last`. `at` is the wall clock's `now`.
    pub(crate) fn take_counted(&self, now: Tick, at: Timestamp, is_last: bool) -> Vec<CallRecord> {
        let mut window = self.window();
        let Some(began) = window.began else { return Vec::new() };
        let lasted = now.nanos_since(began);
        if !is_last && u128::from(lasted) < WINDOW.as_nanos() {
            return Vec::new();
        }
        let ended = std::mem::take(&mut *window);
        drop(window);
        let counted = ended.kinds.into_iter().filter(|(_, counted)| counted.others > 0);
        counted.map(|(kind, counted)| record_of(kind, counted, at, lasted)).collect()
    }
}

fn record_of(kind: Kind, counted: Counted, at: Timestamp, lasted: u64) -> CallRecord {
    let Counted { identity, auth, failure, others, .. } = counted;
    let micros = lasted / 1000;
    let created_at = Timestamp(at.0.saturating_sub(i64::try_from(micros).unwrap_or(i64::MAX)));
    let id = CallId::new(created_at, fastrand::u128(..));
    let mut record = CallRecord::begin(id, created_at, Method::Unknown, &identity);
    record.completed_at = at;
    (record.auth_method, record.auth_state) = auth;
    record.status = failure.status;
    record.status_detail = Some(failure.detail);
    record.origin = Some(failure.origin());
    record.http_status = failure.http_status;
    record.error_code = Some(failure.code.into());
    record.error_message = Some(format!("{others} more refusals of this kind").into());
    record.error_detail = Some(format!("{{\"refusals\":{others},\"microseconds\":{micros}}}").into());
    record.client_ip = kind.client_ip;
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpmeter_observer::{Status, StatusDetail};

    const AT: Timestamp = Timestamp(1_700_000_000_000_000);

    fn failure(code: &'static str) -> Failure {
        Failure {
            status: Status::Denied,
            detail: StatusDetail::Credentials,
            code,
            message: String::new(),
            http_status: Some(401),
            context: None,
        }
    }

    fn identity() -> Identity {
        Identity { instance_id: "i".into(), user_id: None, organization_id: None }
    }

    /// How many of so many refusals from one address are records.
    fn note(refusals: &Refusals, address: &str, times: u64, at: u64) -> u64 {
        let (address, failure) = (Text::from(address), failure("key_unknown"));
        let caller = Caller {
            auth_method: AuthMethod::ApiKey,
            auth_state: AuthState::Invalid,
            api_key_id: None,
            user_id: None,
            organization_id: None,
        };
        let note = || refusals.note(&identity(), Some(&address), (&caller, &failure), Tick(at));
        (0..times).map(|_| u64::from(note())).sum()
    }

    #[test]
    fn of_a_flood_the_first_are_records_and_the_others_a_number() {
        let refusals = Refusals::default();
        assert_eq!(note(&refusals, "a", 5_000, 0), 10);
        assert_eq!(note(&refusals, "b", 3, 1), 3);
        assert!(refusals.take_counted(Tick(9_999_999_999), AT, false).is_empty());
        let records = refusals.take_counted(Tick(10_000_000_000), AT, false);
        let [record] = records.as_slice() else { panic!("one kind was a flood: {records:?}") };
        assert_eq!((record.method, record.status), (Method::Unknown, Status::Denied));
        assert_eq!(record.error_detail.as_deref(), Some("{\"refusals\":4990,\"microseconds\":10000000}"));
        assert_eq!((record.client_ip.as_deref(), record.completed_at), (Some("a"), AT));
        assert_eq!(note(&refusals, "a", 1, 10_000_000_001), 1, "a new window");
    }

    #[test]
    fn many_addresses_are_bounded_and_none_is_forgotten() {
        let refusals = Refusals::default();
        let rows: u64 = (0..5_000).map(|number| note(&refusals, &number.to_string(), 2, 0)).sum();
        assert_eq!(rows, ROWS);
        let records = refusals.take_counted(Tick(0), AT, true);
        assert!(records.len() <= MAX_KINDS + 1, "{}", records.len());
        let counted: u64 = records.iter().map(number_in).sum();
        assert_eq!(counted + rows, 10_000);
    }

    fn number_in(record: &CallRecord) -> u64 {
        let detail: serde_json::Value =
            serde_json::from_str(record.error_detail.as_deref().unwrap()).unwrap();
        detail["refusals"].as_u64().unwrap()
    }
}
