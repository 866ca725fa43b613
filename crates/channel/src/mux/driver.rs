//! The one task that owns a session's yamux connection.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use yamux::{Config, Connection, ConnectionError, Mode};

use super::port::Port;
use crate::Ended;

/// Streams that yamux may know of on the host. More than [`crate::MAX_STREAMS`], since a dropped stream leaves yamux
/// only when the port takes its last frame.
const HOST_STREAMS: usize = 2 * crate::MAX_STREAMS;

/// The same in the guest, where the host's dropped streams may linger in turn: reaching the limit ends the session.
const GUEST_STREAMS: usize = 2 * HOST_STREAMS;

/// What all streams' receive windows together may grow above the 256 KiB that each one has.
const GROWTH: usize = 64 << 20;

/// Payload of one frame. yamux queues up to a dozen of them for each stream that the port does not take.
pub(crate) const FRAME: usize = 16 * 1024;

/// Asks for a new stream. A dialler that gives up drops its end of `reply`, and no stream is made.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) reply: oneshot::Sender<yamux::Stream>,
}

/// A session after its handshake.
pub(crate) struct Session<P> {
    connection: Connection<Port<P>>,
    port: Port<P>,
}

impl<P: AsyncRead + AsyncWrite + Unpin> Session<P> {
    /// The end that opens streams.
    pub(crate) fn host(port: BufReader<P>) -> Self {
        Self::new(port, HOST_STREAMS, Mode::Client)
    }

    /// The end that accepts them.
    pub(crate) fn guest(port: BufReader<P>) -> Self {
        Self::new(port, GUEST_STREAMS, Mode::Server)
    }

    fn new(port: BufReader<P>, streams: usize, mode: Mode) -> Self {
        let port = Port::new(port);
        Self { connection: Connection::new(port.clone(), config(streams), mode), port }
    }

    /// Moves bytes until the session ends, and says why it did. `arrived` gets the streams that the other end opens; on
    /// the host it drops them, which resets them.
    pub(crate) async fn drive(
        mut self,
        mut requests: mpsc::Receiver<Open>,
        cancel: &CancellationToken,
        mut arrived: impl FnMut(yamux::Stream),
    ) -> Ended {
        let mut waiting = None;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ended::Dropped,
            why = poll_fn(|cx| self.poll(cx, &mut requests, &mut waiting, &mut arrived)) => why,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        requests: &mut mpsc::Receiver<Open>,
        waiting: &mut Option<Open>,
        arrived: &mut impl FnMut(yamux::Stream),
    ) -> Poll<Ended> {
        if let Poll::Ready(why) = self.poll_streams(cx, requests, waiting, arrived) {
            return Poll::Ready(why);
        }
        match self.port.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Ended::Io(error.to_string())),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Moves frames until nothing moves.
    fn poll_streams(
        &mut self,
        cx: &mut Context<'_>,
        requests: &mut mpsc::Receiver<Open>,
        waiting: &mut Option<Open>,
        arrived: &mut impl FnMut(yamux::Stream),
    ) -> Poll<Ended> {
        loop {
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    arrived(stream);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(ended(&error)),
                Poll::Ready(None) => return Poll::Ready(Ended::Closed),
                Poll::Pending => {}
            }
            let mut open = match waiting.take() {
                Some(open) => open,
                None => match requests.poll_recv(cx) {
                    Poll::Ready(Some(open)) => open,
                    // Nobody can dial any more, and the streams that are open go on.
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                },
            };
            if open.reply.poll_closed(cx).is_ready() {
                continue;
            }
            match self.connection.poll_new_outbound(cx) {
                // A reply that nobody takes gives the stream back, and dropping it closes it.
                Poll::Ready(Ok(stream)) => drop(open.reply.send(stream)),
                Poll::Ready(Err(error)) => return Poll::Ready(ended(&error)),
                // 256 streams wait for the guest's first frame; yamux wakes us when one arrives.
                Poll::Pending => {
                    *waiting = Some(open);
                    return Poll::Pending;
                }
            }
        }
    }
}

fn config(streams: usize) -> Config {
    let mut config = Config::default();
    // The sum of all windows must allow each stream its 256 KiB at every moment, or yamux panics.
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(streams);
    config.set_max_connection_receive_window(Some(streams * yamux::DEFAULT_CREDIT as usize + GROWTH));
    config.set_split_send_size(FRAME);
    config
}

fn ended(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::Closed => Ended::Closed,
        ConnectionError::Io(error) => Ended::Io(error.to_string()),
        ConnectionError::Decode(yamux::FrameDecodeError::Io(error)) => Ended::Io(error.to_string()),
        other => Ended::Protocol(other.to_string()),
    }
}
