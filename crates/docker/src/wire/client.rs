//! The client's end of a connection: what was read from it and not yet used, and how it goes away.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::error::Broken;
use crate::wire::body::Body;
use crate::wire::buffer::Buffer;
use crate::wire::head::{self, HTTP2_PREFACE, MAX_HEAD, Request};

/// From the first byte of a head to its last; dockerd's own `ReadHeaderTimeout`.
const HEAD_LIMIT: Duration = Duration::from_secs(300);
/// A head of this size is parsed as it grows, so that garbage is refused at once; a larger one when its end is there.
const EAGER: usize = 16 * 1024;
/// How long a client that is still sending may go on after it was answered, so that it reads the answer first.
const LINGER: Duration = Duration::from_millis(500);

/// One client.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    /// Read and not yet forwarded: the rest of a body, or the next requests of a client that does not wait.
    pub(crate) buffer: Buffer,
    /// The client has closed its sending half.
    pub(crate) ended: bool,
}

/// What a client wants next.
pub(crate) enum Incoming {
    Request(Box<Request>),
    /// HTTP/2 from its first byte, which is still in the buffer.
    Http2,
    /// Nothing more.
    End,
}

impl Client {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Buffer::default(), ended: false }
    }

    /// Waits for the next request: without a time limit while the client is silent, unless `stop` is cancelled.
    pub(crate) async fn next(&mut self, stop: &CancellationToken) -> Result<Incoming, Broken> {
        if self.buffer.is_empty() {
            let read = tokio::select! {
                biased;
                read = self.read() => read,
                () = stop.cancelled() => return Ok(Incoming::End),
            };
            if !matches!(read, Ok(n) if n > 0) {
                return Ok(Incoming::End);
            }
        }
        let mut deadline = None;
        let mut searched = 0;
        loop {
            let bytes = self.buffer.filled();
            let common = bytes.len().min(16);
            if bytes[..common] == HTTP2_PREFACE[..common] {
                if common == 16 {
                    return Ok(Incoming::Http2);
                }
            } else if (bytes.len() <= EAGER || has_end(&bytes[searched..]))
                && let Some(request) = head::request(bytes)?
            {
                self.buffer.consume(request.len);
                return Ok(Incoming::Request(Box::new(request)));
            }
            searched = bytes.len().saturating_sub(3);
            if !self.buffer.has_room(MAX_HEAD) {
                return Err(Broken::HeadTooLarge);
            }
            let deadline = deadline.get_or_insert_with(|| Instant::now() + HEAD_LIMIT);
            match timeout_at(*deadline, self.read()).await {
                Ok(Ok(0)) => return Err(Broken::Malformed("unexpected end")),
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Ok(Incoming::End),
            }
        }
    }

    /// Reads the body that begins in the buffer up to its end and leaves it there, to be forwarded as it is. Returns its content
    /// without the coding; `None` if it has more than `limit` bytes, or if the client ends before it does.
    pub(crate) async fn hold(&mut self, mut body: Body, limit: usize) -> Result<Option<Vec<u8>>, Broken> {
        // Room for what the chunked coding adds.
        let room = 2 * limit;
        let (mut content, mut seen) = (Vec::new(), 0);
        loop {
            seen += body.scan(&self.buffer.filled()[seen..], |data| content.extend_from_slice(data))?;
            if content.len() > limit || (!body.is_done() && (self.ended || !self.buffer.has_room(room))) {
                return Ok(None);
            }
            if body.is_done() {
                return Ok(Some(content));
            }
            let read = std::future::poll_fn(|cx| self.poll_read(cx, room)).await;
            read.map_err(|_| Broken::ClientGone)?;
        }
    }

    /// Drops the body that begins in the buffer, if all of it is there.
    pub(crate) fn discard(&mut self, mut body: Body) -> bool {
        match body.scan(self.buffer.filled(), |_| {}) {
            Ok(n) => self.buffer.consume(n),
            Err(_) => return false,
        }
        body.is_done()
    }

    /// Sends a whole message, or a part of one, that is the face's own.
    pub(crate) async fn say(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).await.map_err(|_| Broken::ClientGone)
    }

    /// Reads into the buffer, at most to `limit`. `Ok(0)`: the client has closed its half.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let n = ready!(self.buffer.poll_fill(cx, &mut self.stream, limit))?;
        self.ended |= n == 0;
        Poll::Ready(Ok(n))
    }

    async fn read(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, MAX_HEAD)).await
    }

    /// Whether a client that has closed its sending half has closed the other as well: nobody reads answers any more.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_gone(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut asked = [PollFd::new(&self.stream, PollFlags::empty())];
        let answered = poll(&mut asked, Some(&Timespec::default()));
        answered.is_ok() && asked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Elsewhere a poll cannot tell a closed half from a closed connection. The end is passed on either way, which is
    /// what dockerd acts on; a closed connection shows with the next write to it.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_gone(&self) -> bool {
        false
    }

    /// Sends a last answer and closes. The client may still be sending a body: it is read and dropped for a moment, so
    /// that the answer is seen before the connection breaks.
    pub(crate) async fn finish(mut self, last: &[u8]) {
        let closing = async {
            self.stream.write_all(last).await?;
            self.stream.shutdown().await?;
            let mut dropped = [0; 8192];
            while self.stream.read(&mut dropped).await? > 0 {}
            io::Result::Ok(())
        };
        match timeout(LINGER, closing).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the client did not read the last answer"),
        }
    }
}

/// Whether an empty line, the end of a head, is among `bytes`.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}
