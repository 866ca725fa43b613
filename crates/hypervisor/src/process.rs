//! A hypervisor's process, from its start to its last word.
//!
//! ```text
//!  start ──► owner thread: spawn ── waits ──────────────► reap ── join ──► exit published
//!                            │                                     ▲
//!                            ├─ console thread: stdout → log, tail ┤   (both end when the process's
//!                            └─ log thread:     stderr → log, tail ┘    last descriptor is closed)
//! ```
//!
//! A thread of its own spawns the process and lives as long as it does, because the parent-death signal is bound to the
//! *thread* that spawned (prctl(2), `PR_SET_PDEATHSIG`): a worker of the async runtime may end at any time and would take
//! the guest with it.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::{oneshot, watch};

use crate::output::{self, Tail};
use crate::{Error, How, Output, Result};

/// What the process said and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) how: How,
    pub(crate) said: Vec<String>,
    pub(crate) console: Vec<String>,
}

/// A process that is killed when this is dropped.
pub(crate) struct Process {
    pid: Pid,
    /// Whether the process ID may already belong to somebody else; held while a signal is sent.
    reaped: Arc<Mutex<bool>>,
    ended: watch::Receiver<Option<Ended>>,
}

/// How to start one.
pub(crate) struct Launch {
    /// For the thread's name.
    pub(crate) name: String,
    pub(crate) command: Command,
    pub(crate) output: Output,
    /// Descriptors that the process gets.
    pub(crate) inherit: Vec<OwnedFd>,
    /// Files that go when it has ended: its sockets.
    pub(crate) remove: Vec<PathBuf>,
}

impl Process {
    /// Starts it.
    pub(crate) async fn launch(launch: Launch) -> Result<Self> {
        let path = PathBuf::from(launch.command.get_program());
        let failed = |source| Error::Spawn { path: path.clone(), source };
        let (started, start) = oneshot::channel();
        thread::Builder::new()
            .name(launch.name.clone())
            .spawn(move || own(launch, started))
            .map_err(failed)?;
        let gone = || Err(io::Error::other("the thread that starts it has gone"));
        start.await.unwrap_or_else(|_| gone()).map_err(failed)
    }

    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has ended and its output is in the logs; cancel safe.
    pub(crate) async fn wait(&mut self) -> Ended {
        let lost = Ended { how: How::Code(-1), said: Vec::new(), console: Vec::new() };
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(lost),
            Err(_) => lost,
        }
    }

    /// Sends SIGKILL, unless it has ended.
    pub(crate) fn kill(&self) -> Result<()> {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped {
            return Ok(());
        }
        rustix::process::kill_process(self.pid, Signal::KILL).map_err(|errno| Error::Signal {
            pid: self.pid.as_raw_nonzero().get().unsigned_abs(),
            source: errno.into(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::error!(%error, "a hypervisor could not be killed");
        }
    }
}

/// The owner thread.
fn own(launch: Launch, started: oneshot::Sender<io::Result<Process>>) {
    let Launch { name, mut command, output, inherit, remove } = launch;
    let sockets = Removed(remove);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
    crate::sys::child::prepare(&mut command, inherit.iter().map(|fd| fd.as_raw_fd()).collect());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            drop(sockets);
            drop(started.send(Err(error)));
            return;
        }
    };
    drop(inherit);
    let (said, console) = (Tail::default(), Tail::default());
    let readers = [
        child.stdout.take().map(|from| reader(format!("{name}-console"), from, output.console, &console)),
        child.stderr.take().map(|from| reader(format!("{name}-log"), from, output.log, &said)),
    ];
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    let reaped = Arc::new(Mutex::new(false));
    let (publish, ended) = watch::channel(None);
    // Whoever asked may have gone: then the process is dropped here, which kills it, and is reaped below.
    drop(started.send(Ok(Process { pid, reaped: Arc::clone(&reaped), ended })));

    await_end(pid);
    let status = {
        let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
        *reaped = true;
        child.wait()
    };
    for reader in readers.into_iter().flatten().flatten() {
        if reader.join().is_err() {
            tracing::error!("a reader of the hypervisor's output has failed");
        }
    }
    // Before anybody learns of the end: the next start makes new ones at the same paths.
    drop(sockets);
    publish.send_replace(Some(Ended { how: how(status), said: said.lines(), console: console.lines() }));
}

fn reader(
    name: String,
    from: impl io::Read + Send + 'static,
    to: output::Sink,
    tail: &Tail,
) -> io::Result<thread::JoinHandle<()>> {
    let tail = tail.clone();
    thread::Builder::new().name(name).spawn(move || output::pump(from, to, &tail))
}

/// Waits without reaping, so that the process ID stays ours until no signal can be on its way.
fn await_end(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
}

fn how(status: io::Result<ExitStatus>) -> How {
    match status {
        Ok(status) => {
            status.code().map_or_else(|| How::Signal(status.signal().unwrap_or_default()), How::Code)
        }
        Err(_) => How::Code(-1),
    }
}

/// Sockets that go with the process that listened on them.
struct Removed(Vec<PathBuf>);

impl Drop for Removed {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = dhow_home::socket::remove(path) {
                tracing::warn!(%error, path = %path.display(), "a socket of the hypervisor stays behind");
            }
        }
    }
}
