//! The tasks that calls of one instance were answered with, until their end is seen (WIRE.md 1.2, J and K).
//!
//! A task outlives the exchange, the connection and the session it was created in; its end comes as the answer to
//! somebody's `tasks/get`, `tasks/result` or `tasks/cancel`, or as a notification. Then it becomes a row of its own
//! with the hash of its creation's row, exactly once. Only the hash of a task's id is ever kept, and tasks whose end
//! nobody asks for are forgotten: by their number, and by their age.

use crate::{
    call::{CallId, CallRecord, Text, Tick},
    correlator::OpenCall,
    instance::Identity,
    jsonrpc::IdToken,
    outcome::Outcome,
    trace,
    word::{Framing, MatchKind, StatusDetail},
};
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Tasks of one instance whose end is waited for. Beyond that the one that waits longest is forgotten and counted.
const MAX_TASKS: usize = 4096;
/// How long a task's end is waited for, in nanoseconds. Later it is forgotten and counted.
const TASK_TTL: u64 = 24 * 3600 * 1_000_000_000;
/// How long an end that was only announced by its word waits for the `tasks/result` that says more, in nanoseconds.
const RESULT_GRACE: u64 = 5 * 1_000_000_000;

/// The tasks of one instance, by the hash of their id.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    waiting: Mutex<HashMap<Text, Task>>,
    /// Spares everybody the lock as long as there is no task.
    len: AtomicUsize,
    forgotten: AtomicU64,
}

/// A task whose end has not become a row yet.
#[derive(Debug)]
struct Task {
    /// The row of its end, as far as it is known from the call that created it.
    call: OpenCall,
    since: Tick,
    /// It has ended, but how is only known by the word.
    ended: Option<TaskEnd>,
}

/// The end of a task, as one message told it.
#[derive(Debug, Clone)]
pub(crate) struct TaskEnd {
    /// Of the row that it becomes.
    pub(crate) entropy: u128,
    pub(crate) outcome: Outcome,
    /// The message holds the call's own outcome, and not just a word for it. From 2026-07-28 on it always does.
    pub(crate) is_told: bool,
    pub(crate) at: Tick,
    pub(crate) framing: Framing,
    pub(crate) http_status: Option<u16>,
    pub(crate) input_bytes: u64,
    pub(crate) output_bytes: u64,
}

/// A request about a task, until it is answered.
#[derive(Debug)]
pub(crate) struct TaskQuestion {
    pub(crate) id: IdToken,
    /// The hash of the task's id.
    pub(crate) task: Text,
    /// The answer is the call's own (`tasks/result`), and not one about the task.
    pub(crate) wants_result: bool,
    /// Of the request's message.
    pub(crate) bytes: u64,
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, HashMap<Text, Task>> {
        // Nothing in here panics; were it ever to, the tasks are still better known than not.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the end of any task is waited for. Costs no lock.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Tasks that were forgotten before their end was seen.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Waits for the end of the task that a call has just been answered with. Gives the row of one whose end was
    /// known and that had to make room.
    pub(crate) fn insert(
        &self,
        created: &CallRecord,
        began_at: Tick,
        asked_at: Tick,
        now: Tick,
    ) -> Option<Box<CallRecord>> {
        let hash = created.task_hash.clone()?;
        let mut waiting = self.lock();
        let replaced = match waiting.remove(&hash) {
            None if waiting.len() >= MAX_TASKS => remove_oldest(&mut waiting),
            replaced => replaced,
        };
        let call = OpenCall {
            record: begin_end(created),
            id: IdToken::Missing,
            began_at,
            asked_at,
            progress_token: IdToken::Missing,
            soft_key: None,
        };
        waiting.insert(hash, Task { call, since: now, ended: None });
        self.len.store(waiting.len(), Ordering::Release);
        drop(waiting);
        replaced.and_then(|task| self.settle(task))
    }

    /// Somebody wants the task to be cancelled.
    pub(crate) fn note_cancel(&self, hash: &str) {
        if let Some(task) = self.lock().get_mut(hash) {
            task.call.record.cancel_requested = true;
        }
    }

    /// The task has ended: its row, unless the word alone is known yet, or nobody waits for it.
    pub(crate) fn end(&self, hash: &str, end: TaskEnd) -> Option<Box<CallRecord>> {
        let mut waiting = self.lock();
        let task = waiting.get_mut(hash)?;
        if !end.is_told && !task.call.record.is_modern() {
            task.ended.get_or_insert(end);
            return None;
        }
        let task = waiting.remove(hash)?;
        self.len.store(waiting.len(), Ordering::Release);
        Some(task.finish(end))
    }

    /// Rows of tasks whose end is known by the word alone and whose `tasks/result` nobody fetched; forgets what is
    /// too old.
    pub(crate) fn take_expired(&self, now: Tick) -> impl Iterator<Item = Box<CallRecord>> {
        self.take_where(move |task| match &task.ended {
            Some(end) => now.nanos_since(end.at) >= RESULT_GRACE,
            None => now.nanos_since(task.since) >= TASK_TTL,
        })
    }

    /// The rows of all tasks whose end is known, because the proxy stops.
    pub(crate) fn take_ended(&self) -> impl Iterator<Item = Box<CallRecord>> {
        self.take_where(|task| task.ended.is_some())
    }

    /// Whether a row is still to come by itself.
    pub(crate) fn has_ended(&self) -> bool {
        !self.is_empty() && self.lock().values().any(|task| task.ended.is_some())
    }

    fn take_where(&self, is_over: impl Fn(&Task) -> bool) -> impl Iterator<Item = Box<CallRecord>> {
        let mut over = Vec::new();
        if !self.is_empty() {
            let mut waiting = self.lock();
            over.extend(waiting.extract_if(|_, task| is_over(task)).map(|(_, task)| task));
            self.len.store(waiting.len(), Ordering::Release);
        }
        over.into_iter().filter_map(|task| self.settle(task))
    }

    /// The row of a task that is waited for no longer; without an end there is none.
    fn settle(&self, mut task: Task) -> Option<Box<CallRecord>> {
        let Some(end) = task.ended.take() else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        Some(task.finish(end))
    }
}

fn remove_oldest(waiting: &mut HashMap<Text, Task>) -> Option<Task> {
    let oldest = waiting.iter().min_by_key(|(_, task)| task.since)?.0.clone();
    waiting.remove(&oldest)
}

/// What the row of the end has in common with the row of the creation: whose it is, what was called, and when.
fn begin_end(created: &CallRecord) -> Box<CallRecord> {
    let identity = Identity {
        instance_id: created.mcp_server_instance_id.clone(),
        user_id: created.user_id.clone(),
        organization_id: created.organization_id.clone(),
    };
    Box::new(CallRecord {
        tool_name: created.tool_name.clone(),
        transport_type: created.transport_type,
        client_transport: created.client_transport,
        protocol_version: created.protocol_version.clone(),
        auth_method: created.auth_method,
        auth_state: created.auth_state,
        api_key_id: created.api_key_id.clone(),
        client_ip: created.client_ip.clone(),
        user_agent: created.user_agent.clone(),
        client_name: created.client_name.clone(),
        client_version: created.client_version.clone(),
        session_hash: created.session_hash.clone(),
        trace_id: created.trace_id.clone(),
        parent_span_id: created.span_id.clone(),
        rpc_id: created.rpc_id.clone(),
        task_hash: created.task_hash.clone(),
        mrtr_group: created.mrtr_group.clone(),
        ..CallRecord::begin(created.id, created.created_at, created.method, &identity)
    })
}

impl Task {
    /// The row: it lasts from the call's request to the first message that told the end.
    fn finish(self, end: TaskEnd) -> Box<CallRecord> {
        let at = self.ended.map_or(end.at, |first| first.at);
        let mut call = self.call;
        let record = &mut call.record;
        record.id = CallId::new(record.created_at, end.entropy);
        record.span_id = record.trace_id.is_some().then(|| trace::span_id(record.id));
        record.match_kind = MatchKind::Exact;
        record.framing = Some(end.framing);
        record.http_status = end.http_status;
        record.input_bytes = end.input_bytes;
        record.output_bytes = end.output_bytes;
        call.finish(Outcome { detail: Some(StatusDetail::TaskEnd), ..end.outcome }, at)
    }
}
