//! What is on its way out in one direction: a head, then the bytes at the front of a buffer that were cleared to go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::wire::body::{BadChunk, Body};
use crate::wire::buffer::Buffer;

/// Body bytes that are sent in one write with the head.
const TOGETHER: usize = 16 * 1024;

/// One direction's pending bytes.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    head: Vec<u8>,
    /// How much of the head has been written.
    at: usize,
    /// How much of the buffer may follow.
    cleared: usize,
    /// Something was written since the last flush.
    unflushed: bool,
    /// Bytes of the buffer were written, so the whole cannot be sent again.
    streamed: bool,
    written: u64,
}

impl Outgoing {
    /// A head, with the beginning of its body if that is there already.
    pub(crate) fn new(mut head: Vec<u8>, body: &mut Body, buffer: &mut Buffer) -> Result<Self, BadChunk> {
        let first = &buffer.filled()[..buffer.len().min(TOGETHER)];
        if !first.is_empty() && !body.is_done() {
            let n = body.scan(first, |_| {})?;
            head.extend_from_slice(&first[..n]);
            buffer.consume(n);
        }
        Ok(Self { head, ..Self::default() })
    }

    /// Only bytes of the buffer, no head.
    pub(crate) fn raw(head: Vec<u8>) -> Self {
        Self { head, ..Self::default() }
    }

    /// Nothing has been accepted by the other side.
    pub(crate) fn is_untouched(&self) -> bool {
        self.at == 0 && !self.streamed
    }

    /// Everything that was sent is still here and can be sent again.
    pub(crate) fn is_replayable(&self) -> bool {
        !self.streamed
    }

    /// Starts again from the first byte of the head.
    pub(crate) fn rewind(&mut self) {
        self.at = 0;
    }

    /// Lets the front of the buffer go out.
    pub(crate) fn clear(&mut self, n: usize) {
        self.cleared = n;
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes until nothing is pending.
    pub(crate) fn poll_write<W: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<()>> {
        while self.at < self.head.len() {
            let n = ready!(Pin::new(&mut *sink).poll_write(cx, &self.head[self.at..]))?;
            self.at += self.wrote(n)?;
        }
        while self.cleared > 0 {
            let n = ready!(Pin::new(&mut *sink).poll_write(cx, &buffer.filled()[..self.cleared]))?;
            self.cleared -= self.wrote(n)?;
            self.streamed = true;
            buffer.consume(n);
        }
        if self.unflushed {
            ready!(Pin::new(sink).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, n: usize) -> io::Result<usize> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.written += n as u64;
        Ok(n)
    }
}
