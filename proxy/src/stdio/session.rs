//! Sessions of the revisions that have them: a client's conversation with a program of its own, or with one that it
//! shares. Whoever knows the id and is the same caller is in the session; ids are random and never logged.

use super::{
    child::Child,
    conversation::{Client, Stream},
};
use mcpmeter_observer::{AuthState, Caller, Text};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

/// More sessions than clients of one route that mean well; each of a program of its own has that limit first.
const MAX_SESSIONS: usize = 10_000;

/// Whose a session is: nobody else can go on with it, even with its id. Of callers that were not checked, nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owner(Option<[Option<Text>; 3]>);

impl Owner {
    pub(super) fn of(caller: Option<&Arc<Caller>>) -> Self {
        let known = caller.filter(|caller| caller.auth_state == AuthState::Ok);
        Self(known.map(|caller| {
            [caller.user_id.clone(), caller.organization_id.clone(), caller.api_key_id.clone()]
        }))
    }
}

/// One client's session.
pub(super) struct Session {
    owner: Owner,
    pub(super) id: String,
    pub(super) client: Client,
    pub(super) child: Arc<Child>,
    /// The program ends with it.
    pub(super) is_private: bool,
    /// What `initialize` has ended in.
    pub(super) version: OnceLock<String>,
    /// The stream that everything goes to, of a client of 2024-11-05.
    pub(super) stream: Option<Stream>,
    last_used: Mutex<Instant>,
}

/// All sessions of a route.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new one, `None` if there are too many.
    pub(super) fn open(
        &self,
        child: Arc<Child>,
        client: Client,
        is_private: bool,
        stream: Option<Stream>,
        owner: Owner,
    ) -> Option<Arc<Session>> {
        let id = uuid::Uuid::from_u128(random()).simple().to_string();
        let version = OnceLock::new();
        let last_used = Mutex::new(Instant::now());
        let session = Arc::new(Session { owner, id, client, child, is_private, version, stream, last_used });
        let mut sessions = self.lock();
        if sessions.len() >= MAX_SESSIONS {
            sessions.retain(|_, session| !session.child.has_ended());
        }
        if sessions.len() >= MAX_SESSIONS {
            return None;
        }
        sessions.insert(session.id.clone(), Arc::clone(&session));
        Some(session)
    }

    /// The session of an id, for its owner, while its program lives.
    pub(super) fn get(&self, id: &str, owner: &Owner) -> Option<Arc<Session>> {
        let mut sessions = self.lock();
        let session = sessions.get(id).filter(|session| session.owner == *owner)?;
        if session.child.has_ended() {
            sessions.remove(id);
            return None;
        }
        *session.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Some(Arc::clone(session))
    }

    /// Ends a session; `false` if there is none.
    pub(super) fn close(&self, id: &str) -> bool {
        let session = self.lock().remove(id);
        session.inspect(|session| session.end()).is_some()
    }

    /// Forgets the sessions of programs that have ended, and ends those on shared programs that nobody has used for that
    /// long: most clients leave without a word.
    pub(super) fn sweep(&self, patience: Option<Duration>) {
        let is_idle = |session: &Session| patience.is_some_and(|patience| session.is_idle(patience));
        let idle: Vec<_> = self.lock().extract_if(|_, session| is_idle(session)).collect();
        idle.iter().for_each(|(_, session)| session.end());
        self.lock().retain(|_, session| !session.child.has_ended());
    }

    /// Ends all.
    pub(super) fn close_all(&self) {
        self.lock().drain().for_each(|(_, session)| session.end());
    }
}

impl Session {
    /// A program of its own has its own patience.
    fn is_idle(&self, patience: Duration) -> bool {
        let last_used = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_private && last_used.elapsed() >= patience && !self.child.is_used_by(self.client)
    }

    fn end(&self) {
        if self.is_private {
            self.child.stop_with_session();
        } else {
            self.child.end_client(self.client);
        }
    }
}

/// Ends a session when it is dropped, unless it has been claimed.
pub(super) struct SessionGuard {
    sessions: Weak<Sessions>,
    id: Option<String>,
}

impl SessionGuard {
    pub(super) fn new(sessions: &Arc<Sessions>, session: &Session) -> Self {
        Self { sessions: Arc::downgrade(sessions), id: Some(session.id.clone()) }
    }

    /// The session lives on: its client knows it.
    pub(super) fn release(mut self) {
        self.id = None;
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let Some((id, sessions)) = self.id.take().zip(self.sessions.upgrade()) {
            sessions.close(&id);
        }
    }
}

/// 128 bits that nobody can guess.
fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}
