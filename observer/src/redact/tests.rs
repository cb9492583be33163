//! Secrets are masked, and the rest stays.

mod bodies;
mod carrier;
mod corpus;
mod observed;
mod planted;

use super::*;
use finding::Rule;
use std::time::{Duration, Instant};

fn keep(text: &str, cap: usize) -> Text {
    Redactor::default().keep(text, cap, End::Whole)
}

/// A sequence of numbers that is the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// So many characters of an alphabet.
    fn text(&mut self, alphabet: &str, len: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..len).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

/// What is written, and what stays of it.
const FORMS: &[(&str, &str)] = &[
    ("bad header: Authorization: Bearer abc.def-123456", "bad header: Authorization: Bearer [redacted]"),
    ("key \"sk-proj-0123456789abcdef\" is unknown", "key \"[redacted API key]\" is unknown"),
    ("token=ghp_0123456789abcdef0123", "token=[redacted]"),
    ("`ghp_0123456789abcdef0123`", "`[redacted GitHub token]`"),
    ("x-api-key:sk-0123456789abcdef", "x-api-key:[redacted]"),
    ("[sk-0123456789abcdef, AKIAIOSFODNN7EXAMPLE]", "[[redacted API key], [redacted AWS key]]"),
    ("{\"m\":\"line\\nghp_0123456789abcdef0123\"}", "{\"m\":\"line\\n[redacted GitHub token]\"}"),
    ("cannot reach https://u:p@db.internal/x?y", "cannot reach https://[redacted]@db.internal/x?y"),
    ("postgres://u:p@ss@h/db, redis://:hunter2@h:1", "postgres://[redacted]@h/db, redis://[redacted]@h:1"),
    ("postgres://u:p/s?s@h/db", "postgres://[redacted]@h/db"),
    ("{\"q\":\"jdbc:postgresql:\\/\\/u:hunter@h\"}", "{\"q\":\"jdbc:postgresql://[redacted]@h\"}"),
    (
        "see https://a.example/cb?access_token=s3cret&x=1,2 or ask",
        "see https://a.example/cb?access_token=[redacted]&x=1,2 or ask",
    ),
    (
        "\"https://u:p@a/b?code=8f14e45fceea167a&page=2\" (/messages?sessionId=s1)",
        "\"https://[redacted]@a/b?code=[redacted]&page=2\" (/messages?sessionId=[redacted])",
    ),
    (
        "/b?X-Amz-Date=20251123T084412Z&X-Amz-Signature=0a1b2c3d",
        "/b?X-Amz-Date=20251123T084412Z&X-Amz-Signature=[redacted]",
    ),
    ("eyJhbGciOiJIUzI1NiJ9.e30.x expired", "[redacted JSON Web Token] expired"),
    ("Authorization: Token abcdef123456", "Authorization: Token [redacted]"),
    ("{\"Authorization\":\"abcdef123456\"}", "{\"Authorization\":\"[redacted]\"}"),
    (
        "proxy-authorization=Digest username=\"Mufasa\", nonce=\"9\"; x",
        "proxy-authorization=Digest [redacted]; x",
    ),
    ("Bearer\\u0020sEcReTtOkEn0123456", "Bearer [redacted]"),
    ("password=hunter2; client_secret: 'abcdef1'", "password=[redacted]; client_secret: '[redacted]'"),
    ("dbPwd=hunter2 inside=abc12345", "dbPwd=[redacted] inside=abc12345"),
    ("DB_PASSWORD=p@ss,w0rd;x Server=a", "DB_PASSWORD=[redacted] Server=a"),
    ("Server=a;Password=p;x,y;Database=d", "Server=a;Password=[redacted];Database=d"),
    ("login --password hunter2 --user bob", "login --password [redacted] --user bob"),
    ("create user x password 'hunter 2'", "create user x password '[redacted]'"),
    (r#"{\"password\":\"hun\\\"ter2\",\"a\":1}"#, r#"{\"password\":\"[redacted]\",\"a\":1}"#),
    ("<password>hunter2</password>", "<password>[redacted]</password>"),
    ("d['password'] = 'hunter2'", "d['password'] = '[redacted]'"),
    ("パスワード：hunter2", "パスワード：[redacted]"),
    ("パスワードは「ひみつ」です", "パスワードは「ひみつ」です"),
    ("Set-Cookie: sid=1; Path=/\nnext line", "Set-Cookie: [redacted]\nnext line"),
    ("nothing secret: ask-me-anything", "nothing secret: ask-me-anything"),
    ("Größe: ghp_0123456789abcdefß", "Größe: [redacted GitHub token]ß"),
    ("\x1b[31mghp_0123456789abcdef\x1b[0m", "\x1b[31m[redacted GitHub token]\x1b[0m"),
    (
        "DefaultEndpointsProtocol=https;AccountKey=a+b/c==;x=1",
        "DefaultEndpointsProtocol=https;AccountKey=[redacted];x=1",
    ),
    (
        "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb",
        "a\n[redacted private key]\nb",
    ),
    ("-----BEGIN PRIVATE KEY-----\nMII", "[redacted private key]"),
    ("a\nMII\n-----END PRIVATE KEY-----\nb", "[redacted private key]\nb"),
    ("ask alice@example.com, please", "ask [redacted e-mail address], please"),
    ("メールはalice@example.co.jpです", "メールは[redacted e-mail address]です"),
    ("to=alice%40example.com&x=%41", "to=[redacted e-mail address]&x=A"),
    ("card 4111 1111 1111 1111 declined", "card [redacted card number] declined"),
    ("カード４１１１－１１１１－１１１１－１１１１は無効", "カード[redacted card number]は無効"),
    ("マイナンバー:1234-5678-9018", "マイナンバー:[redacted My Number]"),
    ("call +81 (0)3-1234-5678 now", "call +[redacted phone number] now"),
    ("(415) 555-2671, 1-800-555-0199", "([redacted phone number], [redacted phone number]"),
    ("０９０－１２３４－５６７８へ", "[redacted phone number]へ"),
    ("tel 03-1234-5678 / 08012345678", "tel [redacted phone number] / [redacted phone number]"),
    ("to DE89 3704 0044 0532 0130 00.", "to [redacted IBAN]."),
    (
        "user 6532:AAexample 123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0",
        "user 6532:AAexample [redacted Telegram token]",
    ),
    ("https://hooks.slack.com/services/T0/B0/x1 failed", "https://hooks.slack.com/[redacted webhook] failed"),
];

#[test]
fn secrets_are_masked_and_the_rest_stays() {
    for (text, expected) in FORMS {
        assert_eq!(&*keep(text, 2048), *expected);
        assert_eq!(&*keep(expected, 2048), *expected, "what is masked stays as it is");
    }
}

#[test]
fn a_long_text_is_cut_at_a_whole_character() {
    assert_eq!(&*keep("aää", 4), "aä");
    assert_eq!(keep(&"x ".repeat(4000), 2048).len(), 2048);
}

#[test]
fn what_cannot_be_looked_through_is_not_kept() {
    assert_eq!(&*keep(&"x ".repeat(MAX_TEXT), 2048), TOO_LONG);
    assert_eq!(&*keep("\u{fffd}\u{fffd}\u{fffd}\u{fffd}: hunter2", 2048), UNREADABLE);
    assert_eq!(&*keep("cut within a smile \u{fffd}", 2048), "cut within a smile \u{fffd}");
    let pattern = Pattern { name: "letter".into(), regex: Regex::new("[a-z]").expect("valid") };
    let redactor = Redactor::new(&[], vec![pattern]);
    assert_eq!(redactor.redact(&"a".repeat(MAX_MATCHES)), TOO_MUCH);
    assert_eq!(redactor.redact("ab"), "[redacted letter][redacted letter]");
}

#[test]
fn the_beginning_of_what_was_cut_off_does_not_stay() {
    let words = "nothing happened ".repeat(100);
    let redactor = planted::redactor(None);
    for secret in [
        "hunter2@example.com",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "https://user:hunter2@host",
        "AKIAIOSFODNN7EXAMPLE",
        "+81 90 1234 5678",
        "password: correct-horse",
        "{\"password\": \"correct horse\"}",
        "E-123456",
    ] {
        let text = format!("{words}{secret}");
        for end in words.len()..=text.len() {
            let kept = redactor.keep(&text[..end], 4096, End::Cut);
            assert!(words.starts_with(&*kept), "{kept} of {secret}");
            assert!(kept.len() > words.len() - 200);
        }
    }
}

#[test]
fn personal_data_that_is_to_be_kept_stays_and_credentials_never_do() {
    let text = "alice@example.com 4111111111111111 123456789018 +81312345678 (415) 555-2671 03-1234-5678 DE89370400440532013000";
    let kinds = [Personal::Email, Personal::Phone, Personal::Card, Personal::MyNumber, Personal::Iban];
    let all = Redactor::new(&kinds, Vec::new());
    assert_eq!(all.redact(text), text);
    assert_eq!(all.redact("password=hunter2"), "password=[redacted]");
    for kind in kinds {
        let kept = Redactor::new(&[kind], Vec::new()).redact(text).into_owned();
        let masks = if kind == Personal::Phone { 4 } else { 6 };
        assert_eq!(kept.matches("[redacted").count(), masks, "{kept}");
    }
}

#[test]
fn strings_of_a_document_are_read_as_they_are_meant() {
    for (json, expected) in [
        (r#"{"url":"https:\/\/u:p@h\/x"}"#, r#"{"url":"https://[redacted]@h/x"}"#),
        (r#"{"h":"Bearer\u0020sEcReT0123","n":1e-7}"#, r#"{"h":"Bearer [redacted]","n":1e-7}"#),
        (r#"["a\n\u0067hp_0123456789abcdef"]"#, r#"["a\n[redacted GitHub token]"]"#),
        (r#"{"password" : "no", "token":"yes"}"#, r#"{"password" : "no", "token":"yes"}"#),
        (
            r#"{"password" : "nope", "token":"a1b2c3d4e5"}"#,
            r#"{"password" : "[redacted]", "token":"[redacted]"}"#,
        ),
        (r#"{"password":["a1b"],"b":"c"}"#, r#"{"password":["[redacted]"],"b":"c"}"#),
        (r#"{"password":{"rule":"long"},"b":"c"}"#, r#"{"password":{"rule":"long"},"b":"c"}"#),
        (r#"{"name":"password","value":"a1b"}"#, r#"{"name":"password","value":"[redacted]"}"#),
        (
            r#"{"password": 123456, "n": 4111111111111111}"#,
            r#"{"password": "[redacted]", "n": "[redacted card number]"}"#,
        ),
        (r#"{"a\"b":"c\\","d":12345678901234567890}"#, r#"{"a\"b":"c\\","d":12345678901234567890}"#),
        (r#"{"cut":"ghp_0123456789abcdef\u00"#, r#"{"cut":"[redacted GitHub token]\u00"#),
        (r#"{"password":"hun"#, r#"{"password":"[redacted]""#),
        (
            r#"["-----BEGIN PRIVATE KEY-----","MIIEvQIBADANBgkq","-----END PRIVATE KEY-----"]"#,
            r#"["[redacted private key]","[redacted]","[redacted private key]"]"#,
        ),
        ("\"", "\""),
        ("", ""),
    ] {
        assert_eq!(&*Redactor::default().redact_document(json, 2048), expected);
    }
    assert_eq!(&*Redactor::default().redact_document(r#"{"a":"ää"}"#, 8), r#"{"a":"ä"#);
}

/// Each rule is there for something that no other one finds.
#[test]
fn what_names_say_holds_where_documents_stand_in_texts_and_objects_under_names() {
    for (text, kept) in [
        (
            r#"{"name":"Authorization","value":"Zx81hunter"}"#,
            r#"{"name":"Authorization","value":"[redacted]"}"#,
        ),
        (
            r#"{ "passwords": ["hunter12"], "user": "ann" }"#,
            r#"{ "passwords": ["[redacted]"], "user": "ann" }"#,
        ),
        (r#"{"password":{"value":"hunter12"},"id":"a"}"#, r#"{"password":{"value":"[redacted]"},"id":"a"}"#),
        (
            r#"{"password":{"old":"hunter1x","new":"hunter2x"}}"#,
            r#"{"password":{"old":"[redacted]","new":"[redacted]"}}"#,
        ),
        (
            r#"["Authorization","Zx81hunter","Accept","text/html"]"#,
            r#"["Authorization","[redacted]","Accept","text/html"]"#,
        ),
        ("Incorrect API key provided: zX81hunter22", "Incorrect API key provided: [redacted]"),
        // What must stay.
        (
            r#"{"properties":{"password":{"type":"string","description":"The password of the user"}},"required":["password","email"]}"#,
            r#"{"properties":{"password":{"type":"string","description":"The password of the user"}},"required":["password","email"]}"#,
        ),
        ("[ok] all of it", "[ok] all of it"),
    ] {
        assert_eq!(&*keep(text, 2048), kept);
        let inside = serde_json::json!({ "content": [{ "type": "text", "text": text }] }).to_string();
        let kept = serde_json::json!({ "content": [{ "type": "text", "text": kept }] }).to_string();
        assert_eq!(&*Redactor::default().redact_document(&inside, 4096), kept);
    }
}

#[test]
fn without_a_rule_something_of_its_kind_survives() {
    let mut dice = Dice(7);
    for rule in planted::rules() {
        let all = planted::redactor(None);
        let without = planted::redactor(Some(rule));
        let mut survived = 0;
        for _ in 0..40 {
            let planted = planted::plant(rule, &mut dice);
            let text = format!("it was {} here", planted.text);
            assert!(!planted.survives_in(&all.redact(&text)), "{rule:?}: {text} gives {}", all.redact(&text));
            survived += usize::from(planted.survives_in(&without.redact(&text)));
        }
        assert!(survived > 0, "{rule:?} finds nothing that the others do not");
    }
}

/// Whatever is written again and again, the time is in proportion to the text: no rule begins anew behind each of them.
#[test]
fn no_text_takes_long() {
    let began = Instant::now();
    let all = planted::redactor(None);
    for piece in [
        "sk-",
        "ask-",
        "password=",
        "password=${",
        "password=[redacted]",
        "password: \"the ",
        "token=",
        "cookie: ",
        "digest x=",
        "digest username=",
        "authorization: is ",
        "bearer ",
        "bearer:",
        "a@",
        "a@b.",
        "@1.",
        "://u:x/",
        "://",
        "hooks.slack.com/",
        "-----BEGIN PRIVATE KEY",
        "-----END ",
        "4111 ",
        "1 ",
        "0.",
        "+",
        "12345678901 ",
        "DE89",
        "?x=",
        "?token=",
        "&amp;",
        "%41",
        "%25",
        "\\u0041",
        "\\",
        "\"",
        "eyJ",
        "eyJ.",
        "12345678:",
        "bot",
        "パスワード",
        "あ",
        "\u{fffd} ",
        "{\"password\":",
        "x",
        "api_key\\",
        "E-123456 ",
    ] {
        let text = piece.repeat(MAX_TEXT / piece.len());
        let kept = all.redact(&text);
        assert!(kept.len() <= 4 * text.len(), "{piece}");
        all.redact_document(&text, usize::MAX);
    }
    // A few seconds without optimization; a rule that takes the square of the time would take minutes.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// What may confuse whoever looks for the beginning and the end of something.
const PIECES: &[&str] = &[
    "password",
    "=",
    ":",
    "\"",
    "\\\"",
    "\\\\\"",
    "\\",
    "'",
    "`",
    "「",
    "」",
    "：",
    "は",
    "é",
    "\u{3000}",
    "４",
    "１２３",
    "－",
    "-",
    " ",
    "\n",
    "Digest ",
    "username=",
    "nonce=\\\\\"",
    ", ",
    "Authorization: ",
    "Bearer ",
    "Cookie: ",
    "a=b",
    "://",
    "u:p",
    "@",
    "＠",
    "example.com",
    "%E3%81%",
    "%40",
    "\\u0040",
    "\\ud83d",
    "😀",
    "-----BEGIN ",
    "PRIVATE KEY",
    "-----END ",
    "4111",
    " 1111",
    "+81",
    "(",
    ")",
    ".",
    "03",
    "DE89",
    "3704",
    "sk-",
    "ghp_",
    "eyJ",
    "12345678:",
    "?token=",
    "&amp;",
    "key=",
    "{",
    "}",
    "[",
    "]",
    "null",
    ",",
    "token",
    "value",
    "name",
    "AbC123dEf456GhI789",
    "\u{fffd}",
    "\0",
    "\x1b[31m",
    "b'",
    "--password ",
    "[redacted",
    "&quot;",
    "=>",
    "ﾊﾟｽﾜｰﾄﾞ",
    "Ünï",
    "<",
    ">",
    "</",
    "hooks.slack.com/",
    "::",
];

#[test]
fn no_text_makes_it_panic() {
    let (mut dice, redactor) = (Dice(3), planted::redactor(None));
    for _ in 0..20_000 {
        let text: String = (0..1 + dice.below(12)).map(|_| dice.one_of(PIECES)).collect();
        let end = text.floor_char_boundary(dice.below(text.len() + 1));
        redactor.keep(&text[..end], 1 + dice.below(40), End::Cut);
        redactor.keep(&text, 1 + dice.below(40), End::Whole);
        redactor.redact_document(&text, 1 + dice.below(40));
    }
}
