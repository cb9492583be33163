//! Streams on which nothing happens: GETs that the upstream answers with one comment and then nothing.

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connection::Target;
use crate::exchange::PROTOCOL_VERSION;
use crate::upstream::COMMENT;

/// Open until dropped.
pub(super) struct Streams {
    _connections: Vec<TcpStream>,
}

impl Streams {
    /// Opens so many, each in a session of its own, and waits for each one's comment.
    pub(super) async fn open(target: &Target, count: usize) -> anyhow::Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = TcpStream::connect(target.address).await?;
            let head = format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: mcpmeter-bench\r\nAccept: text/event-stream\r\n\
                 MCP-Protocol-Version: {PROTOCOL_VERSION}\r\nMcp-Session-Id: 6d63706d-6574-6572-0000-{number:012}\r\n\r\n",
                target.path, target.address
            );
            stream.write_all(head.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.windows(COMMENT.len()).any(|window| window == COMMENT) {
                ensure!(stream.read_buf(&mut answer).await? > 0, "stream {number} was closed");
            }
            connections.push(stream);
        }
        Ok(Self { _connections: connections })
    }
}
