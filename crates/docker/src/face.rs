//! The socket: accepts clients, and ends in order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dhow_model::{Placement, Record, Role};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::compose::Projects;
use crate::connection::{self, Shared};
use crate::decisions::Decisions;
use crate::engines::Engines;
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::pool::Pools;
use crate::registry::Workloads;
use crate::session::Sessions;
use crate::stats::{Counters, Stats, Usage};
use crate::wire::client::Client;

/// Most clients at once; further ones wait in the socket's queue. Each may hold two descriptors.
const MAX_CLIENTS: usize = 4096;
/// How often idle connections to the engine are looked over.
const PRUNE_EVERY: Duration = Duration::from_secs(15);
/// How long to wait when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a socket is asked to take unread; the kernel doubles it for its own accounting (socket(7), `SO_SNDBUF`).
const SEND_BUFFER: usize = 1 << 20;
/// Default time for requests to end by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// What serves a face best on a host of so many processors: half of them as threads, one or two. Each more is woken for work that
/// one could do, and takes the processor from the engine and from the clients; with 64 clients on two processors one
/// thread answers twice as many requests as two (`./dev bench face`). One thread alone needs no work stealing.
///
/// # Errors
/// When the host is out of threads or descriptors.
pub fn runtime(processors: usize) -> io::Result<Runtime> {
    match processors / 2 {
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    }
}

/// Lets a socket take what is twice the usual while its reader is busy: otherwise a forward that has read what its one side holds
/// waits with the last of it until the other side has drained three quarters. No more than the host allows.
pub fn widen(socket: &UnixStream) {
    if let Err(error) = socket2::SockRef::from(socket).set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "a socket keeps the usual buffer");
    }
}

/// The Docker API face of one engine. Clones share everything: keep one for [`Face::stats`].
#[derive(Clone)]
pub struct Face {
    shared: Arc<Shared>,
    grace: Duration,
}

impl Face {
    /// A face in front of `engines`.
    #[must_use]
    pub fn new(engines: Arc<dyn Engines>, hooks: Arc<dyn Hooks>) -> Self {
        let pools = Pools::new(&engines);
        let workloads = Workloads::new(Arc::clone(&engines));
        let shared = Shared {
            engines,
            pools,
            hooks,
            workloads,
            counters: Counters::default(),
            decisions: Decisions::default(),
            sessions: Sessions::default(),
            projects: Projects::default(),
        };
        Self { shared: Arc::new(shared), grace: GRACE }
    }

    /// How long requests may go on after `serve` was cancelled; 10 s unless set. Streams that never end by themselves
    /// (`docker logs -f`, `attach`) are cut off then.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What is going on.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let pooled = self.shared.pools.all().iter().map(|pool| pool.idle_count()).sum();
        self.shared.counters.read(pooled)
    }

    /// What clients want of this role's engine.
    #[must_use]
    pub fn usage(&self, role: Role) -> Usage {
        self.shared.counters.usage(role)
    }

    /// Tells the face that a machine is about to be put to sleep: idle connections to its engine close now, for to close them later
    /// would wake it. What is in use, and the events that the face follows, stay open while it sleeps.
    pub fn machine_rests(&self, role: Role) {
        self.shared.pools.of(role).clear();
        self.shared.workloads.rests(role);
    }

    /// Closes idle connections to the engines, for an owner who knows that one went away.
    pub fn forget_idle(&self) {
        self.shared.pools.all().iter().for_each(|pool| pool.clear());
    }

    /// Tells the face that a machine runs now, or that it has gone without [`Face::machine_stopping`]. In a Tokio runtime.
    pub fn machine_changed(&self, role: Role, running: bool) {
        self.shared.pools.of(role).clear();
        match self.shared.engines.placement() {
            Placement::ForeignMachine if running => self.shared.workloads.started(role),
            // Nobody keeps the table true while it runs; when it sleeps, its record is read anew.
            Placement::NativeMachine => self.shared.workloads.table().forget(role),
            Placement::ForeignMachine => {}
        }
    }

    /// Tells the face that a machine is about to stop: connections of the face's own to its engine end, for which dockerd
    /// would wait. Returns what is in it, for [`Engines::record`] to give back while it is off (spec 2.6); `None` in the
    /// default placement, where nobody asks.
    pub async fn machine_stopping(&self, role: Role) -> Option<Record> {
        self.shared.pools.of(role).clear();
        match self.shared.engines.placement() {
            Placement::NativeMachine => None,
            Placement::ForeignMachine => Some(self.shared.workloads.stopping(role).await),
        }
    }

    /// Closes what has been idle for too long, but nothing that leads into a machine that sleeps.
    fn prune(&self) {
        for role in self.shared.engines.running() {
            self.shared.pools.of(role).prune();
        }
    }

    /// Serves clients of our own user and of root until `cancel`, then lets requests end within the grace period.
    ///
    /// # Errors
    /// [`Error::Accept`] if the listener itself fails.
    pub async fn serve(self, listener: UnixListener, cancel: CancellationToken) -> Result<()> {
        let room = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut clients = JoinSet::new();
        let mut prune = interval(PRUNE_EVERY);
        let outcome = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break Ok(()),
                _ = prune.tick() => self.prune(),
                Some(ended) = clients.join_next() => report(ended),
                accepted = accept(&listener, &room) => match accepted {
                    Ok((stream, seat)) if is_ours(&stream) => {
                        widen(&stream);
                        let serving = connection::serve(self.shared.clone(), Client::new(stream), cancel.clone());
                        clients.spawn(async move {
                            serving.await;
                            drop(seat);
                        });
                    }
                    Ok(_) => {}
                    Err(error) if is_passing(&error) => {
                        tracing::warn!(%error, "a Docker client has to wait");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    Err(error) => break Err(Error::Accept(error)),
                },
            }
        };
        drop(listener);
        let ending = async {
            while let Some(ended) = clients.join_next().await {
                report(ended);
            }
        };
        if timeout(self.grace, ending).await.is_err() {
            tracing::info!(
                requests = self.stats().in_flight,
                "cutting off the Docker requests that have not ended"
            );
            clients.shutdown().await;
        }
        self.shared.workloads.end().await;
        self.forget_idle();
        outcome
    }
}

type Seat = tokio::sync::OwnedSemaphorePermit;

/// Waits for a seat first, then for a client, so that cancelling loses neither.
async fn accept(listener: &UnixListener, room: &Arc<Semaphore>) -> io::Result<(UnixStream, Seat)> {
    let seat = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, seat))
}

/// Only the user who runs the daemon, and root, reach the API (spec 16.5). The socket's mode says so already; this
/// holds even where it was changed.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "another user's connection to the Docker socket was refused");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a connection to the Docker socket whose user is unknown was refused");
            false
        }
    }
}

/// Errors of `accept` that concern one client or pass by themselves.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::CONNABORTED, Errno::INTR];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "serving a Docker client failed; this is a defect of Dhow");
    }
}
