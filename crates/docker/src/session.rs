//! `/session` opens before `/build` says the platform (spec 3.5). With two engines it is parked until the build comes that
//! names its UUID; it is never sent to a guess.
//!
//! Docker's own client names it in `POST /build?session=…`, Buildx within BuildKit's API, which `buildkit` reads. What is known
//! stands in `session_table`; here are the waiting and the words.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use dhow_model::Role;
use dhow_model::query::query_value;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::session_table::{Arrival, Key, MAX_WAITING, Table, Ticket};
use crate::wire::client::Client;
use crate::wire::head::Request;

/// How long a session waits for its build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How far a waiting client is read, to see whether it is still there.
const AHEAD: usize = 64 * 1024;
/// The header that names a session.
const UUID: &str = "X-Docker-Expose-Session-Uuid";

/// The sessions and builds of a face.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    table: Table,
    waiting: HashMap<Ticket, oneshot::Sender<Role>>,
}

/// What became of a parked connection.
pub(crate) enum Parked {
    /// It goes to this role. The guard is kept until the connection ends.
    To(Role, Joined),
    /// The client is told this instead.
    Refused(Refused),
    /// The client went away.
    Gone,
}

/// A status and a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Sessions {
    /// Waits until it is known where this connection belongs, watching that its client stays.
    pub(crate) async fn park(&self, key: Key, client: &mut Client) -> Parked {
        self.park_for(key, client, PATIENCE).await
    }

    async fn park_for(&self, key: Key, client: &mut Client, patience: Duration) -> Parked {
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut inner = self.inner();
            match inner.table.arrive(&key) {
                Arrival::To(role) => {
                    drop(inner);
                    return Parked::To(role, Joined { sessions: self.clone(), key });
                }
                Arrival::Wait(ticket) => {
                    inner.waiting.insert(ticket, sender);
                    ticket
                }
                Arrival::Twice => return Parked::Refused(twice(&key)),
                Arrival::Crowded => return Parked::Refused(crowded()),
            }
        };
        let mut seat = Seat { sessions: self, ticket, key: Some(key.clone()) };
        tracing::debug!(?key, "parked until its build comes");
        let given = tokio::select! {
            biased;
            given = receiver => given.ok(),
            () = gone(client) => return Parked::Gone,
            () = sleep(patience) => None,
        };
        match given {
            Some(role) => {
                seat.key = None;
                Parked::To(role, Joined { sessions: self.clone(), key })
            }
            None => Parked::Refused(late(&key, patience)),
        }
    }

    /// A build was placed. What it names goes where it goes, until the guard is dropped.
    pub(crate) fn build(&self, names: &Names, role: Role) -> Building {
        let keys = names.keys();
        let mut inner = self.inner();
        let released = inner.table.build(&keys, role);
        inner.tell(released);
        drop(inner);
        Building { sessions: self.clone(), keys, role }
    }

    /// Where the build with this ID goes on; `None` if there is none (`POST /build/cancel`).
    pub(crate) fn builder(&self, id: &str) -> Option<Role> {
        self.inner().table.builder(id)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, released: Vec<(Ticket, Role)>) {
        for (ticket, role) in released {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // Whoever has gone in this moment gives its place back by its guard.
                let _heard = waiting.send(role);
            }
        }
    }
}

/// What a `/build` names in its query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Names {
    session: Option<String>,
    build: Option<String>,
    upload: bool,
}

impl Names {
    /// A build that was not asked for with `/build`, and has this session.
    pub(crate) fn session(uuid: &str) -> Self {
        Self { session: Some(uuid.to_owned()), ..Self::default() }
    }

    /// Reads the target of a `/build`.
    pub(crate) fn of(target: &str) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let value = |key| query_value(query, key).ok().flatten().filter(|value: &String| !value.is_empty());
        let build = value("buildid");
        let upload = build.as_deref().and_then(|id| id.strip_prefix("upload-request:")).map(str::to_owned);
        Self { session: value("session"), upload: upload.is_some(), build: upload.or(build) }
    }

    /// Of a request that only uploads the context of another build, which says where it goes: it is parked, not admitted.
    pub(crate) fn upload(&self) -> Option<Key> {
        self.build.clone().filter(|_| self.upload).map(Key::Build)
    }

    fn keys(&self) -> Vec<Key> {
        let session = self.session.clone().map(Key::Session);
        session.into_iter().chain(self.build.clone().map(Key::Build)).collect()
    }
}

/// What a `/session` is known by. The request's head must be there still.
///
/// # Errors
/// 400 for a session that no build can name, and in BuildKit's words for one that asks for no upgrade.
pub(crate) fn key(request: &Request) -> Result<Key, Refused> {
    let refused = |message: String| Err(Refused { status: 400, message });
    match request.header("Upgrade").filter(|protocol| !protocol.is_empty()) {
        None => return refused("no upgrade proto in request".to_owned()),
        Some(protocol) if protocol != "h2c" => return refused(format!("protocol {protocol} not supported")),
        Some(_) => {}
    }
    match request.header(UUID).filter(|uuid| !uuid.is_empty()) {
        Some(uuid) => Ok(Key::Session(uuid)),
        None => refused(format!(
            "this session has no {UUID}: no build can name it, so it is not known which machine it is for"
        )),
    }
}

fn twice(key: &Key) -> Refused {
    Refused { status: 400, message: format!("session {} already exists", name(key)) }
}

fn crowded() -> Refused {
    let message =
        format!("{MAX_WAITING} sessions wait for their builds already; try again when some have begun");
    Refused { status: 503, message }
}

fn late(key: &Key, patience: Duration) -> Refused {
    let seconds = patience.as_secs();
    let message = match key {
        Key::Session(uuid) => format!(
            "no build named session {uuid} within {seconds} s, so it is not known which machine it is for; \
             start the build right after its session"
        ),
        Key::Build(id) => format!("no build with ID {id} began within {seconds} s of its upload"),
    };
    Refused { status: 400, message }
}

fn name(key: &Key) -> &str {
    match key {
        Key::Session(name) | Key::Build(name) => name,
    }
}

/// Waits until the client has closed its half. What it sends ahead stays in its buffer.
pub(crate) async fn gone(client: &mut Client) {
    std::future::poll_fn(|cx| {
        while client.buffer.has_room(AHEAD) {
            match client.poll_read(cx, AHEAD) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    })
    .await;
}

/// A place among those that wait; left when it is dropped.
struct Seat<'a> {
    sessions: &'a Sessions,
    ticket: Ticket,
    /// `None` once the connection was handed over with a guard of its own.
    key: Option<Key>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut inner = self.sessions.inner();
        inner.waiting.remove(&self.ticket);
        if !inner.table.give_up(self.ticket) {
            // Given to a role in this very moment, and not taken.
            inner.table.leave(&key);
        }
    }
}

/// A connection that was given to a role, while it lasts.
pub(crate) struct Joined {
    sessions: Sessions,
    key: Key,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.sessions.inner().table.leave(&self.key);
    }
}

/// A build, while it goes on.
pub(crate) struct Building {
    sessions: Sessions,
    keys: Vec<Key>,
    role: Role,
}

impl Drop for Building {
    fn drop(&mut self) {
        self.sessions.inner().table.build_over(&self.keys, self.role);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
