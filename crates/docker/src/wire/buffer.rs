//! A byte buffer that is filled at its end and emptied at its front, small while a connection idles and large while a
//! body streams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// What a connection holds while it waits.
const SMALL: usize = 8 * 1024;
/// What a streaming body uses. Larger pieces cost fewer calls, and yet bodies from dockerd arrive later: with 256 KiB `docker cp` out of a
/// container had 81 to 94 % of the direct speed, with 64 KiB 93 % (`./dev bench face`), since both ends work while a smaller piece is copied.
const LARGE: usize = 64 * 1024;

/// Bytes between two indices of one allocation.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read left no room: more was waiting than fits.
    crowded: bool,
}

impl Buffer {
    /// The bytes that are held.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops `n` bytes from the front (at most what is held).
    pub(crate) fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives memory back once a body has gone through.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.len() > SMALL && self.len() <= SMALL {
            let mut small = vec![0; SMALL];
            small[..self.len()].copy_from_slice(self.filled());
            (self.end, self.start) = (self.len(), 0);
            self.bytes = small;
            self.crowded = false;
        }
    }

    /// Reads once. A read that fills the buffer makes it larger for the next, up to `limit` or the size for streams.
    ///
    /// Ready with 0 is the end of the stream; a buffer that is full at its limit is an error of the caller and reads 0
    /// bytes as well, so callers ask [`Buffer::has_room`] first.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        limit: usize,
    ) -> Poll<std::io::Result<usize>> {
        self.make_room(limit);
        let mut spare = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(source).poll_read(cx, &mut spare))?;
        let n = spare.filled().len();
        self.crowded = spare.remaining() == 0;
        self.end += n;
        Poll::Ready(Ok(n))
    }

    /// Whether a read could add something.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        self.len() < limit
    }

    fn make_room(&mut self, limit: usize) {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.end, self.start) = (self.end - self.start, 0);
        }
        if self.crowded || self.end == self.bytes.len() {
            let wanted = (self.bytes.len() * 4).max(SMALL).min(limit.max(SMALL));
            if wanted > self.bytes.len() {
                self.bytes.resize(wanted, 0);
            }
        }
    }

    /// The limit for a body in flight: bounds what one direction of one connection can hold.
    pub(crate) const STREAM: usize = LARGE;
}
