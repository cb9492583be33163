//! Messages whose end, or whose head, two parsers might see in different places (RFC 9112, 11.2).

use super::{Attack, Carried, Fate, Refused, Scene};

/// What would be a request of its own if somebody took it for one.
const HIDDEN: &str = "GET /safe/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A POST with these lines in its head, and this body.
fn post(what: &'static str, lines: &str, body: &str, fate: Fate) -> Attack {
    let text = format!("POST /open/mcp HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}");
    (what, text.into_bytes(), fate)
}

fn with_length(what: &'static str, value: &str) -> Attack {
    post(what, &format!("Content-Length: {value}\r\n"), &format!("{{}}{HIDDEN}"), Refused)
}

fn with_coding(what: &'static str, line: &str) -> Attack {
    post(what, &format!("{line}\r\n"), &format!("0\r\n\r\n{HIDDEN}"), Refused)
}

#[tokio::test]
async fn lengths_that_are_none_are_refused() {
    let attacks = [
        with_length("a sign", "+2"),
        with_length("negative", "-2"),
        with_length("hexadecimal", "0x2"),
        with_length("nothing", ""),
        with_length("a list of different ones", "2, 51"),
        with_length("a fraction", "2.0"),
        with_length("too large", "99999999999999999999999"),
        with_length("words", "two"),
        with_length("inner space", "2 2"),
        post(
            "two different ones",
            "Content-Length: 2\r\nContent-Length: 51\r\n",
            &format!("{{}}{HIDDEN}"),
            Refused,
        ),
        post(
            "two in different cases",
            "content-length: 2\r\nContent-Length: 0\r\n",
            &format!("{{}}{HIDDEN}"),
            Refused,
        ),
        post("one that is right", "Content-Length: 2\r\n", "{}", Carried),
        post("none, and no body", "", "", Carried),
    ];
    Scene::start().check(&attacks).await;
}

#[tokio::test]
async fn codings_that_hide_an_end_are_refused() {
    let attacks = [
        with_coding("an unknown one", "Transfer-Encoding: xchunked"),
        with_coding("chunked, then another", "Transfer-Encoding: chunked, identity"),
        with_coding("twice chunked", "Transfer-Encoding: chunked, chunked"),
        with_coding("a parameter", "Transfer-Encoding: chunked;q=1"),
        with_coding("gzip inside", "Transfer-Encoding: gzip, chunked"),
        with_coding("gzip outside", "Transfer-Encoding: chunked, gzip"),
        with_coding("a vertical tab", "Transfer-Encoding: \u{b}chunked"),
        with_coding("a quoted one", "Transfer-Encoding: \"chunked\""),
        with_coding("space before the colon", "Transfer-Encoding : chunked"),
        with_coding("space before the name", "X: y\r\n Transfer-Encoding: chunked"),
        with_coding("a tab before the name", "X: y\r\n\tTransfer-Encoding: chunked"),
        with_coding("a lone line feed in a value", "X: y\nTransfer-Encoding: chunked\u{0}"),
        with_coding("a lone carriage return", "X: y\rTransfer-Encoding: chunked"),
        with_coding("a null byte in a value", "X: y\u{0}\r\nTransfer-Encoding: chunked"),
        with_coding("a null byte in a name", "X\u{0}: y\r\nTransfer-Encoding: chunked"),
        with_coding("no colon", "Transfer-Encoding\r\nX: chunked"),
    ];
    Scene::start().check(&attacks).await;
}

/// A length beside a coding is wrong, and ends here (RFC 9112, 6.3): the server gets one message, by the coding.
#[tokio::test]
async fn of_two_framings_one_is_carried() {
    let both = |what, lines: &str, body: &str| post(what, lines, body, Carried);
    let coding = "Transfer-Encoding: chunked\r\n";
    let attacks = [
        both("length and coding", &format!("Content-Length: 5\r\n{coding}"), "2\r\n{}\r\n0\r\n\r\n"),
        both("coding and length", &format!("{coding}Content-Length: 5\r\n"), "2\r\n{}\r\n0\r\n\r\n"),
        both("coding and no length", &format!("{coding}Content-Length: 0\r\n"), "2\r\n{}\r\n0\r\n\r\n"),
        both("upper case", "TRANSFER-ENCODING: CHUNKED\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        both("an extension of a chunk", coding, "2;a=\"b\"\r\n{}\r\n0\r\n\r\n"),
        both("zeros in front", coding, "0002\r\n{}\r\n000\r\n\r\n"),
        both("trailers that would be framing", coding, "2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n"),
    ];
    Scene::start().check(&attacks).await;
}

#[tokio::test]
async fn chunks_that_are_none_break_off() {
    let broken =
        |what, body: &str| post(what, "Transfer-Encoding: chunked\r\n", &format!("{body}{HIDDEN}"), Refused);
    let scene = Scene::start();
    for (what, bytes, _) in [
        broken("no size", "\r\n{}\r\n0\r\n\r\n"),
        broken("a negative size", "-2\r\n{}\r\n0\r\n\r\n"),
        broken("a prefix", "0x2\r\n{}\r\n0\r\n\r\n"),
        broken("too large", "FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
        broken("no line break behind the data", "2\r\n{}0\r\n\r\n"),
        broken("a lone line feed behind the size", "2\n{}\r\n0\r\n\r\n"),
        broken("more data than said", "1\r\n{}\r\n0\r\n\r\n"),
        broken("a word", "two\r\n{}\r\n0\r\n\r\n"),
    ] {
        let before = scene.open.requests().len();
        let got = scene.play(&bytes).await;
        assert!(!got.starts_with("HTTP/1.1 2"), "{what}: {got}");
        assert_eq!((scene.open.requests().len(), scene.safe.requests().len()), (before, 0), "{what}");
    }
}

#[tokio::test]
async fn first_lines_that_are_none_are_refused() {
    let line = |what, line: &str| -> Attack {
        (what, format!("{line}\r\nHost: localhost\r\n\r\n{HIDDEN}").into_bytes(), Refused)
    };
    let attacks = [
        line("no version", "GET /open/mcp"),
        line("an unknown version", "GET /open/mcp HTTP/1.2"),
        line("another protocol", "GET /open/mcp HTTPS/1.1"),
        line("a version in lower case", "GET /open/mcp http/1.1"),
        line("two spaces", "GET  /open/mcp HTTP/1.1"),
        line("tabs", "GET\t/open/mcp\tHTTP/1.1"),
        line("a space in the target", "GET /open/mcp x HTTP/1.1"),
        line("a null byte in the target", "GET /open/\u{0}mcp HTTP/1.1"),
        line("no slash", "GET open/mcp HTTP/1.1"),
        line("no target", "GET HTTP/1.1"),
        line("a method that is none", "G(T /open/mcp HTTP/1.1"),
        line("a tunnel", "CONNECT localhost:1 HTTP/1.1"),
        line("a head in an old form", "\u{0}GET /open/mcp HTTP/1.1"),
    ];
    Scene::start().check(&attacks).await;
}
