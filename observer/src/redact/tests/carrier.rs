//! The texts that secrets turn up in.

use super::Dice;
use serde_json::json;

/// What may stand right before a secret.
const BEFORE: [&str; 20] = [
    " ", "(", "[", "{", "\"", "'", "<", ": ", ", ", "\n", "\t", "|", "、", "。", "「", "は", "の", "→ ",
    "=> ", "\u{3000}",
];
/// What may stand right behind one.
const BEHIND: [&str; 17] =
    [" ", ")", "]", "\"", "'", ">", ", ", "; ", ". ", "\n", "! ", "? ", "。", "、", "」", " です", "\r\n"];

const PROSE: [&str; 8] = [
    "the request was refused by the server",
    "cannot connect after 3 attempts",
    "    at Object.<anonymous> (/srv/app/dist/index.js:12:7)",
    "  File \"/usr/lib/python3.12/asyncio/runners.py\", line 194, in run",
    "接続できませんでした",
    "2025-11-23T08:44:12.345Z ERROR worker-3",
    "user 42 of tenant 550e8400-e29b-41d4-a716-446655440000",
    "Zugriff verweigert für Gerät 7",
];

/// The text in a text.
pub(super) fn carry(text: &str, dice: &mut Dice) -> String {
    let prose = |dice: &mut Dice| dice.one_of(&PROSE);
    match dice.below(7) {
        0 => text.to_owned(),
        1 | 2 => {
            let (before, behind) = (dice.one_of(&BEFORE), dice.one_of(&BEHIND));
            format!("{}{before}{text}{behind}{}", prose(dice), prose(dice))
        }
        3 => format!("{}\n{}\n{text}\n{}", prose(dice), prose(dice), prose(dice)),
        4 => json!({ "message": prose(dice), "cause": { "detail": text } }).to_string(),
        5 => json!({ "log": json!({ "line": text }).to_string() }).to_string(),
        _ => format!("{} {}", prose(dice), escape_some(&json!([text]).to_string(), dice)),
    }
}

/// A JSON text with some of the characters in its strings written as `\u0041`.
pub(super) fn escape_some(json: &str, dice: &mut Dice) -> String {
    let (mut escaped, mut is_inside) = (String::new(), false);
    let mut rest = json.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => {
                escaped.push(character);
                escaped.extend(rest.next());
            }
            character if character.is_ascii_alphanumeric() && is_inside && dice.below(4) == 0 => {
                escaped.push_str(&format!("\\u{:04x}", character as u32));
            }
            other => {
                is_inside ^= other == '"';
                escaped.push(other);
            }
        }
    }
    escaped
}
