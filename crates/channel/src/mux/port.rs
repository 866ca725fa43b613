//! The serial port as the driver uses it: few, large reads and writes.
//!
//! A write to a virtio-serial port costs an exit of the guest, whatever its size, and yamux flushes after each frame, some
//! of 12 bytes. So frames gather here until the driver has nothing else to do.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncRead as TokioRead, AsyncWrite as TokioWrite, BufReader, ReadBuf};

/// Bytes that gather before the port is written in any case.
const GATHER: usize = 128 * 1024;

/// A port, owned by the driver and its yamux connection together: both are in one task, so nobody ever waits.
#[derive(Debug)]
pub(super) struct Port<P>(Arc<Mutex<Gathering<P>>>);

#[derive(Debug)]
struct Gathering<P> {
    port: BufReader<P>,
    gathered: Vec<u8>,
    written: usize,
}

impl<P> Clone for Port<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: TokioRead + TokioWrite + Unpin> Port<P> {
    pub(super) fn new(port: BufReader<P>) -> Self {
        Self(Arc::new(Mutex::new(Gathering { port, gathered: Vec::with_capacity(GATHER), written: 0 })))
    }

    /// Writes what has gathered.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_send(cx)
    }

    fn lock(&self) -> MutexGuard<'_, Gathering<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: TokioRead + TokioWrite + Unpin> Gathering<P> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let left = &self.gathered[self.written..];
            match ready!(Pin::new(&mut self.port).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.gathered.clear();
        self.written = 0;
        Pin::new(&mut self.port).poll_flush(cx)
    }
}

impl<P: TokioRead + TokioWrite + Unpin> AsyncRead for Port<P> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(bytes);
        ready!(Pin::new(&mut self.lock().port).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }
}

impl<P: TokioRead + TokioWrite + Unpin> AsyncWrite for Port<P> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut this = self.lock();
        if this.gathered.len() + bytes.len() > GATHER {
            ready!(this.poll_send(cx))?;
        }
        this.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// The driver sends when it has nothing else to do.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_send(cx)
    }
}
