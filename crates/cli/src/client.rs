//! The daemon's control socket, with a time limit on every call (spec 16.2).

mod disk;

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use dhow_model::{Failure, Role};
use dhow_proto::control::control_client::ControlClient;
use dhow_proto::control::inspect_reply::What as Found;
use dhow_proto::control::progress::What;
use dhow_proto::control::{
    Done, DownRequest, InspectRequest, PortsReply, PortsRequest, Progress, ResumeRequest, StatusReply,
    StatusRequest, SuspendRequest, UpRequest, VersionReply, VersionRequest, Workload,
};
use dhow_proto::{HOST_PROTOCOL, MESSAGE_LIMIT};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::VERSION;
use crate::error::{Error, Result};
use crate::house::Report;

/// What a connection meets where no daemon is: no socket, one that was left behind, or no directory to have one in.
const NOBODY: [io::ErrorKind; 4] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::ConnectionRefused,
    // It was there and ended before it accepted.
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::NotADirectory,
];

/// How long a command may take, and from when on.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// From now on, `limit`.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    /// What is left; zero when it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The error that says that the time for `step` is over.
    #[must_use]
    pub fn missed(&self, step: &str, goes_on: bool) -> Error {
        Error::TimedOut { step: step.to_owned(), limit: self.limit, goes_on }
    }

    /// Waits for `work`, but not past the deadline.
    ///
    /// # Errors
    /// When time is up; the error names `step`.
    pub async fn wait<T>(&self, step: &str, work: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout(self.left(), work).await.map_err(|_| self.missed(step, false))
    }
}

/// A daemon that answered.
#[derive(Debug, Clone)]
pub struct Daemon {
    client: ControlClient<Channel>,
    /// Which one it is.
    pub version: VersionReply,
}

impl Daemon {
    /// The daemon that serves `socket`; `None` when there is none, also where one left its socket behind.
    ///
    /// # Errors
    /// When the socket cannot be reached for another reason, or whoever serves it does not answer in time.
    pub async fn reach(socket: &Path, deadline: Deadline) -> Result<Option<Self>> {
        // A look of our own first: gRPC's error does not tell why a connection could not be made.
        match deadline.wait("the daemon's socket", UnixStream::connect(socket)).await? {
            Ok(_) => {}
            Err(e) if NOBODY.contains(&e.kind()) => return Ok(None),
            Err(source) => return Err(Error::Socket { path: socket.to_owned(), source }),
        }
        let step = "the daemon's version";
        let endpoint =
            Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|e| lost(step, &e))?;
        let Ok(channel) = deadline.wait(step, endpoint.connect()).await? else {
            // It was there a moment ago and ended between the two connections.
            return Ok(None);
        };
        let mut client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let reply = deadline.wait(step, client.version(VersionRequest {})).await?;
        let version = match reply {
            Ok(version) => version.into_inner(),
            // The connection broke, which is not the daemon's answer: it ended, or is being killed.
            Err(status) if std::error::Error::source(&status).is_some() => return Ok(None),
            Err(status) => return Err(refused(step, &status)),
        };
        Ok(Some(Self { client, version }))
    }

    /// Whether it speaks our protocol.
    ///
    /// # Errors
    /// When it does not; the error names both versions.
    pub fn require_our_protocol(&self) -> Result<()> {
        if self.version.protocol == HOST_PROTOCOL {
            return Ok(());
        }
        Err(Error::OtherProtocol {
            theirs: self.version.version.clone(),
            their_protocol: self.version.protocol,
            ours: VERSION,
            our_protocol: HOST_PROTOCOL,
        })
    }

    /// A sentence for the user when the daemon is not of our version.
    #[must_use]
    pub fn other_version(&self) -> Option<String> {
        (self.version.version != VERSION).then(|| {
            format!(
                "the daemon that runs is version {}, this dhow is {VERSION}; `dhow down` and `dhow up` start one of this version",
                self.version.version
            )
        })
    }

    /// What is true now.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub async fn status(&mut self, deadline: Deadline) -> Result<StatusReply> {
        let step = "the daemon's status";
        let reply = deadline.wait(step, self.client.status(StatusRequest {})).await?;
        Ok(reply.map_err(|e| refused(step, &e))?.into_inner())
    }

    /// What is published.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub async fn ports(&mut self, deadline: Deadline) -> Result<PortsReply> {
        let step = "the published ports";
        let reply = deadline.wait(step, self.client.ports(PortsRequest {})).await?;
        Ok(reply.map_err(|e| refused(step, &e))?.into_inner())
    }

    /// Where a container is, and why.
    ///
    /// # Errors
    /// When there is none, or several, or its machine does not answer; when the daemon does not answer.
    pub async fn inspect(&mut self, container: &str, deadline: Deadline) -> Result<Workload> {
        let step = "where the container is";
        let request = InspectRequest { container: container.to_owned() };
        let reply = deadline.wait(step, self.client.inspect(request)).await?;
        match reply.map_err(|e| refused(step, &e))?.into_inner().what {
            Some(Found::Found(workload)) => Ok(workload),
            Some(Found::Failed(f)) => Err(Error::Failed(Failure::new(f.code, f.message, f.hint))),
            None => Err(lost(step, &"it answered nothing")),
        }
    }

    /// Asks for the engine to be up. It goes on whether or not the answer is followed.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn up(&mut self, deadline: Deadline) -> Result<Following> {
        let step = "asking the daemon to start the engine";
        let reply = deadline.wait(step, self.client.up(Request::new(UpRequest {}))).await?;
        Ok(Following::of(reply.map_err(|e| refused(step, &e))?.into_inner(), step))
    }

    /// Asks for everything to be stopped.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn down(&mut self, force: bool, suspend: bool, deadline: Deadline) -> Result<Following> {
        let step = "asking the daemon to stop the engine";
        let request = Request::new(DownRequest { force, suspend });
        let reply = deadline.wait(step, self.client.down(request)).await?;
        Ok(Following::of(reply.map_err(|e| refused(step, &e))?.into_inner(), step))
    }

    /// Asks for a machine, or all of them, to be put to sleep.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn suspend(&mut self, role: Option<Role>, deadline: Deadline) -> Result<Following> {
        let step = "asking the daemon to put the engine to sleep";
        let request = SuspendRequest { machine: role.map(|role| role.to_string()).unwrap_or_default() };
        let reply = deadline.wait(step, self.client.suspend(request)).await?;
        Ok(Following::of(reply.map_err(|e| refused(step, &e))?.into_inner(), step))
    }

    /// Asks for a machine, or all of them, to be woken.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn resume(&mut self, role: Option<Role>, deadline: Deadline) -> Result<Following> {
        let step = "asking the daemon to wake the engine";
        let request = ResumeRequest { machine: role.map(|role| role.to_string()).unwrap_or_default() };
        let reply = deadline.wait(step, self.client.resume(request)).await?;
        Ok(Following::of(reply.map_err(|e| refused(step, &e))?.into_inner(), step))
    }
}

/// Work that the daemon does, as it tells of it.
#[derive(Debug)]
pub struct Following {
    stream: Streaming<Progress>,
    /// The running step.
    pub step: String,
}

impl Following {
    fn of(stream: Streaming<Progress>, step: &str) -> Self {
        Self { stream, step: step.to_owned() }
    }

    /// Shows the work until it ends. Cancelled at any point, it can be called again.
    ///
    /// # Errors
    /// When the work failed, the daemon went away, or time is up.
    pub async fn end(&mut self, report: &mut dyn Report, deadline: Deadline) -> Result<Done> {
        loop {
            let Ok(message) = tokio::time::timeout(deadline.left(), self.stream.message()).await else {
                return Err(deadline.missed(&self.step, true));
            };
            let message = message.map_err(|e| refused(&self.step, &e))?;
            let Some(progress) = message else {
                return Err(lost(&self.step, &"it ended its answer without saying how the work ended"));
            };
            match progress.what {
                Some(What::Step(words)) => {
                    report.step(&words);
                    self.step = words;
                }
                Some(What::Detail(words)) => report.detail(&words),
                Some(What::Note(words)) => report.note(&words),
                Some(What::Done(done)) => return Ok(done),
                Some(What::Failed(f)) => return Err(Error::Failed(Failure::new(f.code, f.message, f.hint))),
                // A newer daemon may say more than we understand.
                None => {}
            }
        }
    }
}

fn refused(step: &str, status: &Status) -> Error {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Unknown => lost(step, &status.message()),
        code => Error::Refused { step: step.to_owned(), code, message: status.message().to_owned() },
    }
}

fn lost(step: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::Lost { step: step.to_owned(), cause: cause.to_string() }
}
