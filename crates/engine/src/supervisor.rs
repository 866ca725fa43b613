//! A machine's supervisor, as the daemon reaches it: launched or found, watched, asked to stop.

use std::path::Path;
use std::time::Duration;

use dhow_home::launch::{LaunchError, launch};
use dhow_home::lock::FileLock;
use dhow_home::{Home, LastEnd, MachineDir};
use dhow_model::{Failure, MachineName, Purpose};
use dhow_proto::MESSAGE_LIMIT;
use dhow_proto::supervisor::supervisor_client::SupervisorClient;
use dhow_proto::supervisor::{
    GrowDiskRequest, LimitMemoryRequest, MachineStatus, PortsRequest, PublishedPort, ResumeReply,
    ResumeRequest, StatusRequest, StopReply, StopRequest, SuspendReply, SuspendRequest, WatchRequest,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use crate::{Error, Result};

/// For a supervisor to serve, which it does before it touches the disk.
const LAUNCH: Duration = Duration::from_secs(15);
/// For a supervisor to answer a question.
const QUESTION: Duration = Duration::from_secs(5);
/// For the hypervisor to make a disk larger, or to take a limit of memory.
const PROMPT: Duration = Duration::from_secs(20);
/// For a supervisor to end after its machine is off.
const END: Duration = Duration::from_secs(10);
/// For one that takes no calls any more to be gone.
const ENDING: Duration = Duration::from_secs(2);
/// For a machine's memory to be saved: its size is bounded, its disk's speed is not.
const SUSPEND: Duration = Duration::from_secs(120);
/// For a machine to go on from what was saved, or to begin booting where it cannot.
const RESUME: Duration = Duration::from_secs(60);

/// What a supervisor tells.
#[derive(Debug)]
pub enum Told {
    /// Its machine's status, now or after a change.
    Status(Box<MachineStatus>),
    /// It is gone: it told no more, and its lock is free.
    Gone,
}

/// A connection to a running supervisor.
#[derive(Debug, Clone)]
pub struct Supervisor {
    name: MachineName,
    dir: MachineDir,
    client: SupervisorClient<Channel>,
}

/// Starts the supervisor of a machine whose description is written. The process is returned to be reaped.
///
/// # Errors
/// When it cannot be started or says why it cannot serve.
pub async fn start(
    home: &Home,
    name: &MachineName,
    purpose: Purpose,
    executable: &Path,
) -> Result<(Supervisor, Child)> {
    let mut command = Command::new(executable);
    command.args(["supervise", name.as_str(), "--for", purpose.as_str()]).env("DHOW_HOME", home.root());
    let dir = home.machine(name);
    let child = launch(command, &dir.supervisor_log(), LAUNCH)
        .await
        .map_err(|source: LaunchError| Error::Launch { machine: name.clone(), source })?;
    Ok((connect(home, name), child))
}

/// Whether a supervisor of this machine runs.
///
/// # Errors
/// When its lock cannot be looked at.
pub fn is_running(dir: &MachineDir) -> Result<bool> {
    let path = dir.supervisor_lock();
    FileLock::is_held(&path).map_err(|source| Error::File { path, source })
}

/// Connects, when first asked, to the supervisor that runs.
#[must_use]
pub fn connect(home: &Home, name: &MachineName) -> Supervisor {
    let dir = home.machine(name);
    let socket = dir.supervisor_socket();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://supervisor")
        .connect_timeout(QUESTION)
        .connect_with_connector_lazy(connector);
    let client = SupervisorClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    Supervisor { name: name.clone(), dir, client }
}

impl Supervisor {
    /// The machine's status now, figures included.
    ///
    /// # Errors
    /// When the supervisor does not answer in time.
    pub async fn status(&self) -> Result<MachineStatus> {
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(QUESTION, client.status(StatusRequest {})).await;
        let answer = answer.map_err(|_| self.silent("status", QUESTION))?;
        Ok(answer.map_err(|s| self.refused(&s))?.into_inner())
    }

    /// Makes the data disk of a machine that is awake larger.
    ///
    /// # Errors
    /// When the hypervisor refuses, or the supervisor does not answer in time.
    pub async fn grow_disk(&self, bytes: u64) -> Result<()> {
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(PROMPT, client.grow_disk(GrowDiskRequest { bytes })).await;
        answer.map_err(|_| self.silent("grow_disk", PROMPT))?.map(drop).map_err(|s| self.refused(&s))
    }

    /// Lets the guest of a machine that is awake use so much of its memory.
    ///
    /// # Errors
    /// When the hypervisor refuses, or the supervisor does not answer in time.
    pub async fn limit_memory(&self, bytes: u64) -> Result<()> {
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(PROMPT, client.limit_memory(LimitMemoryRequest { bytes })).await;
        answer.map_err(|_| self.silent("limit_memory", PROMPT))?.map(drop).map_err(|s| self.refused(&s))
    }

    /// The machine's published ports.
    ///
    /// # Errors
    /// When the supervisor does not answer in time.
    pub async fn ports(&self) -> Result<Vec<PublishedPort>> {
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(QUESTION, client.ports(PortsRequest {})).await;
        let answer = answer.map_err(|_| self.silent("ports", QUESTION))?;
        Ok(answer.map_err(|s| self.refused(&s))?.into_inner().ports)
    }

    /// Puts the machine to sleep, and waits until it sleeps; with `leave`, until the supervisor is gone too.
    ///
    /// # Errors
    /// Why the machine goes on instead, or that the supervisor does not answer.
    pub async fn suspend(&self, request: SuspendRequest) -> Result<SuspendReply> {
        let leave = request.leave;
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(SUSPEND, client.suspend(request)).await;
        let reply = match answer.map_err(|_| self.silent("suspend", SUSPEND))? {
            Ok(reply) => reply.into_inner(),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                let why = status.message().to_owned();
                return Err(Error::Awake { machine: self.name.clone(), why });
            }
            Err(status) if leave && !is_running(&self.dir)? => {
                tracing::debug!(%status, "the supervisor ended before it answered");
                SuspendReply::default()
            }
            Err(status) => return Err(self.refused(&status)),
        };
        if leave {
            self.ended().await?;
        }
        Ok(reply)
    }

    /// Wakes the machine; answers when it goes on, or boots because its saved state could not be used.
    ///
    /// # Errors
    /// Why it could not be woken, or that the supervisor does not answer.
    pub async fn resume(&self, request: ResumeRequest) -> Result<ResumeReply> {
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(RESUME, client.resume(request)).await;
        let answer = answer.map_err(|_| self.silent("resume", RESUME))?;
        Ok(answer.map_err(|s| self.refused(&s))?.into_inner())
    }

    /// Tells `told` the status now and after each change, and at the end that the supervisor is gone. A connection that
    /// breaks while the supervisor lives is made again.
    pub async fn watch(self, told: mpsc::Sender<Told>) {
        loop {
            let mut client = self.client.clone();
            if let Ok(Ok(stream)) = tokio::time::timeout(QUESTION, client.watch(WatchRequest {})).await {
                let mut stream = stream.into_inner();
                while let Ok(Some(status)) = stream.message().await {
                    if told.send(Told::Status(Box::new(status))).await.is_err() {
                        return;
                    }
                }
            }
            match is_running(&self.dir) {
                Ok(true) => tokio::time::sleep(Duration::from_millis(100)).await,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot tell whether the supervisor lives");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        if told.send(Told::Gone).await.is_err() {
            tracing::debug!("nobody asks about the supervisor any more");
        }
    }

    /// Stops the machine, within `limit` if not forced, and waits until the supervisor is gone. One that does not answer
    /// is killed, and its hypervisor with it.
    ///
    /// # Errors
    /// When the supervisor is still there in the end.
    pub async fn stop(&self, force: bool, limit: Duration) -> Result<StopReply> {
        let mut client = self.client.clone();
        let request = StopRequest { force, limit_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX) };
        let asked = tokio::time::timeout(limit + END, client.stop(request)).await;
        let reply = match asked {
            Ok(Ok(reply)) => reply.into_inner(),
            // One that cannot be reached may be about to end, because somebody else asked it to.
            Ok(Err(status))
                if status.code() == tonic::Code::Unavailable && self.ended_within(ENDING).await =>
            {
                tracing::debug!(%status, "the supervisor ended before it answered");
                StopReply::default()
            }
            Ok(Err(status)) if !is_running(&self.dir)? => {
                tracing::debug!(%status, "the supervisor ended before it answered");
                StopReply::default()
            }
            Ok(Err(status)) => self.kill(&status.to_string()).await?,
            Err(_) => self.kill("it did not answer in time").await?,
        };
        self.ended().await?;
        Ok(reply)
    }

    async fn ended_within(&self, limit: Duration) -> bool {
        FileLock::wait_exclusive(&self.dir.supervisor_lock(), limit).await.is_ok()
    }

    /// Waits until the supervisor is gone.
    async fn ended(&self) -> Result<()> {
        let path = self.dir.supervisor_lock();
        let lock = FileLock::wait_exclusive(&path, END).await;
        lock.map(drop).map_err(|e| Error::Supervisor { machine: self.name.clone(), why: e.to_string() })
    }

    async fn kill(&self, why: &str) -> Result<StopReply> {
        // The peer of a connection to its socket is the supervisor itself, never a process that got its number later.
        let io = |e: std::io::Error| Error::Supervisor { machine: self.name.clone(), why: e.to_string() };
        let stream = UnixStream::connect(self.dir.supervisor_socket()).await.map_err(io)?;
        let pid = stream.peer_cred().map_err(io)?.pid();
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
            return Err(Error::Supervisor { machine: self.name.clone(), why: why.to_owned() });
        };
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).map_err(|e| io(e.into()))?;
        Ok(StopReply { errors: vec![format!("the supervisor was killed: {why}")], forced: true })
    }

    fn silent(&self, question: &str, limit: Duration) -> Error {
        let why = format!("no answer to {question} within {} s", limit.as_secs());
        Error::Supervisor { machine: self.name.clone(), why }
    }

    fn refused(&self, status: &tonic::Status) -> Error {
        Error::Supervisor {
            machine: self.name.clone(),
            why: format!("{}: {}", status.code(), status.message()),
        }
    }
}

/// Why the machine's supervisor ended: its own word, or that it was killed before it had one. `None` when it was asked to.
#[must_use]
pub fn last_words(dir: &MachineDir) -> Option<Failure> {
    match LastEnd::read(dir) {
        Some(end) => end.failure,
        None => Some(Failure::new(
            "supervisor-died",
            "the supervisor ended without a word, and its machine with it",
            "read `dhow logs supervisor`",
        )),
    }
}
