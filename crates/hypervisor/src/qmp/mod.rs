//! A client of QEMU's control protocol, QMP (docs/interop/qmp-spec.rst of QEMU): greeting, capabilities, replies matched
//! by id, events as a stream, descriptors passed beside a command.
//!
//! ```text
//!  Qmp (clones) ──requests──► task: one connection ◄──► QEMU
//!      ▲                        │ replies, by id
//!      └────────────────────────┤
//!  Receiver<Event> ◄────────────┘ events
//! ```
//!
//! One task owns the connection; it ends when the last [`Qmp`] is dropped, when QEMU closes the connection, or when QEMU
//! breaks the protocol, and every command that waits then gets the reason. Every command has a time limit.

mod link;
#[cfg(test)]
mod tests;
mod wire;

use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{Error, Result};
use link::{Link, Plain, Request};
pub use wire::{Event, Greeting};

/// How long QEMU may take to answer a command, unless its caller knows better.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// The longest message that is accepted. QEMU's longest answers (`query-qmp-schema`) are a few hundred kilobytes.
pub const LONGEST_MESSAGE: usize = 4 << 20;
/// Events that a slow receiver may lag behind.
const EVENTS_KEPT: usize = 256;

/// A connection in command mode.
#[derive(Debug, Clone)]
pub struct Qmp {
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Event>,
    greeting: Greeting,
}

impl Qmp {
    /// Reads the greeting and enters command mode, over any stream. Descriptors cannot be passed over it.
    ///
    /// # Errors
    /// When there is no greeting within the limit, or something else in its place.
    pub async fn new<S>(stream: S, limit: Duration) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        Self::open(Box::new(read), Box::new(Plain(write)), limit).await
    }

    /// Reads the greeting and enters command mode, over QEMU's socket.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn connect(stream: UnixStream, limit: Duration) -> Result<Self> {
        let (read, write) = stream.into_split();
        Self::open(Box::new(read), Box::new(write), limit).await
    }

    async fn open(
        read: Box<dyn AsyncRead + Send + Unpin>,
        write: Box<dyn link::Writer>,
        limit: Duration,
    ) -> Result<Self> {
        let timeout = || Error::Timeout { what: "QEMU's greeting on its control socket".to_owned(), limit };
        let (mut link, greeting) =
            tokio::time::timeout(limit, Link::greet(read, write)).await.map_err(|_| timeout())??;
        let (requests, receive) = mpsc::channel(16);
        let events = broadcast::Sender::new(EVENTS_KEPT);
        let publish = events.clone();
        tokio::spawn(async move { link.run(receive, publish).await });
        let qmp = Self { requests, events, greeting };
        qmp.execute("qmp_capabilities", Map::new()).await?;
        Ok(qmp)
    }

    /// What QEMU said of itself.
    #[must_use]
    pub const fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Events from now on. A receiver that is more than a few hundred behind misses the oldest and is told so.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Runs a command within [`COMMAND_LIMIT`] and returns what it returned.
    ///
    /// # Errors
    /// [`QmpRefused`](Error::QmpRefused), [`Timeout`](Error::Timeout), [`QmpClosed`](Error::QmpClosed) and
    /// [`QmpProtocol`](Error::QmpProtocol).
    pub async fn execute(&self, command: &str, arguments: Map<String, Value>) -> Result<Value> {
        self.request(command, arguments, Vec::new(), COMMAND_LIMIT).await
    }

    /// Runs a command within a limit of the caller's.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn execute_within(
        &self,
        command: &str,
        arguments: Map<String, Value>,
        limit: Duration,
    ) -> Result<Value> {
        self.request(command, arguments, Vec::new(), limit).await
    }

    /// Gives QEMU a descriptor, which commands then know as `name` (QMP's `getfd`).
    ///
    /// # Errors
    /// As [`execute`](Self::execute), and when the connection is no Unix socket.
    pub async fn getfd(&self, name: &str, fd: OwnedFd) -> Result<()> {
        let arguments = Map::from_iter([("fdname".to_owned(), Value::from(name))]);
        self.request("getfd", arguments, vec![fd], COMMAND_LIMIT).await.map(drop)
    }

    /// Gives QEMU a descriptor that it opens as the file `/dev/fdset/N`; the number (QMP's `add-fd`).
    ///
    /// # Errors
    /// As [`getfd`](Self::getfd).
    pub async fn add_fd(&self, fd: OwnedFd) -> Result<u64> {
        let answer = self.request("add-fd", Map::new(), vec![fd], COMMAND_LIMIT).await?;
        let set = answer.get("fdset-id").and_then(Value::as_u64);
        set.ok_or_else(|| Error::QmpProtocol(format!("add-fd answered {answer}")))
    }

    /// `query-status`: `running`, `paused`, `shutdown`, `guest-panicked`, … (QMP's `RunState`).
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn status(&self) -> Result<String> {
        let answer = self.execute("query-status", Map::new()).await?;
        let status = answer.get("status").and_then(Value::as_str).map(str::to_owned);
        status.ok_or_else(|| Error::QmpProtocol(format!("query-status answered {answer}")))
    }

    /// `cont`: the processors go on.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn cont(&self) -> Result<()> {
        self.execute("cont", Map::new()).await.map(drop)
    }

    /// `stop`: the processors pause.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn stop(&self) -> Result<()> {
        self.execute("stop", Map::new()).await.map(drop)
    }

    /// `system_powerdown`: the power button.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn system_powerdown(&self) -> Result<()> {
        self.execute("system_powerdown", Map::new()).await.map(drop)
    }

    /// `quit`: QEMU flushes its disks and ends. It may close the connection before it answers.
    ///
    /// # Errors
    /// As [`execute`](Self::execute), apart from the closed connection.
    pub async fn quit(&self) -> Result<()> {
        match self.execute("quit", Map::new()).await {
            Ok(_) | Err(Error::QmpClosed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn request(
        &self,
        command: &str,
        arguments: Map<String, Value>,
        fds: Vec<OwnedFd>,
        limit: Duration,
    ) -> Result<Value> {
        let (reply, answer) = oneshot::channel();
        let request = Request { command: command.to_owned(), arguments, fds, reply };
        let closed = || Error::QmpClosed(format!("{command} got no answer"));
        let ask = async {
            self.requests.send(request).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        let late = |_| Error::Timeout { what: format!("QEMU's answer to {command}"), limit };
        tokio::time::timeout(limit, ask).await.map_err(late)?
    }
}
