//! BuildKit's API behind `POST /grpc`, which is gRPC over HTTP/2: what Buildx builds with (spec 1.2, 1.4, 3.5).
//!
//! A build's platform is said within it, so the calls are read one by one, and each is carried over to a connection of our own.
//! A build that nothing may run is refused with a gRPC error; in placement `foreign-machine` a build goes to the machine that
//! its platform needs, and its session with it. Everything else passes as it is: heads, messages, trailers, resets.
//!
//! [`serve`] is one client's connection; `message` says what a call asks, `builds` where its build goes, `channels` are our
//! connections, `machines` is what they lead to, `call` carries one call over, `wire` moves its bytes, `refusal` is what we say ourselves.

mod builds;
mod call;
mod channels;
mod machines;
mod message;
mod refusal;
mod wire;

#[cfg(test)]
#[path = "call_tests.rs"]
mod call_tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use dhow_model::Role;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::machines::Machines;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::message::fuzz;
pub(crate) use self::refusal::{Code, Refusal};

use self::builds::Builds;
use self::channels::Channels;
use crate::engines::ByteStream;

/// What a stream may have in flight: a message of logs or of a result.
const WINDOW: u32 = 1 << 20;
/// What all streams of a connection may have in flight.
const WINDOW_OF_ALL: u32 = 4 << 20;
/// Most calls at once on one connection; a build has a handful.
const MOST_CALLS: u32 = 1000;

/// What placing builds takes.
#[async_trait::async_trait]
pub(crate) trait Builder: Send + Sync {
    /// What keeps a session with its build.
    type Guard: Send;

    /// Which machine builds for these platforms, as the client wrote them; none: for the native one's.
    async fn admit(&self, platforms: &[String]) -> Result<Role, Refusal>;

    /// A fresh connection to the BuildKit of this machine, which may have to start for it.
    async fn open(&self, role: Role) -> Result<Box<dyn ByteStream>, Refusal>;

    /// A build goes to `role`, and so does its session, until the guard is dropped.
    fn place(&self, session: &str, role: Role) -> Option<Self::Guard>;

    /// Whether builds go anywhere but to the native machine.
    fn chooses(&self) -> bool;
}

/// Serves a client until it or the native machine's BuildKit closes the connection. Both streams are upgraded already.
pub(crate) async fn serve<B: Builder>(
    client: impl ByteStream,
    native: impl ByteStream,
    builder: &B,
) -> Result<(), h2::Error> {
    let mut server = h2::server::Builder::new();
    server.initial_window_size(WINDOW).initial_connection_window_size(WINDOW_OF_ALL);
    server.max_concurrent_streams(MOST_CALLS);
    let channels = Channels::new(builder, native).await?;
    let mut client = server.handshake(client).await?;
    let (builds, mut calls) = (Builds::default(), FuturesUnordered::new());
    loop {
        tokio::select! {
            incoming = client.accept() => match incoming {
                Some(incoming) => {
                    let (request, respond) = incoming?;
                    calls.push(call::carry(request, respond, builder, &builds, &channels));
                }
                None => return Ok(()),
            },
            Some(()) = calls.next() => {}
            () = channels.ended() => return Ok(()),
        }
    }
}

/// A stream of which some bytes were read already.
pub(crate) struct Read<S> {
    bytes: Vec<u8>,
    at: usize,
    stream: S,
}

impl<S> Read<S> {
    pub(crate) fn new(bytes: Vec<u8>, stream: S) -> Self {
        Self { bytes, at: 0, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Read<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == self.bytes.len() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let n = into.remaining().min(self.bytes.len() - self.at);
        into.put_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Read<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
