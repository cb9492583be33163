//! One JSON Web Token (RFC 7519), checked as RFC 8725 advises: the algorithms are ours to choose, not the token's; issuer,
//! audience and expiry must be there and right; what the token declares critical we would have to understand.

use super::{key_set::Keys, signature};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use mcpmeter_config as config;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The longest token that is looked at, in bytes. Heads are limited, too; this keeps the work small.
const MAX_TOKEN: usize = 16 << 10;
/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 30;
/// The longest name of a user or an organisation, in bytes.
pub(super) const MAX_NAME: usize = 256;

/// What makes a token valid, but for its issuer's keys.
pub(super) struct TokenRules {
    validations: HashMap<Algorithm, Validation>,
    user_claim: String,
    organization_claim: Option<String>,
}

/// What a valid token says of its user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) user: String,
    pub(super) organization: Option<String>,
    pub(super) scopes: Vec<String>,
    /// How long it still is valid.
    pub(super) lasts: Duration,
}

/// Why a token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadToken {
    /// It is no token, or one in a form that is not accepted here.
    Malformed,
    /// None of the issuer's keys that are known has made it. There may be newer ones.
    UnknownKey,
    /// The signature is wrong.
    Forged,
    /// It is no longer valid, or not yet.
    Expired,
    /// Somebody else has made it.
    WrongIssuer,
    /// It was made out to somebody else.
    WrongAudience,
    /// It does not name its user.
    NoUser,
}

impl TokenRules {
    pub(super) fn of(tokens: &config::Tokens) -> Self {
        signature::install();
        let rules = |algorithm: &config::Algorithm| {
            let algorithm = standard(*algorithm);
            let mut validation = Validation::new(algorithm);
            validation.leeway = LEEWAY;
            validation.validate_nbf = true;
            validation.set_issuer(std::slice::from_ref(&tokens.issuer));
            validation.set_audience(&tokens.audience);
            validation.set_required_spec_claims(&["exp", "iss", "aud"]);
            (algorithm, validation)
        };
        Self {
            validations: tokens.algorithms.iter().map(rules).collect(),
            user_claim: tokens.user_claim.clone(),
            organization_claim: tokens.organization_claim.clone(),
        }
    }

    /// Checks a token with the keys that are known.
    pub(super) fn verify(&self, token: &str, keys: &Keys) -> Result<Verified, BadToken> {
        if token.len() > MAX_TOKEN {
            return Err(BadToken::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| BadToken::Malformed)?;
        let validation = self.validations.get(&header.alg).filter(|_| header.crit.is_none());
        let validation = validation.ok_or(BadToken::Malformed)?;
        let mut verdict = BadToken::UnknownKey;
        for key in keys.candidates(header.kid.as_deref(), header.alg) {
            match jsonwebtoken::decode::<Map<String, Value>>(token, key, validation) {
                Ok(token) => return self.read(&token.claims),
                Err(error) => verdict = verdict_of(error.kind()),
            }
            if verdict != BadToken::Forged {
                break;
            }
        }
        Err(verdict)
    }

    fn read(&self, claims: &Map<String, Value>) -> Result<Verified, BadToken> {
        let user = name_of(claims.get(&self.user_claim)).ok_or(BadToken::NoUser)?;
        let organization = self.organization_claim.as_ref().and_then(|claim| name_of(claims.get(claim)));
        Ok(Verified { user, organization, scopes: scopes_of(claims), lasts: rest_of(claims) })
    }
}

fn verdict_of(error: &ErrorKind) -> BadToken {
    match error {
        ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => BadToken::Expired,
        ErrorKind::InvalidIssuer => BadToken::WrongIssuer,
        ErrorKind::InvalidAudience => BadToken::WrongAudience,
        ErrorKind::InvalidSignature => BadToken::Forged,
        _ => BadToken::Malformed,
    }
}

/// The time up to `exp`, less than a second too short.
fn rest_of(claims: &Map<String, Value>) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires_at = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
    Duration::try_from_secs_f64(expires_at).unwrap_or_default().saturating_sub(now)
}

/// A name, if it can be one.
fn name_of(claim: Option<&Value>) -> Option<String> {
    let name = match claim? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control)).then_some(name)
}

/// `scope` as RFC 9068 has it, or `scp` as others do.
fn scopes_of(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(scopes)) => scopes.split(' ').map(str::to_owned).collect(),
        Some(Value::Array(scopes)) => scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn standard(algorithm: config::Algorithm) -> Algorithm {
    match algorithm {
        config::Algorithm::Rs256 => Algorithm::RS256,
        config::Algorithm::Rs384 => Algorithm::RS384,
        config::Algorithm::Rs512 => Algorithm::RS512,
        config::Algorithm::Ps256 => Algorithm::PS256,
        config::Algorithm::Ps384 => Algorithm::PS384,
        config::Algorithm::Ps512 => Algorithm::PS512,
        config::Algorithm::Es256 => Algorithm::ES256,
        config::Algorithm::Es384 => Algorithm::ES384,
        config::Algorithm::EdDsa => Algorithm::EdDSA,
    }
}
