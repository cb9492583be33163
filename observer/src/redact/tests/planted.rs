//! Secrets of every kind that is known, made up.

use super::{Dice, Pattern, Redactor, Rule};
use crate::redact::token::TOKENS;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use regex::Regex;

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";
const DIGITS: &str = "0123456789";
/// What people think of for a password.
const PASSWORD: &str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789!#%*+-./:=?@^_~";

/// A text with a secret in it, and what of it must not survive.
pub(super) struct Planted {
    pub(super) text: String,
    secret: String,
}

impl Planted {
    /// Whether a good part of it is still there: all, or the first half of what is long.
    pub(super) fn survives_in(&self, text: &str) -> bool {
        let characters = self.secret.chars().count();
        let part: String = self.secret.chars().take(characters.min(8.max(characters / 2))).collect();
        text.contains(&part)
    }

    /// What the mask is tested against.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

/// Every rule, each prefix of a token on its own.
pub(super) fn rules() -> Vec<Rule> {
    let others = [
        Rule::PrivateKey,
        Rule::Named,
        Rule::PerhapsNamed,
        Rule::Cookie,
        Rule::Scheme,
        Rule::Parameters,
        Rule::UrlUser,
        Rule::UrlParameter,
        Rule::Webhook,
        Rule::Email,
        Rule::Card,
        Rule::MyNumber,
        Rule::Iban,
        Rule::InternationalPhone,
        Rule::AmericanPhone,
        Rule::JapanesePhone,
        Rule::Pattern(0),
    ];
    others.into_iter().chain((0..TOKENS.len()).map(Rule::Token)).collect()
}

/// With a pattern of the operator's; perhaps without one of the rules.
pub(super) fn redactor(dropped: Option<Rule>) -> Redactor {
    let regex = Regex::new(r"E-\d{6}").expect("valid");
    Redactor {
        dropped: dropped.filter(|rule| *rule != Rule::Pattern(0)).into_iter().collect(),
        patterns: if dropped == Some(Rule::Pattern(0)) {
            Vec::new()
        } else {
            vec![Pattern { name: "employee".into(), regex }]
        },
    }
}

pub(super) fn plant(rule: Rule, dice: &mut Dice) -> Planted {
    let secret = match rule {
        Rule::Named => return named(dice),
        Rule::PerhapsNamed => return perhaps_named(dice),
        Rule::Cookie => return cookie(dice),
        Rule::Scheme => return scheme(dice),
        Rule::Parameters => return parameters(dice),
        Rule::UrlUser => return url_user(dice),
        Rule::UrlParameter => return url_parameter(dice),
        Rule::Webhook => return webhook(dice),
        Rule::InternationalPhone => return international(dice),
        Rule::PrivateKey => return private_key(dice),
        Rule::Token(place) => token(place, dice),
        Rule::Email => email(dice),
        Rule::Card => card(dice),
        Rule::MyNumber => my_number(dice),
        Rule::Iban => iban(dice),
        Rule::AmericanPhone => american(dice),
        Rule::JapanesePhone => japanese(dice),
        Rule::Pattern(_) => format!("E-{}", dice.text(DIGITS, 6)),
    };
    Planted { text: secret.clone(), secret }
}

fn behind(before: &str, secret: String, after: &str) -> Planted {
    Planted { text: format!("{before}{secret}{after}"), secret }
}

fn password(dice: &mut Dice) -> String {
    let len = 8 + dice.below(16);
    // A letter and a digit, so that it is no placeholder.
    format!("{}7{}", dice.text(ALPHANUMERIC, 3), dice.text(PASSWORD, len) + &dice.text(ALPHANUMERIC, 1))
}

fn named(dice: &mut Dice) -> Planted {
    const NAMES: [&str; 34] = [
        "password",
        "Password",
        "PASSWORD",
        "passwd",
        "db_password",
        "DB_PASSWORD",
        "dbPassword",
        "passphrase",
        "pwd",
        "api_key",
        "apiKey",
        "x-api-key",
        "API key",
        "OPENAI_API_KEY",
        "client_secret",
        "clientSecret",
        "access_token",
        "accessToken",
        "refresh_token",
        "secret_key",
        "SECRET_ACCESS_KEY",
        "aws_secret_access_key",
        "AccountKey",
        "SharedAccessKey",
        "private_key",
        "auth_token",
        "session_token",
        "Passwort",
        "encryption_key",
        "passcode",
        "パスワード",
        "暗証番号",
        "密码",
        "пароль",
    ];
    let name = dice.one_of(&NAMES);
    let secret = password(dice);
    match dice.below(11) {
        0 => behind(&format!("{name}="), secret, ""),
        1 => behind(&format!("{name}: "), secret, ""),
        2 => behind(&format!("{name} = "), secret, " next=1"),
        3 => behind(&format!("{{\"{name}\": \""), secret, "\"}"),
        4 => behind(&format!("{{'{name}': '"), secret, "'}"),
        5 => behind(&format!("{{\\\"{name}\\\":\\\""), secret, "\\\"}"),
        6 => behind(&format!("a=1;{name}="), secret, ";b=2"),
        7 => behind(&format!("<{name}>"), secret, &format!("</{name}>")),
        8 => behind(&format!("{name} => \""), secret, "\""),
        9 => behind(&format!("{name}：\""), format!("{secret} and {}", dice.text(ALPHANUMERIC, 6)), "\""),
        _ => behind(&format!("{name}: `"), secret, "`"),
    }
}

fn perhaps_named(dice: &mut Dice) -> Planted {
    let name = dice.one_of(&[
        "token",
        "secret",
        "Token",
        "signature",
        "session_id",
        "sid",
        "jwt",
        "csrf",
        "credentials",
    ]);
    let name = if name == "csrf" { "csrf_token" } else { name };
    let mark = dice.one_of(&["=", ": ", " = "]);
    let len = 20 + dice.below(30);
    behind(&format!("{name}{mark}"), dice.text(ALPHANUMERIC, len), "")
}

fn cookie(dice: &mut Dice) -> Planted {
    let secret = format!("theme={}", dice.text(ALPHANUMERIC, 20));
    let before = dice.one_of(&["Cookie: ", "Set-Cookie: ", "cookie: a=1; ", "set-cookie=", "\"Cookie\": \""]);
    let end = if before.ends_with('"') { "\"" } else { "\n" };
    behind(before, secret, end)
}

fn scheme(dice: &mut Dice) -> Planted {
    match dice.below(4) {
        0 => behind("Basic ", format!("{}5{}==", dice.text(ALPHANUMERIC, 8), dice.text(ALPHANUMERIC, 9)), ""),
        1 => behind("bearer ", format!("{}8{}", dice.text(ALPHANUMERIC, 12), dice.text(LOWER, 8)), ""),
        2 => behind("BEARER%20", format!("{}8{}", dice.text(ALPHANUMERIC, 12), dice.text(HEX, 8)), ""),
        _ => behind("Bearer ", format!("{}-{}", dice.text(HEX, 20), dice.text(ALPHANUMERIC, 20)), ""),
    }
}

fn parameters(dice: &mut Dice) -> Planted {
    let secret = dice.text(HEX, 32);
    match dice.below(3) {
        0 => behind("Digest username=\"bob\", realm=\"r\", response=\"", secret, "\""),
        1 => behind("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;date, Mac=", secret, ""),
        _ => behind("OAuth oauth_consumer_key=\"", secret, "\", oauth_version=\"1.0\""),
    }
}

fn url_user(dice: &mut Dice) -> Planted {
    let scheme = dice.one_of(&["https", "postgres", "redis", "amqp", "mongodb+srv", "ftp"]);
    let secret = match dice.below(3) {
        0 => format!("{}:{}", dice.text(LOWER, 6), dice.text(ALPHANUMERIC, 12)),
        1 => format!(":{}", dice.text(ALPHANUMERIC, 14)),
        _ => format!("{}:{}p@ss/word", dice.text(LOWER, 6), dice.text(LOWER, 4)),
    };
    behind(&format!("{scheme}://"), secret, "@db:5432/app")
}

fn url_parameter(dice: &mut Dice) -> Planted {
    const NAMES: [&str; 12] = [
        "access_token",
        "api_key",
        "key",
        "code",
        "sig",
        "X-Amz-Signature",
        "token",
        "state",
        "sessionId",
        "x",
        "password",
        "cursor",
    ];
    let name = dice.one_of(&NAMES);
    let secret = format!("aB3d7{}", dice.text(ALPHANUMERIC, 28));
    let before =
        dice.one_of(&["https://h.example/cb?", "/messages?a=1&", "https://h.example/#", "/x?a=1&amp;"]);
    behind(&format!("{before}{name}="), secret, "&page=2")
}

fn webhook(dice: &mut Dice) -> Planted {
    let place = dice.one_of(&[
        "hooks.slack.com/services",
        "discord.com/api/webhooks",
        "hooks.zapier.com/hooks/catch",
    ]);
    let secret = format!("{}/{}", dice.text(DIGITS, 6), dice.text(LOWER, 24));
    behind(&format!("https://{place}/"), secret, "")
}

fn private_key(dice: &mut Dice) -> Planted {
    let label = dice.one_of(&[
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
    ]);
    let secret = dice.text(ALPHANUMERIC, 64);
    let line = dice.one_of(&["\n", "\r\n", "\\n"]);
    let more = dice.text(ALPHANUMERIC, 64);
    behind(
        &format!("-----BEGIN {label}-----{line}"),
        secret,
        &format!("{line}{more}{line}-----END {label}-----"),
    )
}

fn token(place: usize, dice: &mut Dice) -> String {
    let token = &TOKENS[place];
    let upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    match (token.name, token.prefix) {
        ("Telegram token", _) => format!("1{}:AA{}", dice.text(DIGITS, 9), dice.text(ALPHANUMERIC, 33)),
        ("Azure secret", _) => format!("{}8Q~{}", dice.text(ALPHANUMERIC, 3), dice.text(ALPHANUMERIC, 34)),
        ("AWS key", prefix) => format!("{prefix}{}", dice.text(upper, 16)),
        ("JSON Web Token", _) => {
            let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
            let payload = format!("{{\"sub\":\"{}\"}}", dice.text(LOWER, 12));
            format!(
                "{}.{}.{}",
                part("{\"alg\":\"HS256\"}".to_owned()),
                part(payload),
                dice.text(ALPHANUMERIC, 43)
            )
        }
        ("SendGrid key", _) => format!("SG.{}.{}", dice.text(ALPHANUMERIC, 22), dice.text(ALPHANUMERIC, 43)),
        ("age key" | "New Relic key", prefix) => format!("{prefix}{}", dice.text(upper, 58)),
        (name, prefix) => {
            let is_hex = [
                "DigitalOcean token",
                "Databricks token",
                "Shopify token",
                "Supabase token",
                "RubyGems key",
                "Pulumi token",
            ];
            let is_hex = is_hex.contains(&name) || name.starts_with("Twilio");
            let len = if is_hex { 40 } else { 36 };
            format!("{prefix}{}", dice.text(if is_hex { HEX } else { ALPHANUMERIC }, len))
        }
    }
}

fn email(dice: &mut Dice) -> String {
    let (first, last) = (dice.text(LOWER, 5), dice.text(LOWER, 6));
    let local = match dice.below(4) {
        0 => first,
        1 => format!("{first}.{last}"),
        2 => format!("{first}+{last}"),
        _ => format!("{first}_{last}7"),
    };
    let domain = dice.one_of(&[
        "example.com",
        "mail.example.co.jp",
        "example.museum",
        "163.com",
        "xn--bcher-kva.example",
        "ex-ample.io",
    ]);
    format!("{local}@{domain}")
}

/// Digits in groups, perhaps in their wide form.
fn grouped(digits: &str, lens: &[usize], gap: &str, dice: &mut Dice) -> String {
    let (mut at, mut groups) = (0, Vec::new());
    for len in lens {
        groups.push(&digits[at..at + len]);
        at += len;
    }
    let text = groups.join(gap);
    match dice.below(5) {
        0 => text.chars().map(widen).collect(),
        _ => text,
    }
}

fn widen(character: char) -> char {
    match character {
        '0'..='9' | '-' => char::from_u32(character as u32 + 0xfee0).expect("a wide character"),
        ' ' => '\u{3000}',
        other => other,
    }
}

fn card(dice: &mut Dice) -> String {
    const FOURS: &[usize] = &[4, 4, 4, 4];
    const KINDS: [(&str, &[&[usize]]); 8] = [
        ("4", &[FOURS, &[16], &[4, 4, 4, 4, 3], &[13]]),
        ("51", &[FOURS, &[16]]),
        ("2221", &[FOURS, &[16]]),
        ("37", &[&[4, 6, 5], &[15]]),
        ("36", &[&[4, 6, 4], &[14]]),
        ("6011", &[FOURS, &[16]]),
        ("3530", &[FOURS, &[16]]),
        ("62", &[&[4, 4, 4, 4, 3], &[19], FOURS]),
    ];
    let (start, lens) = KINDS[dice.below(8)];
    let lens = dice.one_of(lens);
    let total = lens.iter().sum::<usize>();
    let mut digits = format!("{start}{}", dice.text(DIGITS, total - start.len() - 1));
    let sum =
        digits.bytes().rev().enumerate().map(|(place, byte)| match (place % 2, u32::from(byte - b'0')) {
            (1, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        });
    digits += &((10 - sum.sum::<u32>() % 10) % 10).to_string();
    grouped(&digits, lens, dice.one_of(&[" ", "-"]), dice)
}

fn my_number(dice: &mut Dice) -> String {
    let digits = dice.text("123456789", 1) + &dice.text(DIGITS, 9) + "5";
    let weigh =
        |(place, byte): (usize, u8)| u32::from(byte - b'0') * [2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6][place];
    let rest = digits.bytes().rev().enumerate().map(weigh).sum::<u32>() % 11;
    let digits = digits + &(if rest <= 1 { 0 } else { 11 - rest }).to_string();
    let lens = dice.one_of(&[&[12][..], &[4, 4, 4], &[3, 3, 3, 3], &[6, 6]]);
    grouped(&digits, lens, dice.one_of(&[" ", "-"]), dice)
}

fn iban(dice: &mut Dice) -> String {
    let (country, len) =
        [("DE", 22), ("FR", 27), ("GB", 22), ("NL", 18), ("NO", 15), ("MT", 31)][dice.below(6)];
    let account = dice.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 4) + &dice.text(DIGITS, len - 8);
    let rest = format!("{account}{country}00").bytes().fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    let plain = format!("{country}{:02}{account}", 98 - rest);
    if dice.below(2) == 0 {
        return plain;
    }
    let groups: Vec<_> =
        plain.as_bytes().chunks(4).map(|group| str::from_utf8(group).expect("ASCII")).collect();
    groups.join(" ")
}

fn international(dice: &mut Dice) -> Planted {
    let secret = match dice.below(5) {
        0 => format!("1 415 555 {}", dice.text(DIGITS, 4)),
        1 => format!("8190{}", dice.text(DIGITS, 8)),
        2 => format!("81-3-{}-{}", dice.text(DIGITS, 4), dice.text(DIGITS, 4)),
        3 => format!("49 (0)30 {}", dice.text(DIGITS, 7)),
        _ => format!("44.20.7946.{}", dice.text(DIGITS, 4)),
    };
    behind("+", secret, "")
}

fn american(dice: &mut Dice) -> String {
    let (area, exchange, line) = (
        dice.one_of(&["415", "212", "646", "907"]),
        dice.one_of(&["555", "736", "234"]),
        dice.text(DIGITS, 4),
    );
    match dice.below(5) {
        0 => format!("{area}-{exchange}-{line}"),
        1 => format!("{area}.{exchange}.{line}"),
        2 => format!("{area}) {exchange}-{line}"),
        3 => format!("1-{area}-{exchange}-{line}"),
        _ => format!("{area} {exchange} {line}"),
    }
}

fn japanese(dice: &mut Dice) -> String {
    let digits = dice.text("123456789", 8);
    const KINDS: [(&str, &[usize]); 9] = [
        ("090", &[3, 4, 4]),
        ("080", &[3, 4, 4]),
        ("070", &[11]),
        ("03", &[2, 4, 4]),
        ("06", &[2, 4, 4]),
        ("045", &[3, 3, 4]),
        ("0466", &[4, 2, 4]),
        ("0120", &[4, 3, 3]),
        ("050", &[3, 4, 4]),
    ];
    let (start, lens) = KINDS[dice.below(9)];
    let total = lens.iter().sum::<usize>();
    grouped(&format!("{start}{digits}")[..total], lens, dice.one_of(&["-", "-", " "]), dice)
}
