//! Connections to the engines, apart by role: dialled when needed, kept while they are good, never probed over the wire.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use dhow_model::Role;
use tokio::io::{AsyncRead, ReadBuf};

use crate::engines::{ByteStream, Engines, Unavailable};

/// Most idle connections that are kept: twice as many as a crowd of clients that the bench measures, so that none of them
/// dials anew for each request.
const MAX_IDLE: usize = 128;
/// How long one is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

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

/// The connections to every engine.
pub(crate) struct Pools {
    native: Pool,
    foreign: Pool,
}

impl Pools {
    pub(crate) fn new(engines: &Arc<dyn Engines>) -> Self {
        let pool = |role| Pool::new(Arc::clone(engines), role);
        Self { native: pool(Role::Native), foreign: pool(Role::Foreign) }
    }

    /// Those of one role.
    pub(crate) fn of(&self, role: Role) -> &Pool {
        match role {
            Role::Native => &self.native,
            Role::Foreign => &self.foreign,
        }
    }

    /// Those of all roles.
    pub(crate) fn all(&self) -> [&Pool; 2] {
        [&self.native, &self.foreign]
    }
}

/// The idle connections to one engine.
pub(crate) struct Pool {
    engines: Arc<dyn Engines>,
    role: Role,
    idle: Mutex<VecDeque<(Box<dyn ByteStream>, Instant)>>,
}

impl Pool {
    fn new(engines: Arc<dyn Engines>, role: Role) -> Self {
        Self { engines, role, idle: Mutex::default() }
    }

    /// Whose connections these are.
    pub(crate) fn role(&self) -> Role {
        self.role
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
        Ok(Connection { stream: self.engines.dial(self.role).await?, reused: false })
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
