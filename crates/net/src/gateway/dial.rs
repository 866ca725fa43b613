//! Connections to the host and through it, on the guest's behalf.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::counters::Reason;

/// How long the other end may take to accept.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A peer that says nothing for this long is asked by the host's kernel whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Where a connection of the guest leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A service on the host's loopback: IPv4 first, then IPv6.
    Loopback(u16),
    /// Anywhere else.
    Address(SocketAddr),
}

/// Why a connection could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody listens.
    Refused,
    /// No way there.
    Unreachable,
    /// The host's own rules forbid it.
    Prohibited,
    /// No answer in time.
    TimedOut,
    /// The host is out of descriptors, ports or memory.
    Exhausted,
}

impl Failure {
    pub(super) fn reason(self) -> Reason {
        match self {
            Failure::Refused => Reason::HostRefused,
            Failure::Unreachable | Failure::Prohibited => Reason::HostUnreachable,
            Failure::TimedOut => Reason::HostTimeout,
            Failure::Exhausted => Reason::HostExhausted,
        }
    }
}

/// Connects, within [`PATIENCE`].
pub(super) async fn dial(target: Target) -> Result<TcpStream, Failure> {
    let stream = tokio::time::timeout(PATIENCE, connect(target)).await.map_err(|_| Failure::TimedOut)??;
    prepare(&stream);
    Ok(stream)
}

async fn connect(target: Target) -> Result<TcpStream, Failure> {
    let failure = |error: io::Error| failure(&error);
    match target {
        Target::Address(address) => TcpStream::connect(address).await.map_err(failure),
        Target::Loopback(port) => match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(stream) => Ok(stream),
            Err(_) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.map_err(failure),
        },
    }
}

/// What every host socket of a flow gets: no delay for small writes, and keep-alives, since a guest's own end here.
pub(super) fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4);
    // Neither is worth a connection: without them it is slower to write or to notice that the peer is gone.
    if let Err(error) = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keep_alive)) {
        tracing::debug!(%error, "options of a flow's host socket");
    }
}

fn failure(error: &io::Error) -> Failure {
    match Errno::from_io_error(error) {
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => {
            Failure::Unreachable
        }
        Some(Errno::ACCESS | Errno::PERM) => Failure::Prohibited,
        Some(Errno::TIMEDOUT) => Failure::TimedOut,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN) => Failure::Exhausted,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_on_either_loopback_is_found() {
        for listener in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(listener).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let stream = dial(Target::Loopback(port)).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(dial(Target::Address(address)).await.unwrap_err(), Failure::Refused);
    }
}
