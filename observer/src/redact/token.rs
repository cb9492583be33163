//! Tokens that say by their beginning who has issued them, as a table. What follows it decides, too: `sk-learn` and
//! `npm_config_registry` are none.

use super::{
    finding::{Found, Rule},
    place::{is_word_start, run_end},
};

/// A form of token.
pub(super) struct Token {
    /// What the mask calls it.
    pub(super) name: &'static str,
    /// How it begins.
    pub(super) prefix: &'static str,
    body: Body,
    /// The fewest bytes behind the prefix.
    least: usize,
}

/// What stands behind the prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Letters and digits.
    Alphanumeric,
    /// Upper-case letters and digits.
    Upper,
    /// Lower-case hexadecimal digits.
    Hex,
    /// Those of base64url, not all of them lower-case letters and hyphens.
    Base64Url,
    /// The same with dots.
    Dotted,
    /// Those of base64.
    Base64,
}

const fn token(name: &'static str, prefix: &'static str, body: Body, least: usize) -> Token {
    Token { name, prefix, body, least }
}

use Body::{Alphanumeric, Base64, Base64Url, Dotted, Hex, Upper};

/// The prefixes are what their issuers document, for secret scanners among others. The lengths are shorter than theirs
/// where no word begins like that, so that a token that was cut is one. Those with one first byte stand together, a longer
/// prefix before one that it begins with.
pub(super) static TOKENS: [Token; 85] = [
    token("AWS key", "AKIA", Upper, 12),
    token("AWS key", "ASIA", Upper, 16),
    token("AWS key", "ABIA", Upper, 16),
    token("AWS key", "ACCA", Upper, 16),
    token("Google key", "AIza", Base64Url, 20),
    token("Twilio account", "AC", Hex, 32),
    token("Atlassian token", "ATATT3", Base64Url, 20),
    token("Bitbucket token", "ATBB", Alphanumeric, 28),
    token("age key", "AGE-SECRET-KEY-1", Upper, 16),
    token("Google secret", "GOCSPX-", Base64Url, 16),
    token("Heroku key", "HRKU-", Base64Url, 16),
    // `-----BEGIN` in base64.
    token("private key", "LS0tLS1CRUdJTi", Base64, 16),
    token("New Relic key", "NRAK-", Upper, 20),
    token("Postman key", "PMAK-", Base64Url, 20),
    token("SendGrid key", "SG.", Dotted, 30),
    token("Twilio key", "SK", Hex, 32),
    token("Docker token", "dckr_pat_", Base64Url, 16),
    token("Docker token", "dckr_oat_", Base64Url, 16),
    token("DigitalOcean token", "dop_v1_", Hex, 16),
    token("DigitalOcean token", "doo_v1_", Hex, 16),
    token("DigitalOcean token", "dor_v1_", Hex, 16),
    token("Databricks token", "dapi", Hex, 32),
    token("Doppler token", "dp.pt.", Alphanumeric, 20),
    // `{"` in base64.
    token("JSON Web Token", "eyJ", Dotted, 12),
    token("Figma token", "figd_", Base64Url, 16),
    token("Fly token", "fm2_", Base64, 20),
    token("GitHub token", "ghp_", Alphanumeric, 12),
    token("GitHub token", "gho_", Alphanumeric, 12),
    token("GitHub token", "ghu_", Alphanumeric, 12),
    token("GitHub token", "ghs_", Alphanumeric, 12),
    token("GitHub token", "ghr_", Alphanumeric, 12),
    token("GitHub token", "github_pat_", Base64Url, 12),
    token("GitLab token", "glpat-", Base64Url, 12),
    token("GitLab token", "gldt-", Base64Url, 12),
    token("GitLab token", "glrt-", Base64Url, 12),
    token("GitLab token", "glptt-", Base64Url, 12),
    token("GitLab token", "glcbt-", Base64Url, 12),
    token("GitLab token", "gloas-", Base64Url, 12),
    token("GitLab token", "glsoat-", Base64Url, 12),
    token("Groq key", "gsk_", Alphanumeric, 20),
    token("Grafana token", "glsa_", Base64Url, 20),
    token("Grafana token", "glc_", Base64, 20),
    token("Hugging Face token", "hf_", Alphanumeric, 20),
    token("Vault token", "hvs.", Base64Url, 20),
    token("Vault token", "hvb.", Base64Url, 20),
    token("Linear key", "lin_api_", Alphanumeric, 16),
    token("LangSmith key", "lsv2_", Base64Url, 20),
    token("mcpmeter key", "mcpm_", Base64Url, 12),
    token("npm token", "npm_", Alphanumeric, 30),
    token("Notion token", "ntn_", Alphanumeric, 20),
    token("Stripe key", "pk_live_", Alphanumeric, 12),
    token("PyPI token", "pypi-AgE", Base64Url, 16),
    token("Perplexity key", "pplx-", Alphanumeric, 20),
    token("PlanetScale token", "pscale_tkn_", Base64Url, 16),
    token("Pulumi token", "pul-", Hex, 32),
    token("Stripe key", "rk_live_", Alphanumeric, 12),
    token("Stripe key", "rk_test_", Alphanumeric, 12),
    token("RubyGems key", "rubygems_", Hex, 32),
    token("Replicate token", "r8_", Alphanumeric, 20),
    token("Anthropic key", "sk-ant-", Base64Url, 12),
    token("API key", "sk-", Base64Url, 16),
    token("Stripe key", "sk_live_", Alphanumeric, 12),
    token("Stripe key", "sk_test_", Alphanumeric, 12),
    token("Shopify token", "shpat_", Hex, 16),
    token("Shopify token", "shpss_", Hex, 16),
    token("Square token", "sq0atp-", Base64Url, 16),
    token("Square secret", "sq0csp-", Base64Url, 16),
    token("Sentry token", "sntrys_", Base64, 20),
    token("Supabase token", "sbp_", Hex, 20),
    token("Tavily key", "tvly-", Base64Url, 16),
    token("Tailscale key", "tskey-", Base64Url, 12),
    token("webhook secret", "whsec_", Base64, 16),
    token("Slack token", "xoxa-", Base64Url, 10),
    token("Slack token", "xoxb-", Base64Url, 10),
    token("Slack token", "xoxe-", Base64Url, 10),
    token("Slack token", "xoxe.", Dotted, 10),
    token("Slack token", "xoxo-", Base64Url, 10),
    token("Slack token", "xoxp-", Base64Url, 10),
    token("Slack token", "xoxr-", Base64Url, 10),
    token("Slack token", "xoxs-", Base64Url, 10),
    token("Slack token", "xapp-", Base64Url, 10),
    token("xAI key", "xai-", Alphanumeric, 20),
    token("Google token", "ya29.", Dotted, 16),
    // Forms of their own.
    token("Telegram token", "", Dotted, 35),
    token("Azure secret", "", Dotted, 34),
];

/// Their places in the table, where no prefix leads to them.
const TELEGRAM: usize = 83;
const AZURE: usize = 84;

/// Behind what an Azure client secret has at its fourth place.
const AZURE_MARK: &[u8] = b"8Q~";

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphanumeric() || !is_word_start(bytes, at) {
            at += 1;
            continue;
        }
        match token_at(bytes, at) {
            Some((end, place)) => {
                found.push(Found::new(at..end, Rule::Token(place)));
                at = end;
            }
            None => at += 1,
        }
    }
}

/// The end of the token that begins there, and its place in the table.
fn token_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &bytes[at..];
    let number = at + if rest.starts_with(b"bot") { 3 } else { 0 };
    if let Some(end) = telegram_end(bytes, number) {
        return Some((end, TELEGRAM));
    }
    if rest.get(3..6) == Some(AZURE_MARK) {
        let end = run_end(bytes, at, |byte| byte.is_ascii_alphanumeric() || b"_~.-".contains(&byte));
        return (end - at >= 34).then_some((end, AZURE));
    }
    let of_byte = FIRST[usize::from(rest[0])];
    let places = of_byte.0..of_byte.1;
    places.filter(|place| rest.starts_with(TOKENS[*place].prefix.as_bytes())).find_map(|place| {
        let start = at + TOKENS[place].prefix.len();
        let end = TOKENS[place].body.end(bytes, start);
        (end - start >= TOKENS[place].least).then_some((end, place))
    })
}

/// Of each byte, where prefixes begin and end in the table that begin with it.
static FIRST: [(usize, usize); 256] = {
    let mut first = [(0, 0); 256];
    let mut place = 0;
    while place < TELEGRAM {
        let byte = TOKENS[place].prefix.as_bytes()[0] as usize;
        if first[byte].1 == 0 {
            first[byte].0 = place;
        }
        first[byte].1 = place + 1;
        place += 1;
    }
    first
};

/// The number of a bot, a colon and 35 characters; in a URL behind `bot`.
fn telegram_end(bytes: &[u8], at: usize) -> Option<usize> {
    let colon = run_end(bytes, at, |byte| byte.is_ascii_digit());
    if !(8..=10).contains(&(colon - at)) || bytes.get(colon) != Some(&b':') {
        return None;
    }
    let end = Base64Url.run_end(bytes, colon + 1);
    (end - colon > 34).then_some(end)
}

impl Body {
    fn run_end(self, bytes: &[u8], start: usize) -> usize {
        run_end(bytes, start, |byte| match self {
            Alphanumeric => byte.is_ascii_alphanumeric(),
            Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Base64Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'='),
            Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-'),
        })
    }

    /// The end of a body; where it begins if it is no token's.
    fn end(self, bytes: &[u8], start: usize) -> usize {
        let is_word = |byte: &u8| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_' | b'.');
        // No further than needed: what is no token may be the beginning of many more.
        let first = self.run_end(&bytes[..bytes.len().min(start + MAX_WORD)], start);
        if bytes[start..first].iter().all(is_word) {
            return start;
        }
        let run = &bytes[start..self.run_end(bytes, first)];
        // A sentence may end behind it.
        start + run.len() - run.iter().rev().take_while(|byte| **byte == b'.').count()
    }
}

/// How much of what is behind a prefix can be words.
const MAX_WORD: usize = 128;
