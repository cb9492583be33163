//! A server that is a program: here the proxy is the HTTP server, in every revision of MCP, and speaks to the program by
//! lines (WIRE.md 6). Everything in this folder is about that; whoever forwards sees only a [`Server`] that answers.
//!
//! `conversation.rs` is the pure core: whose answer is whose. `child.rs` and `running.rs` are a program's life around it,
//! `process/` its pipes and its end, `session.rs` and `shared.rs` say which client speaks to which program, and
//! `endpoint.rs` what a request asks for.

mod answering;
mod answers;
mod body;
mod carrying;
mod child;
mod conversation;
mod endpoint;
mod failure;
mod framing;
mod host;
mod legacy;
mod message;
mod modern;
mod outlet;
pub(crate) mod process;
mod reply;
mod restarts;
mod running;
mod session;
mod shared;

pub(crate) use body::Body;
pub(crate) use host::Host;

use crate::{occupancy::Occupancy, process_meter::Meter};
use child::Child;
use mcpmeter_config::{Command, Isolation};
use mcpmeter_observer::Failure;
use running::Plan;
use session::Sessions;
use shared::{NoChild, Shared};
use std::{sync::Arc, time::Duration};

/// The server of one route. Dropped, it ends its programs.
pub(crate) struct Server {
    name: Arc<str>,
    command: Arc<Command>,
    host: Host,
    sessions: Arc<Sessions>,
    /// For clients of the revision without sessions.
    modern: Shared,
    /// For sessions that share a program.
    legacy: Shared,
    processes: Arc<Occupancy>,
    meter: Arc<Meter>,
}

impl Server {
    /// A server whose programs run on this host. None is started before it is needed.
    pub(crate) fn new(name: &str, command: &Command, host: &Host, meter: &Arc<Meter>) -> Self {
        Self {
            name: name.into(),
            command: Arc::new(command.clone()),
            host: host.clone(),
            sessions: Arc::default(),
            modern: Shared::default(),
            legacy: Shared::default(),
            processes: Arc::default(),
            meter: Arc::clone(meter),
        }
    }

    /// The longest message, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        usize::try_from(self.command.max_message_mib << 20).unwrap_or(usize::MAX)
    }

    /// A program, started.
    async fn start(&self, remaps: bool) -> Result<Arc<Child>, Failure> {
        let limit = self.command.max_processes;
        let place = self.processes.enter(u32::try_from(limit).unwrap_or(u32::MAX));
        let place = place.ok_or_else(|| failure::no_room(limit))?;
        let sessions = Arc::downgrade(&self.sessions);
        let plan = Plan {
            name: Arc::clone(&self.name),
            command: Arc::clone(&self.command),
            remaps,
            place,
            meter: Arc::clone(&self.meter),
            on_end: Box::new(move || {
                if let Some(sessions) = sessions.upgrade() {
                    sessions.sweep(None);
                }
            }),
        };
        running::start(&self.host, plan).await
    }

    /// The program for a new session, and whether it is the session's own.
    async fn program_of_session(&self) -> Result<(Arc<Child>, bool), Failure> {
        if self.command.isolation != Isolation::Shared {
            return Ok((self.start(false).await?, true));
        }
        let patience = self.command.idle_timeout_ms;
        self.sessions.sweep((patience > 0).then(|| Duration::from_millis(patience)));
        match self.legacy.get(false, async || self.start(true).await).await {
            Ok(child) => Ok((child, false)),
            Err(NoChild::Failed(failure)) => Err(failure),
            Err(NoChild::Legacy) => unreachable!("it was not asked for its revision"),
        }
    }

    /// The program for clients of the revision without sessions.
    async fn program_of_requests(&self) -> Result<Arc<Child>, NoChild> {
        if self.command.isolation == Isolation::PerSession {
            return Err(NoChild::Legacy);
        }
        self.modern.get(true, async || self.start(true).await).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.sessions.close_all();
        self.modern.stop();
        self.legacy.stop();
    }
}
