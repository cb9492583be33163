//! Tasks on an exchange: calls that are answered with one, and the messages that tell how one has ended.
//!
//! Whether a task was created is decided by the request's method, never by a result alone; and what a message says of a
//! task only counts if that task's creation was seen (WIRE.md 1.2). So there is no end without a beginning.

use super::{Exchange, Finished, Role};
use crate::{
    call::Tick,
    jsonrpc::{IdToken, Leaf, Message},
    outcome::{Outcome, hash_leaf, words_of},
    redact::{End, Redactor},
    tasks::{TaskEnd, TaskQuestion},
    word::{Framing, Method, Status},
};

/// Questions about tasks that are remembered of one exchange, where only a batch, which knows no tasks, could have more,
/// or of one pipe, where the oldest is forgotten.
const MAX_QUESTIONS: usize = 64;

impl Exchange {
    /// Notes a question whose answer may tell the end of a task.
    pub(super) fn take_task_request(&mut self, method: &str, message: &Message) {
        let wants_result = match method {
            "tasks/get" | "tasks/cancel" => false,
            "tasks/result" => true,
            _ => return,
        };
        if self.instance.memory.tasks.is_empty() {
            return;
        }
        if self.asked.tasks.len() >= MAX_QUESTIONS {
            if !matches!(self.role, Role::Pipe { .. }) {
                return;
            }
            // All that a client ever asks comes on a pipe, and what was asked first may never be answered.
            self.asked.tasks.remove(0);
        }
        let Some(task) = hash_leaf(message, Leaf::ParamsTaskId) else { return };
        if method == "tasks/cancel" {
            self.instance.memory.tasks.note_cancel(&task);
        }
        let bytes = message.bytes;
        self.asked.tasks.push(TaskQuestion { id: message.id(), task, wants_result, bytes });
    }

    /// The call that was finished last may have been answered with a task, whose end is another row.
    pub(super) fn remember_task(&mut self, began_at: Tick, asked_at: Tick, at: Tick) {
        let Some(Finished { record, .. }) = self.finished.back() else { return };
        if record.status != Status::TaskCreated {
            return;
        }
        let settled = self.instance.memory.tasks.insert(record, began_at, asked_at, at);
        self.finished.extend(settled.map(|record| Finished { record, answered_at: None }));
    }

    /// Takes an answer that is one to a question about a task.
    pub(super) fn take_task_answer(
        &mut self,
        message: &Message,
        id: &IdToken,
        framing: Framing,
        bytes: u64,
        at: Tick,
    ) -> bool {
        let Some(question) = self.take_question(id) else { return false };
        let outcome = match question.wants_result {
            true => Some((Outcome::of_answer(&self.redactor(), message, Method::ToolsList), true)),
            false => outcome_of(&self.redactor(), message, &OF_ANSWER),
        };
        if let Some(outcome) = outcome {
            self.end_task(&question.task, outcome, (framing, question.bytes, bytes, at));
        }
        true
    }

    /// The question that an answer belongs to.
    fn take_question(&mut self, id: &IdToken) -> Option<TaskQuestion> {
        if let (Some(_), Some(session)) = (self.answer.resumed, &self.session) {
            return session.with_resumption(|owed| owed.take_question(id));
        }
        let is_pipe = matches!(self.role, Role::Pipe { .. });
        let questions = &mut self.asked.tasks;
        let exact = questions.iter().position(|question| question.id == *id);
        let is_only = questions.len() == 1 && self.asked.requests == 1 && !is_pipe;
        exact.or(is_only.then_some(0)).map(|found| questions.remove(found))
    }

    /// The exchange ends before its questions were answered; a resumed stream may bring the answers.
    pub(super) fn keep_questions(&mut self) {
        let questions = std::mem::take(&mut self.asked.tasks);
        if let Some(session) = self.session.as_ref().filter(|_| !self.answer.event_ids.is_empty()) {
            session.with_resumption(|owed| owed.keep_questions(questions));
        }
    }

    /// Takes a notification on a `subscriptions/listen` that may tell the end of a task.
    pub(super) fn take_task_notice(&mut self, message: &Message, framing: Framing, bytes: u64, at: Tick) {
        if message.method() != Some("notifications/tasks") || self.instance.memory.tasks.is_empty() {
            return;
        }
        let Some(task) = hash_leaf(message, Leaf::ParamsTaskId) else { return };
        if let Some(outcome) = outcome_of(&self.redactor(), message, &OF_NOTICE) {
            self.end_task(&task, outcome, (framing, 0, bytes, at));
        }
    }

    fn end_task(
        &mut self,
        task: &str,
        (outcome, is_told): (Outcome, bool),
        (framing, input_bytes, output_bytes, at): (Framing, u64, u64, Tick),
    ) {
        // Counted down, where the ids of the exchange's calls count up.
        let entropy = self.facts.entropy_of(u32::MAX.wrapping_sub(self.answer.task_ends));
        self.answer.task_ends = self.answer.task_ends.wrapping_add(1);
        let http_status = self.answer.status;
        let end = TaskEnd { entropy, outcome, is_told, at, framing, http_status, input_bytes, output_bytes };
        let ended = self.instance.memory.tasks.end(task, end);
        self.finished.extend(ended.map(|record| Finished { record, answered_at: Some(at) }));
    }
}

/// Where a message says how a task stands.
struct Place {
    status: Leaf,
    message: Leaf,
    is_error: Leaf,
    error_code: Leaf,
    error_message: Leaf,
}

const OF_ANSWER: Place = Place {
    status: Leaf::ResultStatus,
    message: Leaf::ResultStatusMessage,
    is_error: Leaf::InnerIsError,
    error_code: Leaf::InnerErrorCode,
    error_message: Leaf::InnerErrorMessage,
};

const OF_NOTICE: Place = Place {
    status: Leaf::ParamsStatus,
    message: Leaf::ParamsStatusMessage,
    is_error: Leaf::ParamsIsError,
    error_code: Leaf::ParamsErrorCode,
    error_message: Leaf::ParamsErrorMessage,
};

/// How the task has ended, if it has; and whether that is the call's own outcome, or a word for it that a
/// `tasks/result` may still say more of (2025-11-25).
fn outcome_of(redactor: &Redactor, message: &Message, place: &Place) -> Option<(Outcome, bool)> {
    let words = words_of(message, place.message);
    Some(match message.text(place.status)? {
        "completed" if message.is_true(place.is_error) => {
            let text = message.first_text(Leaf::InnerContentText);
            let end = End::of(message.is_truncated(Leaf::InnerContentText));
            (Outcome::tool_error(redactor, text.as_deref().map(|text| (text, end)).or(words)), true)
        }
        "completed" => (Outcome::ok(), false),
        "failed" => match message.scalar(place.error_code) {
            code @ Some(_) => {
                (Outcome::of_code(redactor, code, words_of(message, place.error_message).or(words)), true)
            }
            None => (Outcome::tool_error(redactor, words), false),
        },
        "cancelled" => (Outcome::cancelled(super::facts::name_of(redactor, message, place.message)), true),
        _ => return None,
    })
}
