//! Two-way copy of bytes that are not HTTP any more: attach, exec, `/session`, `/grpc`, WebSockets. Each direction
//! closes by itself, so `printf x | docker run -i` sends its end and still reads the output.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::engines::ByteStream;
use crate::wire::buffer::Buffer;
use crate::wire::client::Client;
use crate::wire::outgoing::Outgoing;

/// A client and the engine, joined.
pub(crate) struct Tunnel {
    client: Client,
    engine: Box<dyn ByteStream>,
    /// From client to engine; the bytes are in the client's buffer.
    up: Direction,
    /// From engine to client.
    down: Direction,
    down_buffer: Buffer,
}

#[derive(Debug, Default)]
struct Direction {
    out: Outgoing,
    /// The source has ended.
    ended: bool,
    /// The end has been passed on, or nobody takes bytes any more.
    closed: bool,
}

impl Tunnel {
    /// Joins the two. What either side sent already goes out first: `back` and `down_buffer` to the client, `out` and
    /// the client's own buffer to the engine.
    pub(crate) fn new(
        client: Client,
        engine: Box<dyn ByteStream>,
        out: Outgoing,
        back: Outgoing,
        down_buffer: Buffer,
    ) -> Self {
        let up = Direction { out, ended: client.ended, closed: false };
        Self { client, engine, up, down: Direction { out: back, ..Direction::default() }, down_buffer }
    }

    /// Copies until both directions have ended or one side is gone; dropping the tunnel closes both connections.
    /// Returns how many bytes were written, both ways together.
    pub(crate) async fn run(mut self) -> u64 {
        std::future::poll_fn(|cx| self.poll(cx)).await;
        self.up.out.written() + self.down.out.written()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let up = self.poll_up(cx);
        let down = self.poll_down(cx);
        match (up, down) {
            (Poll::Ready(Side::Gone), _) | (_, Poll::Ready(Side::Gone)) => Poll::Ready(()),
            (Poll::Ready(Side::Closed), Poll::Ready(Side::Closed)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Side> {
        let Self { client, engine, up, .. } = self;
        while !up.closed {
            up.out.clear(client.buffer.len());
            if ready!(up.out.poll_write(cx, engine, &mut client.buffer)).is_err() {
                // The engine takes no more, but what it said last may still be on its way to the client.
                up.closed = true;
            } else if up.ended {
                if client.is_gone() {
                    return Poll::Ready(Side::Gone);
                }
                let _closing = ready!(Pin::new(&mut *engine).poll_shutdown(cx));
                up.closed = true;
            } else {
                match ready!(client.poll_read(cx, Buffer::STREAM)) {
                    Ok(n) => up.ended = n == 0,
                    Err(_) => return Poll::Ready(Side::Gone),
                }
            }
        }
        Poll::Ready(Side::Closed)
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Side> {
        let Self { client, engine, down, down_buffer, .. } = self;
        while !down.closed {
            down.out.clear(down_buffer.len());
            if ready!(down.out.poll_write(cx, &mut client.stream, down_buffer)).is_err() {
                return Poll::Ready(Side::Gone);
            }
            if down.ended {
                let _closing = ready!(Pin::new(&mut client.stream).poll_shutdown(cx));
                down.closed = true;
            } else {
                match ready!(down_buffer.poll_fill(cx, engine, Buffer::STREAM)) {
                    Ok(n) => down.ended = n == 0,
                    Err(_) => return Poll::Ready(Side::Gone),
                }
            }
        }
        Poll::Ready(Side::Closed)
    }
}

/// How a direction came to rest.
enum Side {
    /// Its end has been passed on.
    Closed,
    /// A whole connection is gone: nothing is left to be done in the other direction either.
    Gone,
}
