//! What clients and servers say to each other in the exchanges that are fuzzed.

pub(crate) const IDS: [&str; 8] = ["1", "\"1\"", "2", "1.0", "null", "9007199254740993", "\"a\"", "{}"];

/// Kinds of requests.
const REQUESTS: u8 = 15;

/// Whether a request of this kind has no message in it, so that its headers speak for it.
pub(crate) fn is_empty(kind: u8) -> bool {
    matches!(kind % REQUESTS, 8 | 9)
}

/// A request's body, and how many calls are in it.
pub(crate) fn request(kind: u8, id: &str) -> (String, u64) {
    let call = |id: &str| {
        format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"t","requestState":"r"}}}}"#)
    };
    let list = format!(r#"{{"id":{id},"method":"tools/list"}}"#);
    match kind % REQUESTS {
        0 => (call(id), 1),
        1 => (list, 1),
        2 => (format!(r#"{{"id":{id},"method":"ping"}}"#), 0),
        3 => (r#"{"method":"notifications/initialized"}"#.to_owned(), 0),
        4 => (
            format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id},"reason":"why"}}}}"#),
            0,
        ),
        5 => (format!(r#"{{"id":{id},"method":"initialize","params":{{"clientInfo":{{"name":"c"}}}}}}"#), 0),
        6 => (format!(r#"{{"id":{id},"result":{{}}}}"#), 0),
        7 => (
            format!(r#"[{},{},{list},{{"id":3,"method":"ping"}},{{"method":"n"}}]"#, call(id), call("\"1\"")),
            3,
        ),
        8 => ("[]".to_owned(), 0),
        9 => ("\u{1f}\u{8b}".to_owned(), 0),
        10 => (r#"{"method":"tools/call","params":{"name":"t"}}"#.to_owned(), 0),
        11 => (format!(r#"{{"id":{id},"method":"tasks/get","params":{{"taskId":"k"}}}}"#), 0),
        12 => (format!(r#"{{"id":{id},"method":"tasks/result","params":{{"taskId":"k"}}}}"#), 0),
        13 => (format!(r#"{{"id":{id},"method":"tasks/cancel","params":{{"taskId":"k"}}}}"#), 0),
        _ => (format!(r#"{{"id":{id},"method":"subscriptions/listen","params":{{}}}}"#), 0),
    }
}

/// A message of a response's body.
pub(crate) fn response(kind: u8, id: &str) -> String {
    match kind % 18 {
        0 => format!(r#"{{"id":{id},"result":{{"content":[]}}}}"#),
        1 => format!(r#"{{"id":{id},"result":{{"isError":true,"content":[{{"text":"boom"}}]}}}}"#),
        2 => format!(r#"{{"id":{id},"error":{{"code":-32602,"message":"m","data":{{}}}}}}"#),
        3 => r#"{"error":{"code":-32600,"message":"batch"}}"#.to_owned(),
        4 => format!(r#"{{"id":{id},"result":{{"resultType":"input_required","requestState":"r"}}}}"#),
        5 => format!(r#"{{"id":{id},"result":{{"resultType":"task","taskId":"k","status":"working"}}}}"#),
        6 => format!(r#"{{"id":{id},"result":{{"task":{{"taskId":"k","status":"working"}}}}}}"#),
        7 => r#"{"method":"notifications/progress"}"#.to_owned(),
        8 => format!(r#"{{"id":{id},"method":"sampling/createMessage"}}"#),
        9 => format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#),
        10 => {
            format!(r#"[{{"id":{id},"result":{{}}}},{{"id":"1","result":{{}}}},{{"id":{id},"result":{{}}}}]"#)
        }
        11 => format!(r#"{{"id":{id},"result":{{"protocolVersion":"2025-06-18"}}}}"#),
        12 => format!(
            r#"{{"id":{id},"result":{{"taskId":"k","status":"completed","result":{{"isError":true}}}}}}"#
        ),
        13 => "{\"id\":".to_owned(),
        14 => r#"{"method":"notifications/tasks","params":{"taskId":"k","status":"completed","result":{}}}"#
            .to_owned(),
        15 => format!(r#"{{"id":{id},"result":{{"taskId":"k","status":"failed","statusMessage":"why"}}}}"#),
        16 => format!(r#"{{"id":{id},"result":{{"resultType":"input_required","requestState":"r{kind}"}}}}"#),
        _ => format!(r#"{{"id":{id},"result":{{"taskId":"k","status":"cancelled"}}}}"#),
    }
}
