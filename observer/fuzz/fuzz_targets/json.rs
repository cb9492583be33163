//! The JSON scanner. The first byte of the input says how the rest, the document, is cut.
//!
//! Any cut gives the same messages, and a document that serde_json accepts is understood as serde_json reads it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpmeter_observer::{IdToken, Kind, Leaf, Message, Scanner};
use mcpmeter_observer_fuzz::chunks;
use serde_json::Value;

const LEAVES: [(Leaf, &[&str]); 33] = [
    (Leaf::Id, &["id"]),
    (Leaf::Method, &["method"]),
    (Leaf::Name, &["params", "name"]),
    (Leaf::RequestId, &["params", "requestId"]),
    (Leaf::Reason, &["params", "reason"]),
    (Leaf::ParamsTaskId, &["params", "taskId"]),
    (Leaf::ParamsStatus, &["params", "status"]),
    (Leaf::ParamsStatusMessage, &["params", "statusMessage"]),
    (Leaf::ParamsIsError, &["params", "result", "isError"]),
    (Leaf::ParamsErrorCode, &["params", "error", "code"]),
    (Leaf::ParamsErrorMessage, &["params", "error", "message"]),
    (Leaf::ParamsRequestState, &["params", "requestState"]),
    (Leaf::ParamsVersion, &["params", "protocolVersion"]),
    (Leaf::ClientName, &["params", "clientInfo", "name"]),
    (Leaf::ClientVersion, &["params", "clientInfo", "version"]),
    (Leaf::MetaVersion, &["params", "_meta", "io.modelcontextprotocol/protocolVersion"]),
    (Leaf::Traceparent, &["params", "_meta", "traceparent"]),
    (Leaf::MetaClientName, &["params", "_meta", "io.modelcontextprotocol/clientInfo", "name"]),
    (Leaf::MetaClientVersion, &["params", "_meta", "io.modelcontextprotocol/clientInfo", "version"]),
    (Leaf::IsError, &["result", "isError"]),
    (Leaf::ResultType, &["result", "resultType"]),
    (Leaf::ResultTaskId, &["result", "taskId"]),
    (Leaf::ResultStatus, &["result", "status"]),
    (Leaf::ResultStatusMessage, &["result", "statusMessage"]),
    (Leaf::ResultVersion, &["result", "protocolVersion"]),
    (Leaf::ResultRequestState, &["result", "requestState"]),
    (Leaf::TaskId, &["result", "task", "taskId"]),
    (Leaf::InnerIsError, &["result", "result", "isError"]),
    (Leaf::InnerErrorCode, &["result", "error", "code"]),
    (Leaf::InnerErrorMessage, &["result", "error", "message"]),
    (Leaf::ErrorCode, &["error", "code"]),
    (Leaf::ErrorMessage, &["error", "message"]),
    (Leaf::ErrorData, &["error", "data"]),
];

/// Everything that can be asked of a message.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: Kind,
    has_error: bool,
    id: IdToken,
    raw_id: Option<String>,
    leaves: Vec<(Option<String>, Option<String>, Option<String>, bool)>,
    content: Option<String>,
    inner_content: Option<String>,
    bytes: u64,
    tools: Option<u32>,
    index: Option<u32>,
}

fn see(message: &Message) -> Seen {
    let leaf = |(leaf, _): &(Leaf, &[&str])| {
        let text = message.text(*leaf).map(str::to_owned);
        let scalar = message.scalar(*leaf).map(str::to_owned);
        (text, scalar, message.json(*leaf), message.is_truncated(*leaf))
    };
    Seen {
        kind: message.kind(),
        has_error: message.has_error(),
        id: message.id(),
        raw_id: message.raw_id().map(|id| id.into_owned()),
        leaves: LEAVES.iter().map(leaf).collect(),
        content: message.content_text().map(|text| text.into_owned()),
        inner_content: message.first_text(Leaf::InnerContentText).map(|text| text.into_owned()),
        bytes: message.bytes,
        tools: message.tool_count,
        index: message.batch_index,
    }
}

fn scan(chunks: &[&[u8]]) -> (Vec<Seen>, Option<u32>, bool, u64) {
    let mut scanner = Scanner::default();
    let mut seen = Vec::new();
    for mut chunk in chunks.iter().copied() {
        while let Some(message) = scanner.next_message(&mut chunk) {
            seen.push(see(message));
        }
    }
    if let Some(message) = scanner.single_message() {
        assert_eq!(seen.last(), Some(&see(message)));
    }
    (seen, scanner.batch_size(), scanner.is_over(), scanner.consumed())
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.as_object()?.get(*key))
}

fn check_id(seen: &Seen, expected: Option<&Value>) {
    match expected {
        Some(Value::String(text)) => assert_eq!(seen.id, IdToken::Text(text.as_bytes().into())),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
                assert_eq!(seen.id, IdToken::Integer(float as i64));
            }
            _ => assert!(matches!(seen.id, IdToken::Number(_)), "{:?} for {number}", seen.id),
        },
        _ => assert_eq!(seen.id, IdToken::Missing),
    }
}

fn check_leaf(
    seen: &(Option<String>, Option<String>, Option<String>, bool),
    leaf: Leaf,
    expected: Option<&Value>,
) {
    let (text, scalar, json, truncated) = seen;
    let keeps_escapes = matches!(leaf, Leaf::Id | Leaf::RequestId);
    match expected {
        None => assert_eq!(*seen, (None, None, None, false), "{leaf:?}"),
        Some(Value::String(_)) if keeps_escapes => {}
        Some(Value::String(expected)) => {
            let expected = expected.replace('\0', "");
            let text = text.as_deref().unwrap_or_else(|| panic!("{leaf:?} should be {expected:?}"));
            if *truncated {
                assert!(expected.starts_with(text), "{leaf:?}: {text:?} of {expected:?}");
            } else {
                assert_eq!(text, expected, "{leaf:?}");
            }
        }
        Some(Value::Array(_) | Value::Object(_)) => assert_eq!((text, scalar), (&None, &None), "{leaf:?}"),
        Some(expected) if !truncated => {
            let scalar = scalar.as_deref().unwrap_or_else(|| panic!("{leaf:?} should be {expected}"));
            assert_eq!(serde_json::from_str::<Value>(scalar).ok().as_ref(), Some(expected), "{leaf:?}");
        }
        Some(_) => {}
    }
    if let (Leaf::ErrorData, Some(Value::Array(_) | Value::Object(_)), false) = (leaf, expected, truncated) {
        let json = json.as_deref().expect("kept whole");
        assert_eq!(serde_json::from_str::<Value>(json).ok().as_ref(), expected);
    }
}

fn check(seen: &Seen, value: &Value, document: &str) {
    let object = value.as_object().expect("an object");
    let (method, id) = (object.contains_key("method"), object.contains_key("id"));
    let error = object.get("error").is_some_and(Value::is_object);
    let response = object.contains_key("result") || error;
    let kind = match (method, id) {
        (true, true) => Kind::Request,
        (true, false) => Kind::Notification,
        (false, _) if response => Kind::Response,
        (false, _) => Kind::Other,
    };
    assert_eq!((seen.kind, seen.has_error), (kind, error));
    if !seen.leaves[0].3 {
        check_id(seen, object.get("id"));
    }
    for ((leaf, path), seen) in LEAVES.iter().zip(&seen.leaves) {
        check_leaf(seen, *leaf, at(value, path));
    }
    let tools = at(value, &["result", "tools"]).and_then(Value::as_array);
    assert_eq!(seen.tools, tools.map(|tools| tools.len() as u32));
    // Of keys that come twice in one element, serde_json does not tell the first.
    if document.matches("text").count() <= 1 && !document.contains("\\u") {
        check_content(&seen.content, at(value, &["result", "content"]));
        check_content(&seen.inner_content, at(value, &["result", "result", "content"]));
    }
}

fn check_content(seen: &Option<String>, content: Option<&Value>) {
    let content = content.and_then(Value::as_array);
    let text = content.and_then(|items| items.iter().find_map(|item| item.as_object()?.get("text")));
    let text = text.and_then(Value::as_str).map(|text| text.replace('\0', ""));
    match (seen, text) {
        (Some(seen), Some(text)) => {
            assert!(*seen == text || seen.len() > 2000 && text.starts_with(seen.as_str()))
        }
        (seen, text) => assert_eq!(*seen, text),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((seed, document)) = input.split_first() else { return };
    let whole = scan(&[document]);
    assert_eq!(scan(&chunks(document, *seed)), whole);
    assert_eq!(whole.3, document.len() as u64);
    let Ok(text) = str::from_utf8(document) else { return };
    match serde_json::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) => {
            let [seen] = &whole.0[..] else { panic!("{} messages", whole.0.len()) };
            assert_eq!((seen.bytes, whole.1, whole.2), (text.trim().len() as u64, None, true));
            check(seen, &value, text);
        }
        Ok(Value::Array(elements)) => {
            assert_eq!((whole.1, whole.2), (Some(elements.len() as u32), true));
            let objects: Vec<_> =
                elements.iter().enumerate().filter(|(_, value)| value.is_object()).collect();
            assert_eq!(objects.len(), whole.0.len());
            for ((index, value), seen) in objects.into_iter().zip(&whole.0) {
                assert_eq!(seen.index, Some(index as u32));
                check(seen, value, text);
            }
        }
        Ok(_) => assert!(whole.0.is_empty()),
        Err(_) => {}
    }
});
