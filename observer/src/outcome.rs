//! How a call ended: from the answer, or from what came in its place, to the words of the record.

use crate::{
    body,
    call::{CallRecord, Text, Tick},
    conversation::hash_secret,
    correlator::OpenCall,
    exchange::Failure,
    jsonrpc::{Leaf, Message},
    redact::{End, Redactor},
    word::{Framing, MatchKind, Method, Origin, Status, StatusDetail},
};

/// The most bytes of an error message.
pub(crate) const MAX_MESSAGE: usize = 2048;
/// The most bytes of an error detail.
pub(crate) const MAX_DETAIL: usize = 8192;
/// The most bytes of an error's code.
const MAX_CODE: usize = 64;
/// How much of an HTTP error's body is read for its message. Whoever hands over as much has cut it.
pub(crate) const MAX_ERROR_BODY: usize = 512;
/// JSON-RPC codes that are the caller's fault (JSON-RPC 2.0 section 5.1; MCP's resource not found).
const CALLER_FAULTS: [&str; 5] = ["-32700", "-32600", "-32601", "-32602", "-32002"];
/// The user has to visit a URL first (2025-11-25).
const URL_ELICITATION_REQUIRED: &str = "-32042";

/// The words for how a call ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) status: Option<Status>,
    pub(crate) detail: Option<StatusDetail>,
    pub(crate) origin: Option<Origin>,
    pub(crate) error_code: Option<Text>,
    pub(crate) error_message: Option<Text>,
    pub(crate) error_detail: Option<Text>,
}

impl Outcome {
    pub(crate) fn new(status: Status, detail: StatusDetail, origin: Origin) -> Self {
        Self { status: Some(status), detail: Some(detail), origin: Some(origin), ..Self::default() }
    }

    pub(crate) const fn ok() -> Self {
        Self {
            status: Some(Status::Ok),
            detail: None,
            origin: None,
            error_code: None,
            error_message: None,
            error_detail: None,
        }
    }

    /// The client cancelled, for the reason it gave, and no answer came.
    pub(crate) fn cancelled(reason: Option<Text>) -> Self {
        let outcome = Self::new(Status::Cancelled, StatusDetail::CancelNotified, Origin::Client);
        Self { error_message: reason, ..outcome }
    }

    /// From the answer itself.
    pub(crate) fn of_answer(redactor: &Redactor, message: &Message, method: Method) -> Self {
        if message.has_error() {
            return Self::of_error(redactor, message);
        }
        if message.is_true(Leaf::IsError) {
            let words = message.content_text();
            let words =
                words.as_deref().map(|words| (words, End::of(message.is_truncated(Leaf::ContentText))));
            return Self::tool_error(redactor, words);
        }
        // A task is created by the request's method, never by the result alone: the examples of SEP-2663
        // answer `tasks/get` with `resultType: "task"` too.
        let task = message.text(Leaf::ResultType) == Some("task") || message.text(Leaf::TaskId).is_some();
        let status = match message.text(Leaf::ResultType) {
            Some("input_required") => Status::InputRequired,
            _ if task && method == Method::ToolsCall => Status::TaskCreated,
            _ => Status::Ok,
        };
        Self { status: Some(status), ..Self::default() }
    }

    fn of_error(redactor: &Redactor, message: &Message) -> Self {
        let detail = message.json(Leaf::ErrorData).map(|data| {
            let data = redactor.redact_document(&data, MAX_DETAIL);
            Text::from(format!("{{\"data\":{}}}", document_of(&data)))
        });
        let words = words_of(message, Leaf::ErrorMessage);
        let outcome = Self::of_code(redactor, message.scalar(Leaf::ErrorCode), words);
        Self { error_detail: detail, ..outcome }
    }

    /// From what kept the answer from coming.
    pub(crate) fn of_failure(redactor: &Redactor, failure: &Failure) -> Self {
        let detail = failure.context.as_deref().map(|context| redactor.redact_document(context, MAX_DETAIL));
        Self {
            error_code: Some(failure.code.into()),
            error_message: Some(redactor.keep(&failure.message, MAX_MESSAGE, End::Whole)),
            error_detail: detail.map(|detail| document_of(&detail).into()),
            ..Self::new(failure.status, failure.detail, failure.origin())
        }
    }

    /// From the two parts that every JSON-RPC error has, wherever it stands.
    pub(crate) fn of_code(redactor: &Redactor, code: Option<&str>, words: Option<(&str, End)>) -> Self {
        let code = code.unwrap_or("unknown");
        let caller = CALLER_FAULTS.contains(&code);
        Self {
            status: Some(Status::RpcError),
            detail: (code == URL_ELICITATION_REQUIRED).then_some(StatusDetail::NeedsInput),
            origin: Some(if caller { Origin::Client } else { Origin::Upstream }),
            error_code: Some(redactor.keep(code, MAX_CODE, End::Whole)),
            error_message: words.map(|(words, end)| redactor.keep(words, MAX_MESSAGE, end)),
            error_detail: None,
        }
    }

    /// A result with `isError`, or what comes to the same.
    pub(crate) fn tool_error(redactor: &Redactor, words: Option<(&str, End)>) -> Self {
        Self {
            status: Some(Status::ToolError),
            origin: Some(Origin::Upstream),
            error_message: words.map(|(words, end)| redactor.keep(words, MAX_MESSAGE, end)),
            ..Self::default()
        }
    }

    /// From an HTTP status of 400 or above whose body is no JSON-RPC message; `body` is its beginning.
    pub(crate) fn of_http_status(redactor: &Redactor, status: u16, body: &[u8], in_session: bool) -> Self {
        let whole = match str::from_utf8(body) {
            // It was cut within a character.
            Err(error) if error.error_len().is_none() => &body[..error.valid_up_to()],
            _ => body,
        };
        let text = String::from_utf8_lossy(whole).replace('\0', "");
        let end = End::of(body.len() >= MAX_ERROR_BODY);
        Self {
            status: Some(Status::HttpError),
            detail: match status {
                401 | 403 => Some(StatusDetail::AuthChallenge),
                404 if in_session => Some(StatusDetail::SessionLost),
                _ => None,
            },
            origin: Some(if status < 500 { Origin::Client } else { Origin::Upstream }),
            error_code: Some(format!("http_{status}").into()),
            error_message: Some(redactor.keep(&text, MAX_MESSAGE, end)).filter(|text| !text.is_empty()),
            error_detail: None,
        }
    }
}

/// A text in a message, and whether it was cut.
pub(crate) fn words_of(message: &Message, leaf: Leaf) -> Option<(&str, End)> {
    message.text(leaf).map(|words| (words, End::of(message.is_truncated(leaf))))
}

/// The hash of something in a message that must not be kept. Of what was cut at its cap there is none: it could be told
/// from no other that begins like it.
pub(crate) fn hash_leaf(message: &Message, leaf: Leaf) -> Option<Text> {
    message.text(leaf).filter(|_| !message.is_truncated(leaf)).map(|secret| hash_secret(secret.as_bytes()))
}

/// The text itself if every database takes it for a JSON document, or else the text as a JSON string: masking
/// or cutting may have broken its syntax, and `jsonb` refuses NUL and lone surrogates that JSON allows.
fn document_of(text: &str) -> String {
    let storable = !text.contains("\\u0000") && serde_json::from_str::<serde_json::Value>(text).is_ok();
    if storable { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

impl OpenCall {
    /// The record of a call that was answered.
    pub(crate) fn answer(
        mut self,
        redactor: &Redactor,
        message: &Message,
        kind: MatchKind,
        framing: Framing,
        bytes: u64,
        at: Tick,
    ) -> Box<CallRecord> {
        let record = &mut self.record;
        record.match_kind = kind;
        record.framing = Some(framing);
        record.output_bytes = bytes;
        record.tool_count = message.tool_count.filter(|_| record.method == Method::ToolsList);
        let outcome = Outcome::of_answer(redactor, message, record.method);
        if outcome.status == Some(Status::TaskCreated) {
            record.task_hash =
                hash_leaf(message, Leaf::TaskId).or_else(|| hash_leaf(message, Leaf::ResultTaskId));
        }
        let mut record = self.finish(outcome, at);
        body::note_answer(&mut record, message);
        record
    }

    /// The record of a call whose outcome is decided.
    pub(crate) fn finish(self, outcome: Outcome, at: Tick) -> Box<CallRecord> {
        let mut record = self.record;
        record.completed_at = record.created_at.plus_nanos(at.nanos_since(self.began_at));
        record.duration_us = at.micros_since(self.asked_at);
        record.status = outcome.status.unwrap_or(record.status);
        record.status_detail = outcome.detail.or(record.status_detail);
        record.origin = outcome.origin;
        record.error_code = outcome.error_code;
        record.error_message = outcome.error_message;
        record.error_detail = outcome.error_detail;
        body::let_go_unwanted(&mut record);
        record
    }
}
