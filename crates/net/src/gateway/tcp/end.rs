//! The host's end of a flow: a TCP socket, or one half of a Unix pair whose other half is a service of the gateway.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

/// A host socket that never blocks.
pub(super) enum End {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl End {
    pub(super) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            End::Tcp(stream) => stream.try_read(room),
            End::Unix(stream) => stream.try_read(room),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            End::Tcp(stream) => stream.try_write(bytes),
            End::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Waits until it may have something to read. An error shows with the next read.
    pub(super) async fn readable(&self) {
        let ready = match self {
            End::Tcp(stream) => stream.readable().await,
            End::Unix(stream) => stream.readable().await,
        };
        report(ready, "waiting for a host socket to be readable");
    }

    /// Waits until it may take something. An error shows with the next write.
    pub(super) async fn writable(&self) {
        let ready = match self {
            End::Tcp(stream) => stream.writable().await,
            End::Unix(stream) => stream.writable().await,
        };
        report(ready, "waiting for a host socket to be writable");
    }

    /// Says that nothing more will be written; what the other side sends still arrives.
    pub(super) fn finish(&self) {
        report(self.socket().shutdown(Shutdown::Write), "ending one direction of a host socket");
    }

    /// Closes with a reset rather than with an orderly end.
    pub(super) fn reset(self) {
        if let End::Tcp(_) = self {
            report(self.socket().set_linger(Some(Duration::ZERO)), "resetting a host socket");
        }
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            End::Tcp(stream) => SockRef::from(stream),
            End::Unix(stream) => SockRef::from(stream),
        }
    }
}

/// A socket that the other side has reset answers so; the flow sees that with its next read or write.
fn report(result: io::Result<()>, what: &'static str) {
    if let Err(error) = result {
        tracing::trace!(%error, what);
    }
}
