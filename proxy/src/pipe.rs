//! `mcpmeter stdio`: for clients that speak only stdio. Between the client's pipe and a program's pipe ([`command`]), or an
//! HTTP server ([`remote`]), every byte goes on as it came and every call is recorded.
//!
//! Nothing but the server's messages is ever written to stdout, and a client never goes without its server because the
//! books cannot be kept: that is the one place where the server matters more than the record.

mod books;
mod child;
mod client;
mod command;
mod recorder;
mod remote;

pub(crate) use child::SpawnError;
pub(crate) use remote::{RemoteUrl, RemoteUrlError};

use crate::{bodies, clock::Clock, process_meter::Meters, redaction, signal::Signals};
use books::Books;
use client::{Input, Output};
use http::HeaderMap;
use mcpmeter_config::Config;
use mcpmeter_observer::{Identity, Instance, Mount, PipeEnd};
use recorder::Recorder;
use std::{io, path::PathBuf, sync::Arc, time::Duration};

/// How long a server has for each step of its end: from the end of its input to SIGTERM, and from there to SIGKILL. Less
/// than the 2 s that the official SDKs give *this* program for the same steps: whoever is killed at the same instant as its
/// child may leave it behind.
const GRACE: Duration = Duration::from_millis(1500);
/// How often calls are looked for whose time has run out.
const LOOK: Duration = Duration::from_secs(1);

/// What is behind the pipe.
pub(crate) enum Server {
    /// A program and its arguments.
    Command(Vec<String>),
    /// Streamable HTTP, with headers for every request.
    Remote(RemoteUrl, HeaderMap),
}

/// Everything that the command line and the configuration have told.
pub(crate) struct Plan {
    pub(crate) server: Server,
    pub(crate) identity: Identity,
    /// `[store]` and the certificates' settings count, nothing else.
    pub(crate) config: Config,
    /// The folder to be made for the store, if it is the default one; its parents as well.
    pub(crate) folder: Option<PathBuf>,
}

/// Why there is nothing between client and server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipeError {
    /// The command cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Signals, pipes, certificates.
    #[error("cannot start")]
    Io(#[from] io::Error),
}

/// How it was that it ended.
struct Ended {
    /// What becomes of the calls that are still open.
    calls: PipeEnd,
    /// The exit code to hand on.
    code: u8,
}

/// What both kinds of server need.
struct Between {
    input: Input,
    output: Output,
    recorder: Recorder,
    signals: Signals,
}

/// Stands between client and server until one of them ends; gives the exit code.
pub(crate) fn run(plan: Plan) -> Result<u8, PipeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(Box::pin(run_on(plan)));
    // A thread that waits for the client's next line would wait for ever.
    runtime.shutdown_background();
    ended
}

async fn run_on(plan: Plan) -> Result<u8, PipeError> {
    let signals = Signals::listen()?;
    let clock = Clock::start();
    let mount = Mount { origin: String::new(), base_path: String::new(), prefix: String::new() };
    let make = match plan.server {
        Server::Command(_) => Instance::new_stdio,
        Server::Remote(..) => Instance::new,
    };
    let instance = Arc::new(make(plan.identity, mount));
    instance.redact_with(redaction::redactor(&plan.config.privacy));
    instance.keep_bodies(bodies::rule(plan.config.record.bodies, &plan.config.record));
    // The server first: it takes its time to start, and the store is open before it has.
    let server = match plan.server {
        Server::Command(words) => Started::Child(child::Child::spawn(&words)?),
        Server::Remote(url, headers) => Started::Remote(remote::Options { url, headers }),
    };
    let (connect_timeout_ms, heads) = (plan.config.proxy.connect_timeout_ms, plan.config.proxy.clone());
    let books = Books::open(plan.config, plan.folder);
    let recorder = Recorder::begin(&instance, clock, books.desk());
    let between = Between { input: Input::stdin()?, output: Output::stdout()?, recorder, signals };
    let recorder = between.recorder.clone();
    let meters = Meters::default();
    let meter = meters.of_programs();
    let ended = match server {
        Started::Child(child) => {
            recorder.meter(meter.track(child.pid()));
            meters.start_sampler()?;
            command::run(child, between).await
        }
        Started::Remote(options) => {
            let heads =
                crate::upstream::HeadLimits { fields: heads.max_headers, bytes: heads.max_header_bytes };
            let timeout = Duration::from_millis(connect_timeout_ms);
            Box::pin(remote::run(options, heads, timeout, clock, between)).await?
        }
    };
    client::hang_up();
    recorder.end(&ended.calls);
    books.close(&recorder);
    Ok(ended.code)
}

/// A server that may already be running.
enum Started {
    Child(child::Child),
    Remote(remote::Options),
}

/// Looks after calls whose time has run out, until it is dropped.
async fn tend(recorder: &Recorder) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        recorder.end_expired();
    }
}
