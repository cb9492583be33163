//! What was found in a text, and the text without it. Where findings overlap, all of what they cover goes.

use super::token::TOKENS;
use std::ops::Range;

/// What recognises a secret. Each of them can be dropped, so that a test can show what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A private key in PEM.
    PrivateKey,
    /// Behind the name of what is always secret.
    Named,
    /// Behind the name of what is secret where it looks like it.
    PerhapsNamed,
    /// Behind `Cookie` and `Set-Cookie`.
    Cookie,
    /// Behind an authorization scheme.
    Scheme,
    /// The parameters of a scheme that has some.
    Parameters,
    /// User and password of a URL.
    UrlUser,
    /// A parameter of a URL's query or fragment.
    UrlParameter,
    /// A URL whose path is the secret.
    Webhook,
    /// What names its issuer by its beginning: the place in the table.
    Token(usize),
    /// An e-mail address.
    Email,
    /// A payment card's number.
    Card,
    /// A Japanese individual number.
    MyNumber,
    /// An international bank account number.
    Iban,
    /// A phone number that begins with + and a country.
    InternationalPhone,
    /// A North American phone number.
    AmericanPhone,
    /// A Japanese phone number.
    JapanesePhone,
    /// A pattern of the operator's: its place.
    Pattern(usize),
}

/// A secret in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) bytes: Range<usize>,
    pub(super) rule: Rule,
}

impl Found {
    pub(super) const fn new(bytes: Range<usize>, rule: Rule) -> Self {
        Self { bytes, rule }
    }
}

/// What a secret is called where nothing that stays beside it says so.
pub(super) fn name_of(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::PrivateKey => "private key",
        Rule::Webhook => "webhook",
        Rule::Token(place) => TOKENS[place].name,
        Rule::Email => "e-mail address",
        Rule::Card => "card number",
        Rule::MyNumber => "My Number",
        Rule::Iban => "IBAN",
        Rule::InternationalPhone | Rule::AmericanPhone | Rule::JapanesePhone => "phone number",
        _ => return None,
    })
}

/// The text with a mask in the place of each finding. `mask` writes one.
pub(super) fn replace(text: &str, mut found: Vec<Found>, mut mask: impl FnMut(&mut String, Rule)) -> String {
    // Stable: of two that begin together the one that was looked for first gives the mask its name.
    found.sort_by_key(|found| found.bytes.start);
    let mut kept = String::with_capacity(text.len() + 16 * found.len());
    let mut at = 0;
    let mut rest = found.into_iter().peekable();
    while let Some(Found { bytes, rule }) = rest.next() {
        let mut end = bytes.end;
        while let Some(next) = rest.next_if(|next| next.bytes.start < end) {
            end = end.max(next.bytes.end);
        }
        kept.push_str(&text[at..bytes.start]);
        mask(&mut kept, rule);
        at = end;
    }
    kept.push_str(&text[at..]);
    kept
}
