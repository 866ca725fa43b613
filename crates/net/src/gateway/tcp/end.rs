//! The host's end of a flow: a TCP socket, or one half of a Unix pair whose other half is a service of the gateway.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A host socket that never blocks. Dropped, it is reset, whatever the reason, so that nobody takes a connection that was cut
/// off for one that came to its end; [`End::close`] is for that.
pub(super) struct End {
    stream: Stream,
    complete: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for End {
    fn from(stream: TcpStream) -> End {
        End { stream: Stream::Tcp(stream), complete: false }
    }
}

impl From<UnixStream> for End {
    fn from(stream: UnixStream) -> End {
        End { stream: Stream::Unix(stream), complete: false }
    }
}

impl End {
    pub(super) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_read(room),
            Stream::Unix(stream) => stream.try_read(room),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// What a read would answer, which is left to be read.
    pub(super) fn peek(&self) -> io::Result<usize> {
        const FLAGS: RecvFlags = RecvFlags::PEEK.union(RecvFlags::DONTWAIT);
        let mut first = [0];
        match &self.stream {
            Stream::Tcp(stream) => {
                stream.try_io(Interest::READABLE, || Ok(recv(stream, &mut first, FLAGS)?.0))
            }
            Stream::Unix(stream) => {
                stream.try_io(Interest::READABLE, || Ok(recv(stream, &mut first, FLAGS)?.0))
            }
        }
    }

    /// Waits until it may have something to read. An error shows with the next read.
    pub(super) async fn readable(&self) {
        let ready = match &self.stream {
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        };
        report(ready, "waiting for a host socket to be readable");
    }

    /// Waits until it may take something. An error shows with the next write.
    pub(super) async fn writable(&self) {
        let ready = match &self.stream {
            Stream::Tcp(stream) => stream.writable().await,
            Stream::Unix(stream) => stream.writable().await,
        };
        report(ready, "waiting for a host socket to be writable");
    }

    /// Says that nothing more will be written; what the other side sends still arrives.
    pub(super) fn finish(&self) {
        report(self.socket().shutdown(Shutdown::Write), "ending one direction of a host socket");
    }

    /// Closes after both directions came to their end.
    pub(super) fn close(mut self) {
        self.complete = true;
    }

    fn socket(&self) -> SockRef<'_> {
        match &self.stream {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Unix(stream) => SockRef::from(stream),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let (Stream::Tcp(_), false) = (&self.stream, self.complete) {
            report(self.socket().set_linger(Some(Duration::ZERO)), "resetting a host socket");
        }
    }
}

/// A socket that the other side has reset answers so; the flow sees that with its next read or write.
fn report(result: io::Result<()>, what: &'static str) {
    if let Err(error) = result {
        tracing::trace!(%error, what);
    }
}
