//! Connections to the engine: dialled when needed, kept while they are good, never probed over the wire.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most idle connections that are kept.
const MAX_IDLE: usize = 32;
/// How long one is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A two-way byte stream to the engine; shutting it down closes our half, the other can still be read.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// Why the engine cannot be reached, for a person: "`what`; run `run`".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; run `{run}`")]
pub struct Unavailable {
    /// What failed, on what, why.
    pub what: String,
    /// The command that helps.
    pub run: String,
}

/// Where the face finds dockerd.
#[async_trait::async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// Opens one connection. Has a time limit of its own: the face waits as long as this takes, since a sleeping
    /// engine may have to wake (spec 3.9).
    async fn dial(&self) -> Result<Box<dyn ByteStream>, Unavailable>;
}

/// A connection to the engine, on loan.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn ByteStream>,
    /// It has served before, so it may turn out to be dead without the engine being so.
    pub(crate) reused: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("reused", &self.reused).finish_non_exhaustive()
    }
}

/// The idle connections to one engine.
pub(crate) struct Pool {
    upstream: Arc<dyn Upstream>,
    idle: Mutex<VecDeque<(Box<dyn ByteStream>, Instant)>>,
}

impl Pool {
    pub(crate) fn new(upstream: Arc<dyn Upstream>) -> Self {
        Self { upstream, idle: Mutex::default() }
    }

    /// The connection that was used last, if it is still open; otherwise a new one.
    pub(crate) async fn take(&self) -> Result<Connection, Unavailable> {
        loop {
            let newest = self.idle().pop_back();
            match newest {
                Some((mut stream, since)) => {
                    if since.elapsed() < IDLE_LIMIT && is_open(&mut stream) {
                        return Ok(Connection { stream, reused: true });
                    }
                }
                None => return self.dial().await,
            }
        }
    }

    /// A new connection.
    pub(crate) async fn dial(&self) -> Result<Connection, Unavailable> {
        Ok(Connection { stream: self.upstream.dial().await?, reused: false })
    }

    /// Takes back a connection on which both bodies ended cleanly.
    pub(crate) fn put(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push_back((connection.stream, Instant::now()));
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn prune(&self) {
        let mut idle = self.idle();
        idle.retain_mut(|(stream, since)| since.elapsed() < IDLE_LIMIT && is_open(stream));
    }

    /// Closes everything that is idle.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }

    pub(crate) fn idle_count(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Box<dyn ByteStream>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an idle connection still waits: the engine has nothing to say on it, neither bytes nor an end. Reads without
/// waiting and without a round trip.
fn is_open(stream: &mut Box<dyn ByteStream>) -> bool {
    let mut byte = [0; 1];
    let mut context = Context::from_waker(Waker::noop());
    matches!(Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)), Poll::Pending)
}
