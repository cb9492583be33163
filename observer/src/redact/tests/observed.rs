//! No secret of any kind, at any place, in any pieces, gets from the wire into a record.

use super::{
    Dice, Redactor,
    carrier::{carry, escape_some},
    planted::{self, Planted},
};
use crate::{
    CallRecord, Exchange, Failure, Head, Identity, Instance, Mount, Status, StatusDetail, Tick, Timestamp,
    redact::escape,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Where in an exchange something can be said.
#[derive(Debug, Clone, Copy)]
enum Site {
    ErrorMessage,
    ErrorData,
    ToolError,
    ErrorBody,
    UserAgent,
    ToolName,
    AnnouncedTool,
    ClientInfo,
    RequestId,
    Cancel,
    FailureMessage,
    FailureContext,
    Version,
}

const SITES: [Site; 13] = [
    Site::ErrorMessage,
    Site::ErrorData,
    Site::ToolError,
    Site::ErrorBody,
    Site::UserAgent,
    Site::ToolName,
    Site::AnnouncedTool,
    Site::ClientInfo,
    Site::RequestId,
    Site::Cancel,
    Site::FailureMessage,
    Site::FailureContext,
    Site::Version,
];

/// One exchange, in pieces.
struct Wire<'a> {
    instance: Arc<Instance>,
    dice: &'a mut Dice,
    headers: HeaderMap,
    /// What the client says, and what it says beside it.
    request: Value,
    notice: Option<Value>,
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    failure: Option<Failure>,
}

fn instance(redactor: &Arc<Redactor>) -> Arc<Instance> {
    let identity = Identity { instance_id: "i".into(), user_id: None, organization_id: None };
    let mount = Mount { origin: "http://u".to_owned(), base_path: String::new(), prefix: "/x".to_owned() };
    let instance = Instance::new(identity, mount);
    instance.redact_with(Arc::clone(redactor));
    Arc::new(instance)
}

fn header(text: &str) -> HeaderValue {
    let visible: Vec<u8> =
        text.bytes().map(|byte| if byte < 0x20 || byte == 0x7f { b' ' } else { byte }).collect();
    HeaderValue::from_bytes(&visible).expect("visible")
}

impl<'a> Wire<'a> {
    fn new(dice: &'a mut Dice, redactor: &Arc<Redactor>) -> Self {
        Self {
            instance: instance(redactor),
            dice,
            headers: HeaderMap::new(),
            request: json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "t" } }),
            notice: None,
            status: StatusCode::OK,
            content_type: "application/json",
            body: br#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_vec(),
            failure: None,
        }
    }

    fn say(&mut self, site: Site, text: &str) {
        let params = &mut self.request["params"];
        match site {
            Site::ErrorMessage => self.answer(json!({ "error": { "code": -32000, "message": text } })),
            Site::ErrorData => {
                let data = match self.dice.below(4) {
                    0 => json!(text),
                    1 => json!({ "stack": text, "n": 1 }),
                    2 => json!({ "causes": [{ "detail": [text] }, "more"] }),
                    _ => json!({ text: text }),
                };
                self.answer(json!({ "error": { "code": -32000, "message": "m", "data": data } }));
            }
            Site::ToolError => {
                self.answer(
                    json!({ "result": { "isError": true, "content": [{ "type": "text", "text": text }] } }),
                );
            }
            Site::ErrorBody => {
                self.status = StatusCode::BAD_GATEWAY;
                self.content_type = "text/plain";
                self.body = text.as_bytes().to_vec();
            }
            Site::UserAgent => drop(self.headers.insert("user-agent", header(text))),
            Site::ToolName => params["name"] = json!(text),
            Site::AnnouncedTool => {
                self.headers.insert("mcp-method", HeaderValue::from_static("tools/call"));
                self.headers.insert(HeaderName::from_static("mcp-name"), header(text));
                self.request = Value::Null;
            }
            Site::ClientInfo => {
                params["_meta"] =
                    json!({ "io.modelcontextprotocol/clientInfo": { "name": text, "version": text } });
            }
            Site::RequestId => self.request["id"] = json!(text),
            Site::Cancel => {
                let params = json!({ "requestId": 1, "reason": text });
                self.notice =
                    Some(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
            }
            Site::FailureMessage => self.failure = Some(failure(text, None)),
            Site::FailureContext => {
                let lines: Vec<&str> = text.lines().collect();
                let context = json!({ "process": { "exit_status": 1, "stderr": lines } });
                self.failure = Some(failure("gone", Some(context.to_string())));
            }
            Site::Version => params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": text }),
        }
    }

    fn answer(&mut self, mut message: Value) {
        message["jsonrpc"] = json!("2.0");
        message["id"] = json!(1);
        let mut text = message.to_string();
        if self.dice.below(3) == 0 {
            text = escape_some(&text, self.dice);
        }
        if self.dice.below(2) == 0 {
            self.content_type = "text/event-stream";
            text = format!("event: message\ndata: {text}\n\n");
        }
        self.body = text.into_bytes();
    }

    /// Whatever came of it.
    fn records(mut self) -> Vec<CallRecord> {
        let request = self.request.to_string();
        let mut exchange = self.instance.begin(&head(&self.headers));
        self.pieces(request.into_bytes(), |piece| exchange.handle_request_data(piece, Tick(2)));
        exchange.handle_request_end(Tick(2));
        if let Some(notice) = &self.notice {
            let mut other = self.instance.begin(&head(&self.headers));
            other.handle_request_data(notice.to_string().as_bytes(), Tick(3));
            other.handle_request_end(Tick(3));
            exchange.handle_client_left(Tick(4));
        }
        if let Some(failure) = &self.failure {
            exchange.handle_failure(failure, Tick(4));
        } else {
            let content_type = HeaderValue::from_static(self.content_type);
            let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, content_type)]);
            exchange.handle_response_head(self.status, &headers, Tick(4));
            let body = std::mem::take(&mut self.body);
            self.pieces(body, |piece| exchange.handle_response_data(piece, Tick(5)));
            exchange.handle_response_end(Tick(6));
        }
        finished(&mut exchange)
    }

    /// Cuts the bytes anywhere.
    fn pieces(&mut self, bytes: Vec<u8>, mut take: impl FnMut(&[u8])) {
        let longest = [1, 3, 16, 100, usize::MAX][self.dice.below(5)].min(bytes.len().max(1));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + self.dice.below(longest)).min(rest.len()));
            take(piece);
            rest = behind;
        }
    }
}

const fn head(headers: &HeaderMap) -> Head<'_> {
    Head {
        method: &Method::POST,
        target: "/mcp",
        headers,
        created_at: Timestamp(1),
        at: Tick(1),
        entropy: 1,
        client_ip: None,
        caller: None,
    }
}

fn failure(message: &str, context: Option<String>) -> Failure {
    Failure {
        status: Status::UpstreamError,
        detail: StatusDetail::Aborted,
        code: "process_exited",
        message: message.to_owned(),
        http_status: Some(502),
        context,
    }
}

fn finished(exchange: &mut Exchange) -> Vec<CallRecord> {
    std::iter::from_fn(|| exchange.poll_finished(Tick(9))).map(|record| *record).collect()
}

/// Everything that a record says, as it is written and as its escapes mean it.
fn words_of(records: &[CallRecord]) -> String {
    let mut words = String::new();
    for record in records {
        words += &format!("{record:?}\n{}\n", serde_json::to_string(record).expect("a row"));
        for text in [
            &record.error_message,
            &record.error_detail,
            &record.tool_name,
            &record.user_agent,
            &record.rpc_id,
        ]
        .into_iter()
        .flatten()
        {
            words += text;
            words.push('\n');
            collect_strings(&serde_json::from_str(text).unwrap_or(Value::Null), &mut words);
        }
    }
    let meant = escape::decode(&words).unwrap_or_default();
    words + &meant
}

fn collect_strings(value: &Value, words: &mut String) {
    match value {
        Value::String(text) => *words += &format!("{text}\n"),
        Value::Array(values) => values.iter().for_each(|value| collect_strings(value, words)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            *words += &format!("{name}\n");
            collect_strings(value, words);
        }),
        _ => {}
    }
}

#[test]
fn no_planted_secret_reaches_a_record() {
    let mut dice = Dice(42);
    let redactor = Arc::new(planted::redactor(None));
    let (mut planted, mut survived) = (0, Vec::new());
    for round in 0..4 {
        for rule in planted::rules() {
            for site in SITES {
                // Every kind at every place, in another text each time.
                let secret = planted::plant(rule, &mut dice);
                let mut text = carry(&secret.text, &mut dice);
                if round == 3 {
                    // Behind so much that it is cut somewhere.
                    let fill = "no such thing. ".repeat([15, 32, 135][dice.below(3)]);
                    text = format!("{}{text}", &fill[dice.below(20)..]);
                }
                let mut wire = Wire::new(&mut dice, &redactor);
                wire.say(site, &text);
                let records = wire.records();
                assert!(!records.is_empty(), "{site:?}: a call is a record");
                planted += 1;
                note_survival(&secret, &records, &format!("{rule:?} at {site:?} in {text:?}"), &mut survived);
            }
        }
    }
    let rate = 100.0 * (planted - survived.len()) as f64 / planted as f64;
    println!("planted: {planted} secrets, {} survived, {rate:.2} % masked", survived.len());
    assert!(survived.is_empty(), "{rate:.2} %\n{}", survived[..survived.len().min(30)].join("\n"));
}

fn note_survival(secret: &Planted, records: &[CallRecord], place: &str, survived: &mut Vec<String>) {
    if secret.survives_in(&words_of(records)) {
        let first = &records[0];
        let (message, detail) = (&first.error_message, &first.error_detail);
        survived.push(format!(
            "{} of {place}\n   {message:?} {detail:?} {:?}",
            secret.secret(),
            first.tool_name
        ));
    }
}

#[test]
fn new_patterns_apply_to_exchanges_that_have_begun() {
    let mut dice = Dice(1);
    let mut wire = Wire::new(&mut dice, &Arc::new(planted::redactor(None)));
    wire.say(Site::ErrorMessage, "E-123456 alice@example.com");
    let told = wire.instance.clone();
    told.redact_with(Redactor::new(&[crate::Personal::Email], Vec::new()));
    let records = wire.records();
    assert_eq!(records[0].error_message.as_deref(), Some("E-123456 alice@example.com"));
}
