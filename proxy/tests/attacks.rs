//! Requests that try to get where they should not: to the route `safe`, which lets nobody in, past the gate, or as one message
//! for us and as two for the server. A second parser, Node's, says what has got through. Each attack is refused and counted,
//! or it is carried as the one harmless request that it is; `safe` never sees any.

mod framing;
mod heads;
mod paths;

use crate::{
    recording_server::RecordingServer,
    support::{Mcpmeter, PATIENCE, eventually},
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long nothing comes where nothing will.
const SILENCE: Duration = Duration::from_millis(700);

/// What is expected of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// A 4xx or 5xx, or the end of the connection; the counters tell of it.
    Refused,
    /// The open server gets one request, whose target contains nothing of `safe`.
    Carried,
}

use Fate::{Carried, Refused};

/// One attack: what it tries, its bytes, what becomes of it.
type Attack = (&'static str, Vec<u8>, Fate);

/// The open route's server, the guarded one's, and the proxy.
struct Scene {
    open: RecordingServer,
    safe: RecordingServer,
    proxy: Mcpmeter,
}

impl Scene {
    fn start() -> Self {
        let (open, safe) = (RecordingServer::start(), RecordingServer::start());
        let guard =
            "[route.identity]\nmode = \"header\"\nuser_header = \"X-User\"\nnetworks = [\"10.0.0.0/8\"]\n";
        let proxy = Mcpmeter::start(&format!("{}{}{guard}", open.route("open"), safe.route("safe")));
        Self { open, safe, proxy }
    }

    /// How many requests the proxy says that it has refused.
    async fn refused(&self) -> u64 {
        let (_, metrics) = self.proxy.admin("/metrics").await;
        let of_line = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        let lines = metrics.lines().filter(|line| line.starts_with("mcpmeter_refused_requests_total{"));
        lines.filter_map(of_line).sum()
    }

    /// Sends it on a connection of its own and gives what comes back: up to the end of a head, of the connection, or of
    /// patience.
    async fn play(&self, bytes: &[u8]) -> String {
        let mut client = TcpStream::connect(self.proxy.proxy).await.expect("it listens");
        // The proxy may have closed before everything is sent.
        let _ = client.write_all(bytes).await;
        let mut got = Vec::new();
        while !got.windows(4).any(|end| end == b"\r\n\r\n") {
            match timeout(SILENCE, client.read_buf(&mut got)).await {
                Ok(Ok(1..)) => {}
                _ => break,
            }
        }
        String::from_utf8_lossy(&got).into_owned()
    }

    async fn check(&self, attacks: &[Attack]) {
        for (what, bytes, fate) in attacks {
            let (carried, refused) = (self.open.requests().len(), self.refused().await);
            let got = self.play(bytes).await;
            let status = got.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse::<u16>().ok());
            let now = self.open.requests();
            for request in &now[carried..] {
                let url = request["url"].as_str().expect("a URL");
                assert!(url.starts_with("/base/") && !url.contains("smuggled"), "{what}: {request}");
            }
            match fate {
                Refused => {
                    assert!(status.is_none_or(|status| status >= 400), "{what}: {got}");
                    assert_eq!(now.len(), carried, "{what}");
                    let deadline = Instant::now() + PATIENCE;
                    while self.refused().await <= refused {
                        assert!(Instant::now() < deadline, "{what}: not counted: {got}");
                    }
                }
                Carried => {
                    assert_eq!(status, Some(200), "{what}: {got}");
                    eventually(what, || self.open.requests().len() > carried).await;
                }
            }
            assert_eq!(self.safe.requests(), Vec::<serde_json::Value>::new(), "{what}");
        }
    }
}
