//! What the scanner understands, whatever the chunking.

use super::*;
use crate::jsonrpc::{IdToken, Kind};
use std::borrow::Cow;

/// What a test looks at, copied out of a message.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Seen {
    kind: Kind,
    id: IdToken,
    method: Option<String>,
    name: Option<String>,
    is_error: bool,
    text: Option<String>,
    bytes: u64,
    index: Option<u32>,
}

fn scan_in_chunks(document: &[u8], chunk: usize) -> Vec<Seen> {
    let mut scanner = Scanner::default();
    let mut seen = Vec::new();
    for mut piece in document.chunks(chunk) {
        while let Some(message) = scanner.next_message(&mut piece) {
            seen.push(Seen {
                kind: message.kind(),
                id: message.id(),
                method: message.method().map(str::to_owned),
                name: message.text(Leaf::Name).map(str::to_owned),
                is_error: message.is_true(Leaf::IsError),
                text: message.content_text().map(Cow::into_owned),
                bytes: message.bytes,
                index: message.batch_index,
            });
        }
    }
    seen
}

/// Scans at every chunk size and insists that they agree.
fn scan(document: &[u8]) -> Vec<Seen> {
    let whole = scan_in_chunks(document, document.len().max(1));
    for chunk in 1..document.len().min(40) {
        assert_eq!(scan_in_chunks(document, chunk), whole, "in chunks of {chunk}");
    }
    whole
}

fn message_of(document: &str) -> Scanner {
    let mut scanner = Scanner::default();
    let mut input = document.as_bytes();
    assert!(scanner.next_message(&mut input).is_some(), "no message in {document}");
    scanner
}

#[test]
fn a_call_is_read_in_any_chunking() {
    let document = br#" {"jsonrpc":"2.0", "id" : 7, "method":"tools/call","params":{"arguments":{"name":"no","a":[1,{"b":"]}\""}]},"name":"add"}} "#;
    let seen = scan(document);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].kind, Kind::Request);
    assert_eq!(seen[0].id, IdToken::Integer(7));
    assert_eq!(seen[0].name.as_deref(), Some("add"));
    assert_eq!(seen[0].bytes, document.len() as u64 - 2);
}

#[test]
fn an_answer_is_read_whatever_the_order_of_its_keys() {
    let document = br#"{"result":{"content":[{"type":"image","data":"x"},{"text":"first \u00e4"},{"text":"second"}],"isError":true},"jsonrpc":"2.0","id":"7"}"#;
    let seen = scan(document);
    assert_eq!(seen[0].kind, Kind::Response);
    assert!(seen[0].is_error);
    assert_eq!(seen[0].text.as_deref(), Some("first ä"));
}

#[test]
fn a_batch_gives_its_elements_with_their_own_bytes() {
    let document = br#"[{"id":1,"method":"a"}, 5, {"method":"b"},{"id":"1","result":{}}]"#;
    let seen = scan(document);
    let indexes: Vec<_> = seen.iter().map(|seen| seen.index).collect();
    assert_eq!(indexes, [Some(0), Some(2), Some(3)]);
    assert_eq!(seen.iter().map(|seen| seen.bytes).collect::<Vec<_>>(), [21, 14, 22]);
    assert_eq!(message_of(r#"[{"id":1,"method":"a"}]"#).batch_size(), Some(1));
}

#[test]
fn the_last_of_two_equal_keys_counts() {
    let seen = scan(br#"{"method":"x","params":{"name":"a"},"id":1,"params":{"other":1},"\u006dethod":"y"}"#);
    assert_eq!(seen[0].method.as_deref(), Some("y"));
    assert_eq!(seen[0].name, None);
}

#[test]
fn only_the_literal_true_is_an_error() {
    assert!(!scan(br#"{"id":1,"result":{"isError":"true"}}"#)[0].is_error);
    assert!(!scan(br#"{"id":1,"result":{"isError":1}}"#)[0].is_error);
    assert!(!scan(br#"{"id":1,"result":{"content":[],"structuredContent":{"isError":true}}}"#)[0].is_error);
}

#[test]
fn an_error_that_is_no_object_is_none() {
    assert!(!message_of(r#"{"id":1,"result":{},"error":null}"#).message.has_error());
    assert!(message_of(r#"{"id":1,"error":{"code":-32602}}"#).message.has_error());
    assert_eq!(scan(br#"{"id":1,"error":5nn}"#)[0].kind, Kind::Other);
    assert_eq!(scan(br#"{"error":"invalid_token","error_description":"expired"}"#)[0].kind, Kind::Other);
    assert_eq!(scan(br#"{"error":"x","error":{"code":1}}"#)[0].kind, Kind::Response);
}

#[test]
fn any_depth_and_any_token_are_passed_over() {
    let deep = format!(
        r#"{{"params":{{"arguments":{}{}}},"id":1,"method":"m"}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert_eq!(scan_in_chunks(deep.as_bytes(), 7).len(), 1);
    let seen = scan(b"\xef\xbb\xbf{\"result\":{\"a\":NaN,\"b\":1e400,\"c\":\"\\ud800\"},\"id\":1}");
    assert_eq!(seen[0].kind, Kind::Response);
}

#[test]
fn what_is_no_message_gives_none() {
    for document in ["", "{", "[]", "[1,2]", "5", "\"{}\"", "null", "]]]", "}{", "<html>{\"id\":1}</html>"] {
        assert!(scan(document.as_bytes()).is_empty(), "{document}");
    }
}

#[test]
fn long_leaves_are_cut_at_a_whole_character() {
    let long = format!(
        r#"{{"id":1,"error":{{"code":-1,"message":"{}\u00e4{}"}}}}"#,
        "x".repeat(2045),
        "y".repeat(99)
    );
    let scanner = message_of(&long);
    let message = scanner.message.text(Leaf::ErrorMessage).expect("kept");
    assert_eq!(message.len(), 2045);
    assert!(scanner.message.is_truncated(Leaf::ErrorMessage));
}

#[test]
fn half_of_a_character_in_two_escapes_is_not_kept() {
    for pad in 0..12 {
        let text = format!("{}{}", "x".repeat(pad), "\\ud83d\\ude00".repeat(300));
        let scanner = message_of(&format!(r#"{{"id":1,"error":{{"message":"{text}"}}}}"#));
        let message = scanner.message.text(Leaf::ErrorMessage).expect("kept");
        assert!(message[pad..].chars().all(|character| character == '😀'), "{message}");
    }
}

#[test]
fn of_a_container_that_comes_twice_the_first_is_forgotten_whatever_the_second_is() {
    let scanner =
        message_of(r#"{"id":1,"result":{"isError":true,"tools":[1],"content":[{"text":"a"}]},"result":5}"#);
    assert!(!scanner.message.is_true(Leaf::IsError));
    assert_eq!((scanner.message.tool_count, scanner.message.content_text()), (None, None));
    let scanner = message_of(r#"{"id":1,"method":"m","params":{"name":"a"},"params":null}"#);
    assert_eq!(scanner.message.text(Leaf::Name), None);
}

#[test]
fn the_error_data_is_kept_raw() {
    let scanner = message_of(r#"{"id":1,"error":{"code":-1,"message":"m","data":{"stack":["a","}"]}}}"#);
    assert_eq!(scanner.message.json(Leaf::ErrorData).as_deref(), Some(r#"{"stack":["a","}"]}"#));
    let scanner = message_of(r#"{"id":1,"error":{"code":-1,"data":"say \"hi\""}}"#);
    assert_eq!(scanner.message.json(Leaf::ErrorData).as_deref(), Some(r#""say \"hi\"""#));
}

#[test]
fn tools_are_counted() {
    assert_eq!(
        message_of(r#"{"id":1,"result":{"tools":[{"name":"a"},{"name":"b"}]}}"#).message.tool_count,
        Some(2)
    );
    assert_eq!(message_of(r#"{"id":1,"result":{"tools":[]}}"#).message.tool_count, Some(0));
    assert_eq!(message_of(r#"{"id":1,"result":{}}"#).message.tool_count, None);
}

#[test]
fn a_huge_string_leaves_no_memory_behind() {
    let mut scanner = Scanner::default();
    let mut head: &[u8] = br#"{"result":{"content":[{"type":"text","text":""#;
    assert!(scanner.next_message(&mut head).is_none());
    let block = vec![b'x'; 1 << 20];
    for _ in 0..60 {
        assert!(scanner.next_message(&mut &block[..]).is_none());
    }
    let mut tail: &[u8] = br#""}]},"jsonrpc":"2.0","id":"7"}"#;
    let message = scanner.next_message(&mut tail).expect("the message is complete");
    assert_eq!(message.id(), IdToken::Text((*b"7").into()));
    assert!(message.arena.capacity() < 16 << 10);
}

#[test]
fn a_key_repeated_for_ever_costs_no_memory() {
    let mut scanner = Scanner::default();
    let mut input: &[u8] = br#"{"id":"first""#;
    assert!(scanner.next_message(&mut input).is_none());
    let again = format!(r#","method":"{}""#, "m".repeat(250));
    for _ in 0..10_000 {
        assert!(scanner.next_message(&mut again.as_bytes()).is_none());
    }
    let mut end: &[u8] = b"}";
    let message = scanner.next_message(&mut end).expect("complete");
    assert_eq!(message.id(), IdToken::Text((*b"first").into()));
    assert_eq!(message.method().map(str::len), Some(250));
    assert!(message.arena.capacity() <= 256 << 10, "{}", message.arena.capacity());
}

/// A small reproducible source of noise (xorshift64).
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn nonsense_never_panics_and_reads_the_same_in_any_chunking() {
    const PIECES: [&str; 26] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u00",
        "\\ud83d",
        "\"id\":",
        "\"method\":",
        "\"params\":",
        "\"name\":",
        "\"result\":",
        "\"error\":",
        "\"content\":[",
        "\"text\":",
        "\"_meta\":{",
        "1",
        "null",
        "true",
        " ",
        "ä",
        "\u{feff}",
        "\0",
    ];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let document: String = (0..noise.below(40)).map(|_| PIECES[noise.below(PIECES.len())]).collect();
        let whole = scan_in_chunks(document.as_bytes(), document.len().max(1));
        let chunk = 1 + noise.below(5);
        assert_eq!(scan_in_chunks(document.as_bytes(), chunk), whole, "{document} in chunks of {chunk}");
    }
}

#[test]
fn what_serde_json_accepts_is_read_as_serde_json_reads_it() {
    const VALUES: [&str; 9] =
        ["1", "\"a\\u0062\"", "null", "true", "[]", "{}", "[1,{\"id\":9}]", "{\"method\":\"x\"}", "-1.5e3"];
    const KEYS: [&str; 7] = ["id", "method", "params", "result", "error", "jsonrpc", "\\u0069d"];
    let mut noise = Noise(7);
    for _ in 0..20_000 {
        let members: Vec<_> = (0..noise.below(6))
            .map(|_| format!("\"{}\" : {}", KEYS[noise.below(KEYS.len())], VALUES[noise.below(VALUES.len())]))
            .collect();
        let document = format!("{{{}}}", members.join(" ,\n"));
        let expected: serde_json::Value = serde_json::from_str(&document).expect("valid");
        let scanner = message_of(&document);
        let message = scanner.single_message().expect("over");
        assert_eq!(message.method(), expected["method"].as_str(), "{document}");
        assert_eq!(message.bytes, document.len() as u64, "{document}");
        let id = expected.get("id").map_or(IdToken::Missing, |id| match id {
            serde_json::Value::String(text) => IdToken::Text(text.as_bytes().into()),
            serde_json::Value::Number(number) => IdToken::from_scalar(number.to_string().as_bytes()),
            _ => IdToken::Missing,
        });
        assert_eq!(message.id(), id, "{document}");
    }
}
