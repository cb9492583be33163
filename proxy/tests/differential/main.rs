//! The differential bench: every case of the wire guide is a short play between a raw client and a scripted
//! upstream, performed twice, directly and with the real program between the two. What arrived at both ends has to
//! be the same to the byte; [`permitted`] names the only differences there may be. The rows that the program wrote
//! are held against the case's own expectations.
//!
//! Cases have the names of the guide and lie in the files of its headings. A play is a list of lines ([`script`]),
//! performed in order ([`stage`]): as each line waits for what it names, a play that comes to its end has also shown
//! that nothing was held back on the way.

mod bench;
mod correlation;
mod inbox;
mod legacy_sse;
mod link;
mod modern;
mod pass_through;
mod permitted;
mod program;
mod script;
mod security;
mod server;
mod stage;
mod transcript;
mod wire;

use std::time::Duration;

/// How long anything may take before a case gives up; far more than it ever takes.
const PATIENCE: Duration = Duration::from_secs(30);
