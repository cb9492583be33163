//! Listening sockets: bound before anything else starts, so that a port in use is one clear line and not half
//! a running proxy.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {key}{hint}")]
pub(crate) struct BindError {
    address: SocketAddr,
    key: &'static str,
    hint: &'static str,
    #[source]
    source: io::Error,
}

/// `count` sockets on one address, between which the kernel spreads the connections (`SO_REUSEPORT`).
/// Port 0 takes a free one. `key` is the configuration key that asks for it.
pub(crate) fn bind(
    address: SocketAddr,
    count: usize,
    key: &'static str,
) -> Result<Vec<TcpListener>, BindError> {
    bind_all(address, count).map_err(|source| BindError {
        address,
        key,
        hint: match source.kind() {
            io::ErrorKind::AddrInUse => ": another program does already",
            io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege",
            _ => "",
        },
        source,
    })
}

fn bind_all(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // The first one shares nothing while it is bound: otherwise a second mcpmeter would quietly take half of
    // this one's connections.
    let first = open(address)?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    if count > 1 {
        sockets[0].set_reuse_port(true)?;
        for _ in 1..count {
            let socket = open(bound)?;
            socket.set_reuse_port(true)?;
            socket.bind(&bound.into())?;
            sockets.push(socket);
        }
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets.into_iter().map(Into::into).collect())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the kernel to forget the connections of the last run.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, io::Read, net::TcpStream};

    fn loopback() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn a_port_in_use_is_an_error_even_between_two_of_us() {
        let ours = bind(loopback(), 2, "proxy.listen").expect("free");
        let address = ours[0].local_addr().expect("bound");
        let error = bind(address, 2, "proxy.listen").expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {address} for proxy.listen: another program does already")
        );
    }

    #[test]
    fn connections_reach_every_socket() {
        let sockets = bind(loopback(), 2, "proxy.listen").expect("free");
        let address = sockets[0].local_addr().expect("bound");
        let mut reached = HashSet::new();
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(TcpStream::connect(address).expect("accepted"));
        }
        for (at, socket) in sockets.iter().enumerate() {
            while let Ok((mut stream, _)) = socket.accept() {
                reached.insert(at);
                stream.set_nonblocking(true).expect("set");
                assert!(stream.read(&mut [0]).is_err(), "nothing was sent");
            }
        }
        assert_eq!(reached.len(), 2);
    }
}
