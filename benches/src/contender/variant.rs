//! How mcpmeter can be set up to be measured, as data: one switch of the command line each.

/// mcpmeter's runtime layouts, for `--mcpmeter-runtime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Runtime {
    /// One single-threaded runtime per core.
    PerCore,
    /// One runtime over all cores.
    Shared,
}

impl Runtime {
    /// The word of the configuration.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::PerCore => "per_core",
            Self::Shared => "shared",
        }
    }
}

/// Where mcpmeter puts its rows, for `--mcpmeter-store`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Store {
    /// PostgreSQL, a cluster of the bench's own whose CPU is not counted.
    #[default]
    Postgres,
    /// The embedded file.
    Sqlite,
}

/// How mcpmeter's callers are known, for `--mcpmeter-identity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Identity {
    /// Nobody looks.
    None,
    /// Credentials pass through; a key.
    Passthrough,
    /// A proxy in front says who it is.
    Header,
    /// A key of ours.
    ApiKey,
    /// A token with an Ed25519 signature.
    Jwt,
}

impl Identity {
    /// The word of the configuration.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Passthrough => "passthrough",
            Self::Header => "header",
            Self::ApiKey => "api_key",
            Self::Jwt => "jwt",
        }
    }
}

/// How mcpmeter is set up, where that is not its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) store: Store,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) identity: Option<Identity>,
    /// `proxy.workers`.
    pub(crate) workers: Option<u16>,
    /// Routes in the configuration before the one that is called. Has no part in the name.
    pub(crate) further_routes: usize,
}
