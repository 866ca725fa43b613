//! One open stream, whatever carries it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::mux::MuxStream;

/// A byte stream between host and guest, with flow control of its own.
///
/// Shutting it down closes this side's half: the other side reads the end, and can still write. Dropping it ends both
/// halves; over the multiplexer the other side then sees [`io::ErrorKind::ConnectionReset`] unless this side's half had
/// been shut down before, and [`io::ErrorKind::BrokenPipe`] when it writes. Over a hub a reset is seen as an early end,
/// since Unix sockets do not tell the two apart.
#[derive(Debug)]
pub enum Stream {
    /// Through a multiplexer of this process.
    Mux(Box<MuxStream>),
    /// Through a Unix socket: another process's hub.
    Unix(UnixStream),
    /// Over `AF_VSOCK`.
    #[cfg(target_os = "linux")]
    Vsock(tokio_vsock::VsockStream),
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Mux($inner) => {
                let $inner = Pin::new(&mut **$inner);
                $call
            }
            Stream::Unix($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            #[cfg(target_os = "linux")]
            Stream::Vsock($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_shutdown(cx))
    }
}
