//! `[identity]` and `[route.identity]`: how callers prove who they are.

use std::path::PathBuf;

use http::HeaderName;
use ipnet::IpNet;

use crate::{HttpUpstream, Secret};

/// How callers prove who they are, and what becomes of their credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody looks. Credentials reach the server as they are, and no row says anything about them.
    None,
    /// Credentials reach the server as they are, which checks them. A row says that there were some; whose, it only says
    /// if they are tokens that can be verified here.
    Passthrough {
        /// How to verify tokens. Nobody is refused because one cannot be.
        tokens: Option<Tokens>,
    },
    /// Only callers with a key that `mcpmeter keys` has made.
    ApiKey {
        /// What the server gets in place of the key, as the value of `Authorization`.
        upstream_authorization: Option<Secret>,
    },
    /// Only callers with a valid JSON Web Token that was made out to this proxy (RFC 9068, RFC 8707).
    Jwt {
        /// What makes a token valid.
        tokens: Tokens,
        /// This resource's identifier in its metadata (RFC 9728); `None` for the URL that the client has dialled.
        resource: Option<String>,
        /// The scopes that a token must have, all of them.
        scopes: Vec<String>,
        /// What the server gets in place of the token, as the value of `Authorization`.
        upstream_authorization: Option<Secret>,
    },
    /// Only callers behind a proxy of these networks, which says who they are.
    Header {
        /// The header with the user.
        user: HeaderName,
        /// The header with the user's organisation.
        organization: Option<HeaderName>,
        /// Where that proxy is. Anybody else is refused, whatever the headers say.
        networks: Vec<IpNet>,
    },
}

/// What makes a JSON Web Token valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// `iss`, as it has to be.
    pub issuer: String,
    /// `aud` has to name one of them. What the client has dialled would not do: whoever was given a token for another
    /// server could dial that one's name here.
    pub audience: Vec<String>,
    /// Where the issuer's public keys are.
    pub jwks: Jwks,
    /// The signature algorithms that are accepted, whatever a token or a key says.
    pub algorithms: Vec<Algorithm>,
    /// The claim with the user.
    pub user_claim: String,
    /// The claim with the user's organisation.
    pub organization_claim: Option<String>,
}

/// Where a JSON Web Key Set is (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// Fetched when it is needed, and again as its age or an unknown key asks for.
    Url {
        /// With the whole path as its base path.
        url: HttpUpstream,
        /// PEM roots trusted for it beside the usual ones.
        ca_file: Option<PathBuf>,
    },
    /// Read again when it has changed.
    File(PathBuf),
}

/// A signature algorithm with a public key (RFC 7518, 3.1; RFC 8037). Those with a shared secret are none: whoever could
/// check such a token could make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, with its name.
    pub const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// What is accepted unless told otherwise: what issuers sign with today.
    pub const USUAL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];
}

impl Identity {
    /// How tokens are verified, if they are.
    pub const fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Passthrough { tokens } => tokens.as_ref(),
            Self::Jwt { tokens, .. } => Some(tokens),
            Self::None | Self::ApiKey { .. } | Self::Header { .. } => None,
        }
    }

    /// What the server gets in place of the caller's credentials, if it gets something.
    pub const fn upstream_authorization(&self) -> Option<&Secret> {
        match self {
            Self::ApiKey { upstream_authorization } | Self::Jwt { upstream_authorization, .. } => {
                upstream_authorization.as_ref()
            }
            Self::None | Self::Passthrough { .. } | Self::Header { .. } => None,
        }
    }

    /// Whether callers without valid credentials are refused here.
    pub const fn is_required(&self) -> bool {
        matches!(self, Self::ApiKey { .. } | Self::Jwt { .. } | Self::Header { .. })
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::Passthrough { tokens: None }
    }
}
