//! What runs inside one yamux stream: records, so that an end is an end and a reset is a reset.
//!
//! yamux's own half-close loses both. A reader cannot tell a peer that finished from one that vanished once it has shut
//! down its own half; and a stream that is dropped after its shutdown tells the peer nothing at all, whose next full
//! window then waits for ever. So yamux's half-close is not used: each direction is a sequence of records, a 16-bit
//! big-endian length and as many bytes, and one of length 0 says that the direction has ended. To yamux the stream stays
//! open until it is dropped, which always resets it; what was in flight before that is still read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

/// Length of a record's head.
const HEAD: usize = 2;

/// Most bytes of one record: with its head it fills one frame.
const MOST: usize = super::driver::FRAME - HEAD;

/// One stream of a multiplexer.
#[derive(Debug)]
pub struct MuxStream {
    inner: yamux::Stream,
    reading: Reading,
    writing: Writing,
    /// Counts this stream as open until it is dropped.
    _slot: OwnedSemaphorePermit,
}

/// Where the reader is.
#[derive(Debug)]
enum Reading {
    /// In a record's head, of which this much is there.
    Head { head: [u8; HEAD], filled: usize },
    /// In a record, with so many bytes still to come.
    Body { left: usize },
    /// Past the last record.
    Ended,
}

/// What the writer still has to hand to yamux.
#[derive(Debug, Default)]
struct Writing {
    record: Vec<u8>,
    written: usize,
    ended: bool,
    /// The task whose write waits for room.
    waiting: Option<Waker>,
}

/// Wakes the tasks of both halves.
struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}

impl MuxStream {
    /// Wraps a stream whose request has not been exchanged yet.
    pub(crate) fn new(inner: yamux::Stream, slot: OwnedSemaphorePermit) -> Self {
        Self { inner, reading: Reading::START, writing: Writing::default(), _slot: slot }
    }

    /// The bytes under the records, where the request and its answer are.
    pub(crate) fn raw(&mut self) -> Compat<&mut yamux::Stream> {
        (&mut self.inner).compat()
    }

    /// Waits, after the other end's half has ended, until it drops the stream. One task at a time may wait, and not read.
    pub(crate) fn poll_dropped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.reading, Reading::Ended) {
            return Poll::Pending;
        }
        // Nothing but the reset comes after the last record.
        Pin::new(&mut self.inner).poll_read(cx, &mut [0]).map(drop)
    }

    /// Hands what is left of the current record to yamux.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Writing { record, written, .. } = &mut self.writing;
        while *written < record.len() {
            let taken =
                ready!(Pin::new(&mut self.inner).poll_write(cx, &record[*written..])).map_err(gone)?;
            *written += taken;
        }
        record.clear();
        *written = 0;
        Poll::Ready(Ok(()))
    }

    /// The same for the writer: remembers who waits.
    fn poll_drain_for_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.poll_drain(cx);
        self.writing.waiting = drained.is_pending().then(|| cx.waker().clone());
        drained
    }

    /// The same for a reader: a caller that wrote and now reads waits for an answer to all that it wrote. yamux remembers
    /// one task that waits to write, so the writer's must not be forgotten over this one. An error is the next write's.
    fn drain_while_reading(&mut self, cx: &mut Context<'_>) {
        if self.writing.record.is_empty() {
            return;
        }
        match self.writing.waiting.clone() {
            Some(writer) if !writer.will_wake(cx.waker()) => {
                let both = Waker::from(Arc::new(Both(cx.waker().clone(), writer.clone())));
                if self.poll_drain(&mut Context::from_waker(&both)).is_ready() {
                    writer.wake();
                }
            }
            _ => drop(self.poll_drain(cx)),
        }
    }

    /// Reads some of the current record into `buf`, or some of the next one's head.
    fn poll_next(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.reading {
            Reading::Ended => {}
            Reading::Head { mut head, filled } => {
                let read = ready!(self.poll_some(cx, &mut head[filled..]))?;
                self.reading = match (filled + read, u16::from_be_bytes(head)) {
                    (HEAD, 0) => Reading::Ended,
                    (HEAD, length) => Reading::Body { left: length.into() },
                    (filled, _) => Reading::Head { head, filled },
                };
            }
            Reading::Body { left } => {
                let room = buf.initialize_unfilled_to(left.min(buf.remaining()));
                let read = ready!(self.poll_some(cx, room))?;
                buf.advance(read);
                self.reading =
                    if read == left { Reading::START } else { Reading::Body { left: left - read } };
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads at least one byte into `buf`.
    fn poll_some(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf)).map_err(reset_by)?;
        Poll::Ready(if read == 0 { Err(reset()) } else { Ok(read) })
    }
}

impl Reading {
    const START: Self = Self::Head { head: [0; HEAD], filled: 0 };
}

impl AsyncRead for MuxStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.drain_while_reading(cx);
        let before = buf.filled().len();
        while buf.remaining() > 0 && !matches!(this.reading, Reading::Ended) {
            match this.poll_next(cx, buf) {
                Poll::Ready(Ok(())) => {}
                // What was read before an error or a wait is handed out first.
                _ if buf.filled().len() > before => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writing.ended {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "this half of the channel stream has been shut down",
            )));
        }
        ready!(this.poll_drain_for_writer(cx))?;
        let taken = &bytes[..bytes.len().min(MOST)];
        let Some(length) = u16::try_from(taken.len()).ok().filter(|length| *length > 0) else {
            return Poll::Ready(Ok(0));
        };
        this.writing.record.extend(length.to_be_bytes());
        this.writing.record.extend(taken);
        // What yamux does not take now is taken on the next call of any kind.
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not yamux's own flush: that waits until the driver has taken every frame, and these are already its to send.
        self.get_mut().poll_drain_for_writer(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.writing.ended {
            ready!(this.poll_drain_for_writer(cx))?;
            this.writing.record.extend([0; HEAD]);
            this.writing.ended = true;
        }
        this.poll_drain_for_writer(cx)
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the other end dropped the channel stream")
}

fn reset_by(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

/// yamux says "wrote nothing" for a stream that the other end has reset, or whose session is over.
fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WriteZero => {
            io::Error::new(io::ErrorKind::BrokenPipe, "the other end dropped the channel stream")
        }
        _ => error,
    }
}
