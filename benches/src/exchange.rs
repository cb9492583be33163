//! What is asked and what must be answered, for the upstream and for the load generator alike. Content is fixed: two
//! runs anywhere exchange the same bytes, the ids aside.

use std::fmt::Write;
use std::time::Duration;

use memchr::memmem;

use crate::template::{CallId, Template};

/// The protocol revision the exchanges are written in: the newest one with sessions.
pub(crate) const PROTOCOL_VERSION: &str = "2025-11-25";

/// Time between two events of an event stream.
pub(crate) const EVENT_GAP: Duration = Duration::from_millis(10);

const LIST_BYTES: usize = 12 * 1024;
const BIG_BYTES: usize = 1024 * 1024;

/// One kind of request with its one right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// `tools/call`, about 300 B of JSON.
    Small,
    /// `tools/list`, 12 KB of JSON.
    List,
    /// `tools/call`, 1 MiB of JSON, most of it one string.
    Big,
    /// `tools/call`, 3 KB of JSON, most of it one string; the next ones likewise.
    Kb3,
    /// 30 KB.
    Kb30,
    /// 300 KB.
    Kb300,
    /// 3 MB.
    Mb3,
    /// `tools/call`, two progress events and the result, each sent on its own.
    Events,
}

/// How an answer travels.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// One JSON body.
    Json(Template),
    /// An event stream, one template per event, `EVENT_GAP` apart.
    Events(Vec<Template>),
}

impl Answer {
    /// The media type of the answer.
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Events(_) => "text/event-stream",
        }
    }
}

impl Exchange {
    /// Every exchange there is.
    pub(crate) const ALL: [Self; 8] =
        [Self::Small, Self::List, Self::Big, Self::Kb3, Self::Kb30, Self::Kb300, Self::Mb3, Self::Events];

    /// The body of the request.
    pub(crate) fn request(self) -> Template {
        let Some(tool) = self.tool() else {
            return Template::parse(r#"{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{}}"#);
        };
        let meta = if self == Self::Events { r#","_meta":{"progressToken":{id}}"# } else { "" };
        Template::parse(&format!(
            r#"{{"jsonrpc":"2.0","id":{{id}},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"order":"A-1042","fields":["state","items","total"]}}{meta}}}}}"#
        ))
    }

    /// The answer as the upstream sends it.
    pub(crate) fn answer(self) -> Answer {
        match self {
            Self::Events => Answer::Events(events().iter().map(|event| Template::parse(event)).collect()),
            _ => Answer::Json(self.answer_body()),
        }
    }

    /// The whole body of the answer, events joined.
    pub(crate) fn answer_body(self) -> Template {
        match self {
            Self::Small => Template::parse(&result_with_text(&order_text(1, 200))),
            Self::List => Template::parse(&tool_list(LIST_BYTES)),
            Self::Big => Template::parse(&result_of(BIG_BYTES)),
            Self::Kb3 => Template::parse(&result_of(3_000)),
            Self::Kb30 => Template::parse(&result_of(30_000)),
            Self::Kb300 => Template::parse(&result_of(300_000)),
            Self::Mb3 => Template::parse(&result_of(3_000_000)),
            Self::Events => Template::parse(&events().concat()),
        }
    }

    /// The tool a request names; none for `tools/list`.
    fn tool(self) -> Option<&'static str> {
        match self {
            Self::Small => Some("get_order"),
            Self::List => None,
            Self::Big => Some("export_orders"),
            Self::Kb3 => Some("export_3_kb"),
            Self::Kb30 => Some("export_30_kb"),
            Self::Kb300 => Some("export_300_kb"),
            Self::Mb3 => Some("export_3_mb"),
            Self::Events => Some("import_orders"),
        }
    }
}

/// What a request body asks for, or nothing if it is none of ours.
pub(crate) fn recognize_request(body: &[u8]) -> Option<(Exchange, [u8; CallId::DIGITS])> {
    const ID: &[u8] = br#""id":"#;
    let digits = body.get(memmem::find(body, ID)? + ID.len()..)?.first_chunk::<{ CallId::DIGITS }>()?;
    let names = |exchange: &Exchange| match exchange.tool() {
        Some(tool) => memmem::find(body, tool.as_bytes()).is_some(),
        None => memmem::find(body, b"tools/list").is_some(),
    };
    let exchange = Exchange::ALL.into_iter().find(names)?;
    digits.iter().all(u8::is_ascii_digit).then_some((exchange, *digits))
}

/// A result of about so many bytes.
fn result_of(bytes: usize) -> String {
    result_with_text(&order_text(usize::MAX, bytes - 100))
}

fn result_with_text(text: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{{id}},"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
    )
}

/// Lines of JSON inside a JSON string, escapes included, as tools commonly answer; cut at a line once `bytes` are there.
fn order_text(lines: usize, bytes: usize) -> String {
    let mut text = String::new();
    for line in 0..lines {
        if text.len() >= bytes {
            break;
        }
        let _ = write!(
            text,
            r#"{{\"order\":\"A-{line}\",\"state\":\"shipped\",\"items\":[{{\"sku\":\"TEA-100\",\"count\":2}},{{\"sku\":\"CUP-7\",\"count\":6}}],\"total\":\"48.20 EUR\",\"note\":\"leave it with the neighbour, second door on the left\"}}\n"#
        );
    }
    text
}

fn tool_list(bytes: usize) -> String {
    let mut tools = String::new();
    for number in 0.. {
        if tools.len() >= bytes {
            break;
        }
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(
            tools,
            r#"{comma}{{"name":"orders_tool_{number}","title":"Orders {number}","description":"Finds orders by customer, state and date, and returns at most the given number of them, newest first.","inputSchema":{{"type":"object","properties":{{"customer":{{"type":"string","description":"The customer's number"}},"state":{{"type":"string","enum":["open","paid","shipped"]}},"limit":{{"type":"integer","minimum":1,"maximum":500}}}},"required":["customer"]}}}}"#
        );
    }
    format!(r#"{{"jsonrpc":"2.0","id":{{id}},"result":{{"tools":[{tools}]}}}}"#)
}

fn events() -> [String; 3] {
    let progress = |done: u8| {
        format!(
            "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{{id}},\"progress\":{done},\"total\":3}}}}\n\n"
        )
    };
    let result = format!("event: message\ndata: {}\n\n", result_with_text("imported 3 orders"));
    [progress(1), progress(2), result]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_recognized_with_its_id() {
        for exchange in Exchange::ALL {
            let digits = CallId::nth(42).digits();
            let mut body = Vec::new();
            exchange.request().render(&digits, &mut body);
            assert_eq!(recognize_request(&body), Some((exchange, digits)));
        }
        assert_eq!(recognize_request(br#"{"id":1000000001,"method":"ping"}"#), None);
        assert_eq!(recognize_request(br#"{"id":12"#), None);
    }

    #[test]
    fn answers_have_the_sizes_the_workloads_promise() {
        let bytes = |exchange: Exchange| exchange.answer_body().len();
        assert!((250..=350).contains(&bytes(Exchange::Small)), "{}", bytes(Exchange::Small));
        assert!((12_000..=13_000).contains(&bytes(Exchange::List)), "{}", bytes(Exchange::List));
        for (exchange, promised) in
            [(Exchange::Kb3, 3_000), (Exchange::Kb30, 30_000), (Exchange::Mb3, 3_000_000)]
        {
            assert!(bytes(exchange).abs_diff(promised) < promised / 10, "{}", bytes(exchange));
        }
        assert!(bytes(Exchange::Big).abs_diff(BIG_BYTES) < 1_000, "{}", bytes(Exchange::Big));
    }
}
