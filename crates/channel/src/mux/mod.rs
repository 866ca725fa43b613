//! Many streams over one serial port. The host opens them, the guest accepts.
//!
//! ```text
//!   Dialer ── Open ──▶ ┌────────┐            ┌────────┐
//!   MuxStream ◀──────▶ │ driver │ ◀─ port ─▶ │ driver │ ──▶ guest::Incoming
//!   MuxStream ◀──────▶ └────────┘            └────────┘ ◀─▶ MuxStream
//! ```
//!
//! The [handshake] finds the session's beginning among what an earlier one left in the port. Then yamux runs: one task
//! owns it on each side, and a stream that nobody reads stops at its own window and holds up no other. The [records]
//! inside a stream give it what yamux lacks: an end that is told apart from a reset. While the machine sleeps the host's end
//! is [parked](Mux::park), and goes on over another [port](HostPort) when it wakes.

mod driver;
mod frames;
pub(crate) mod handshake;
mod park;
mod port;
mod records;
mod switch;

use std::sync::Arc;
use std::time::Duration;

use dhow_model::Port;
use tokio::io::BufReader;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use driver::{Open, Session};
pub use park::Parked;
pub use records::MuxStream;
pub use switch::HostPort;
use switch::Switch;

use crate::header::Request;
use crate::{Dialer, Ended, Error, Result, Stream};

/// How many streams may be open to one guest at once. Each can hold at most 256 KiB of what a hostile guest sends and
/// nobody reads, and 192 KiB of what it does not take, so a session's memory stays below half a gigabyte at its worst.
pub const MAX_STREAMS: usize = 1024;

/// Bytes read from the port at a time.
const BUFFER: usize = 64 * 1024;

/// The host's end of the multiplexer on a virtio-serial port (spec 8.1). Dropping it ends its session and every stream.
pub struct Mux {
    line: Line,
    switch: Switch,
    task: JoinHandle<()>,
    cancel: CancellationToken,
    _end: DropGuard,
}

/// What a dialler needs of a session; costs nothing to clone.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    opens: mpsc::Sender<Open>,
    slots: Arc<Semaphore>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Mux {
    /// Greets the agent at the other end of `port` and starts a session. Whatever an earlier session left in the port is
    /// skipped. The agent may come later than this call: it waits until `limit`.
    ///
    /// # Errors
    /// When the agent does not answer in time, speaks another version, or the port fails.
    pub async fn connect(port: impl HostPort, limit: Duration) -> Result<Self> {
        let switch = Switch::new(port);
        let mut port = BufReader::with_capacity(BUFFER, switch.clone());
        tokio::time::timeout(limit, handshake::host(&mut port))
            .await
            .map_err(|_| Error::HandshakeTimedOut { limit })??;
        switch.begin();
        let (opens, requests) = mpsc::channel(64);
        let (report, ended) = watch::channel(None);
        let cancel = CancellationToken::new();
        let session = Session::host(port);
        let (stop, port) = (cancel.clone(), switch.clone());
        let task = tokio::spawn(async move {
            let why = session.drive(requests, &stop, drop).await;
            port.close();
            tracing::debug!(%why, "the serial channel's session ended");
            report.send_replace(Some(why));
        });
        let slots = Arc::new(Semaphore::new(MAX_STREAMS));
        let end = cancel.clone().drop_guard();
        Ok(Self { line: Line { opens, slots, ended }, switch, task, cancel, _end: end })
    }

    /// How to open streams on this session.
    #[must_use]
    pub fn dialer(&self) -> Dialer {
        Dialer::mux(self.line.clone())
    }

    /// How many streams are open, those being dialled included.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.line.streams()
    }

    /// Waits until the session ends, and says why.
    pub async fn closed(&self) -> Error {
        self.line.closed().await
    }

    /// Ends the session and waits until its task is gone.
    pub async fn close(self) {
        let Self { task, cancel, .. } = self;
        cancel.cancel();
        if let Err(error) = task.await {
            tracing::warn!(%error, "the serial channel's task failed");
        }
    }
}

impl std::fmt::Debug for Mux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mux").field("streams", &self.streams()).finish_non_exhaustive()
    }
}

impl Line {
    fn streams(&self) -> usize {
        MAX_STREAMS.saturating_sub(self.slots.available_permits())
    }

    async fn closed(&self) -> Error {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => Error::SessionEnded(why.clone().unwrap_or(Ended::Dropped)),
            Err(_) => Error::SessionEnded(Ended::Dropped),
        }
    }

    /// Opens a stream to `port`. The caller sets the time limit; giving up the future closes what it had opened.
    pub(crate) async fn dial(&self, port: Port) -> Result<Stream> {
        tokio::select! {
            biased;
            stream = self.open(port) => stream,
            why = self.closed() => Err(why),
        }
    }

    async fn open(&self, port: Port) -> Result<Stream> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| Error::TooManyStreams { limit: MAX_STREAMS })?;
        let (reply, opened) = oneshot::channel();
        let gone = |_| ();
        if self.opens.send(Open { reply }).await.map_err(gone).is_err() {
            return Err(self.closed().await);
        }
        let Ok(stream) = opened.await else { return Err(self.closed().await) };
        let mut stream = MuxStream::new(stream, slot);
        match (Request { port, token: None }).ask(&mut stream.raw()).await {
            Ok(()) => Ok(Stream::Mux(Box::new(stream))),
            Err(error @ Error::Io { .. }) => match self.ended.borrow().clone() {
                Some(why) => Err(Error::SessionEnded(why)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}
