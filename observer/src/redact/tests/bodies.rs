//! No secret of any kind stays in a body, wherever the body is cut.

use super::{
    Dice, End, Redactor,
    carrier::{carry, escape_some},
    planted::{self, Planted},
};
use serde_json::{Value, json};

/// A message with a text somewhere in it.
fn message(text: &str, dice: &mut Dice) -> String {
    let document = match dice.below(4) {
        0 => json!({ "id": 1, "result": { "content": [{ "type": "text", "text": text }] } }),
        1 => json!({ "id": 1, "params": { "name": "t", "arguments": { "query": text, "n": 7 } } }),
        2 => {
            json!({ "id": 1, "result": { "structuredContent": { "rows": [[1, "a"], [2, text], [3, "c"]] } } })
        }
        _ => json!({ "id": 1, "error": { "code": -1, "message": "no", "data": [text, "later"] } }),
    };
    escape_some(&document.to_string(), dice)
}

/// What a body says to whoever reads it: as it stands, and each of its strings as it is meant.
fn readable(body: &str) -> String {
    let mut words = body.to_owned();
    for part in body.split('"') {
        words.push('\n');
        words.push_str(&serde_json::from_str::<String>(&format!("\"{part}\"")).unwrap_or_default());
    }
    words
}

fn assert_gone(secret: &Planted, kept: &str, raw: &str) {
    let is_there = secret.survives_in(&readable(kept));
    assert!(!is_there, "{} of\n{raw}\nis in\n{kept}", secret.secret());
}

#[test]
fn no_planted_secret_stays_in_a_body_that_is_whole_or_cut_anywhere() {
    let mut dice = Dice(77);
    let redactor = planted::redactor(None);
    let mut planted = 0;
    for _ in 0..3 {
        for rule in planted::rules() {
            let secret = planted::plant(rule, &mut dice);
            let text = carry(&secret.text, &mut dice);
            let raw = message(&text, &mut dice);
            assert_gone(&secret, &redactor.redact_message(&raw, End::Whole), &raw);
            for _ in 0..20 {
                let until = raw.floor_char_boundary(dice.below(raw.len()));
                assert_gone(&secret, &redactor.redact_message(&raw[..until], End::Cut), &raw[..until]);
                planted += 1;
            }
        }
    }
    println!("planted: {planted} secrets in cut bodies, none kept");
}

#[test]
fn what_is_harmless_stays_up_to_the_word_in_which_it_is_cut() {
    let redactor = Redactor::default();
    let words = "all is well and nothing is wrong. ".repeat(40);
    let raw = json!({ "id": 7, "result": { "text": words } }).to_string();
    assert_eq!(redactor.redact_message(&raw, End::Whole), raw);
    let kept = redactor.redact_message(&raw[..1000], End::Cut);
    // At most the margin and a word are lost, and the quote is closed.
    assert!(kept.len() > 1000 - 180 && kept.ends_with('"'), "{} bytes: {kept}", kept.len());
    assert!(raw.starts_with(kept.trim_end_matches('"')), "{kept}");
}

#[test]
fn half_a_number_half_an_escape_and_a_value_under_a_secret_name_do_not_stay() {
    let redactor = Redactor::default();
    for (raw, kept) in [
        (r#"{"id":1,"n":41111111"#, r#"{"id":1,"n":"#),
        (r#"{"id":1,"a":[1,2"#, r#"{"id":1,"a":[1,"#),
        (r#"{"password":"correct horse bat"#, r#"{"password":"[redacted]""#),
        (r#"{"keys":{"api_key":["one two thr"#, r#"{"keys":{"api_key":["[redacted]""#),
        (r#"{"a":"b\u00"#, r#"{"a":"""#),
        ("{\"a\":\"\\", r#"{"a":"""#),
        (r#"{"a"#, "{\"\""),
        ("{", "{"),
        ("", ""),
    ] {
        assert_eq!(redactor.redact_message(raw, End::Cut), kept, "{raw}");
    }
    // Wherever an escape is cut, what comes out is a document that goes on.
    let whole = json!({ "a": format!("{}😀\n\"\\ {}", "word ".repeat(60), "more ".repeat(60)) }).to_string();
    let whole = whole.replace('😀', "\\ud83d\\ude00");
    for until in 7..whole.len() {
        let kept = redactor.redact_message(&whole[..until], End::Cut);
        assert!(serde_json::from_str::<Value>(&format!("{kept}}}")).is_ok(), "{kept}");
        assert!(!kept.contains("redacted"), "{}\n{kept}", &whole[..until]);
    }
}
