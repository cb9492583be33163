//! Between the client's pipe and a server that speaks Streamable HTTP: every line becomes a POST, and every message of an
//! answer or a stream a line. All revisions: sessions and streams up to 2025-11-25, headers instead from 2026-07-28 on.
//!
//! Here we are the server's client, so this is the one place where an error of ours is a JSON-RPC message: a request whose
//! answer cannot come any more is answered with code -32000 and what happened. Never answers for the server otherwise, and
//! never sends a request a second time, unless the server has told it to go elsewhere.

mod ask;
mod events;
mod line;
mod lines;
mod request;
mod server;
mod trouble;
mod url;

pub(crate) use url::{RemoteUrl, RemoteUrlError};

use super::{Between, Ended, GRACE, client::Output, recorder::Recorder, tend};
use crate::{
    clock::Clock,
    signal::Signals,
    tls::{Certificates, UpstreamFiles},
    upstream::HeadLimits,
};
use bytes::Bytes;
use http::HeaderMap;
use line::Line;
use lines::Lines;
use mcpmeter_config::Scheme;
use mcpmeter_observer::PipeEnd;
use server::Server;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use trouble::Trouble;

/// The longest message, either way. A longer one from the client ends the program, a longer one from the server its call.
const MAX_MESSAGE: usize = 64 << 20;
/// Messages that wait for the client to take them; then the server has to wait.
const MAX_WAITING: usize = 16;
/// How long later lines wait for a notification to be accepted, so that the server sees both in the client's order.
const ORDER: Duration = Duration::from_secs(2);
/// How long the end waits for the server to end its session.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where, and with which headers.
pub(crate) struct Options {
    pub(crate) url: RemoteUrl,
    pub(crate) headers: HeaderMap,
}

/// A line for the client.
struct Said {
    line: Bytes,
    /// The server has said it; or else we have, and the books know already.
    by_server: bool,
}

/// Forwards until the client is gone, we are told to stop, or the server has lost the session.
pub(super) async fn run(
    options: Options,
    heads: HeadLimits,
    connect_timeout: Duration,
    clock: Clock,
    between: Between,
) -> io::Result<Ended> {
    let Between { input, output, recorder, mut signals } = between;
    let reach = || Certificates::default().reach(&UpstreamFiles::default()).map_err(io::Error::other);
    let tls = (options.url.upstream.scheme == Scheme::Https).then(reach).transpose()?;
    let connector = crate::upstream::Connector::new(&options.url.upstream, tls, connect_timeout, heads)?;
    let (say, said) = mpsc::channel(MAX_WAITING);
    let server = Arc::new(Server::new(options, connector, clock, recorder.clone(), say));
    let lines = Lines::new(input, recorder.clone());
    let writing = write(said, output, &recorder);
    tokio::pin!(writing);
    let (calls, code) = tokio::select! {
        ended = serve(lines, &server, &recorder, &mut signals) => ended,
        _ = &mut writing => (PipeEnd::ClientLeft, 0),
    };
    let goodbye = async {
        if matches!(calls, PipeEnd::ClientLeft) {
            server.wait_for_answers(GRACE).await;
        }
        server.say_goodbye(FAREWELL).await;
    };
    // What still comes is still forwarded, and the last lines are not cut off.
    tokio::select! {
        () = goodbye => {}
        _ = &mut writing => return Ok(Ended { calls, code }),
    }
    drop(server);
    let _ = timeout(FAREWELL, writing).await;
    Ok(Ended { calls, code })
}

/// Forwards until there is a reason to end: what becomes of the open calls, and the exit code.
async fn serve(
    mut lines: Lines,
    server: &Arc<Server>,
    recorder: &Recorder,
    signals: &mut Signals,
) -> (PipeEnd, u8) {
    tokio::select! {
        code = forward(&mut lines, server) => (PipeEnd::ClientLeft, code),
        () = signals.next_stop() => (PipeEnd::Stopped, 0),
        () = server.lost() => {
            tracing::error!("the server no longer knows the session: start again");
            (PipeEnd::Failed(Trouble::lost().failure()), 1)
        }
        // Neither ever ends.
        () = tend(recorder) => (PipeEnd::Stopped, 1),
        () = server.close_idle() => (PipeEnd::Stopped, 1),
    }
}

/// Sends every line of the client's; gives the exit code when there are no more.
async fn forward(lines: &mut Lines, server: &Arc<Server>) -> u8 {
    let mut untaken: Vec<oneshot::Receiver<()>> = Vec::new();
    loop {
        let line = match lines.next().await {
            Ok(Some(bytes)) => Line::read(bytes),
            Ok(None) => return 0,
            Err(lines::TooLong) => {
                tracing::error!(
                    max_bytes = MAX_MESSAGE,
                    "the client's message is too long: it cannot be forwarded"
                );
                return 1;
            }
        };
        if line.is_blank() {
            continue;
        }
        server.opened().await;
        untaken.retain_mut(|taken| matches!(taken.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        if line.asks() {
            untaken.push(server.ask(line));
            continue;
        }
        // What answers or cancels comes behind what was asked before, and before what is asked next.
        let in_order = async {
            for taken in untaken.drain(..) {
                // An error means that it is over without having been sent.
                let _ = taken.await;
            }
            let _ = server.tell(line).await;
        };
        let _ = timeout(ORDER, in_order).await;
    }
}

/// Writes lines for the client; ends with an error when it is gone.
async fn write(mut said: mpsc::Receiver<Said>, mut output: Output, recorder: &Recorder) -> io::Result<()> {
    while let Some(Said { line, by_server }) = said.recv().await {
        if by_server {
            recorder.hear_server(&line);
            recorder.hear_server(b"\n");
        }
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(&line);
        whole.push(b'\n');
        output.write_all(&whole).await?;
    }
    Ok(())
}
