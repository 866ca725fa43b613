//! One machine as others reach it: commands to its task, and what the task lets be seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_channel::Dialer;
use dhow_home::Home;
use dhow_model::{Failure, MachineName, MachineSpec, Record, Role, State};
use dhow_proto::supervisor::{PublishedPort, StopReply};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::machine::{Command, Machine, Surroundings};
use crate::progress::Reporter;
use crate::snapshot::{Ready, Snapshot};
use crate::timeline::{Timed, Timeline};
use crate::{Error, Result, record, supervisor};

/// For dockerd to say what is in a machine that is to be stopped; less where that is to happen at once.
const RECORD: Duration = Duration::from_secs(3);
const RECORD_AT_ONCE: Duration = Duration::from_millis(700);

/// What came of starting a machine.
#[derive(Debug, Clone)]
pub struct Up {
    /// False when all was as asked already.
    pub changed: bool,
    /// The steps of the start.
    pub timeline: Vec<Timed>,
    /// What a person should know of it, one sentence each.
    pub warnings: Vec<String>,
}

/// A machine. Its task ends when the last clone is gone; its processes go on.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    home: Home,
    role: Role,
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    ready: watch::Receiver<Ready>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Handle {
    /// The machine of this role, with what an earlier daemon left.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(crate) fn open(role: Role, shared: &Surroundings) -> Result<Self> {
        let (snapshot_in, snapshot) = watch::channel(Snapshot::default());
        let off = Failure::new("engine-off", "the engine has not been started", "dhow up");
        let (ready_in, ready) = watch::channel(Ready::No(off));
        let mut machine = Machine::new(role, shared.clone(), snapshot_in, ready_in);
        machine.recover()?;
        let (commands, queue) = mpsc::channel(16);
        let task = Arc::new(AbortOnDropHandle::new(tokio::spawn(machine.run(queue))));
        Ok(Self { home: shared.home.clone(), role, commands, snapshot, ready, _task: task })
    }

    /// Its name.
    pub(crate) fn name(&self) -> MachineName {
        self.role.machine()
    }

    /// Brings up the machine that `spec` describes, and returns when dockerd answers.
    pub(crate) async fn start(&self, spec: MachineSpec, timeline: Timeline, report: &Reporter) -> Result<Up> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Up { spec: Box::new(spec), timeline, report: report.clone(), reply };
        self.commands.send(command).await.map_err(|_| Error::Ending)?;
        let changed = answer.await.map_err(|_| Error::Ending)??;
        let timeline = self.snapshot.borrow().timeline.clone();
        Ok(Up { changed, timeline, warnings: Vec::new() })
    }

    /// Stops the machine, in order within `limit` or at once, and returns when it is off. What is in it is written down
    /// first.
    pub(crate) async fn down(&self, force: bool, limit: Duration) -> Result<StopReply> {
        let dir = self.home.machine(&self.name());
        if let Ready::Yes(dialer) = self.ready() {
            record::take(&dir, &dialer, if force { RECORD_AT_ONCE } else { RECORD }).await;
        }
        if force && supervisor::is_running(&dir)? {
            // The machine's task may be in the middle of a graceful stop, which this cuts short (spec 6.6).
            supervisor::connect(&self.home, &self.name()).stop(true, limit).await?;
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Down { force, limit, reply };
        self.commands.send(command).await.map_err(|_| Error::Ending)?;
        answer.await.map_err(|_| Error::Ending)?
    }

    /// What is known of it, as its task last told.
    pub(crate) fn last(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// What is known of it, with figures as they are now.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.last();
        if self.has_processes() {
            match supervisor::connect(&self.home, &self.name()).status().await {
                Ok(status) => snapshot.status = status,
                Err(error) if snapshot.trouble.is_empty() => snapshot.trouble = error.to_string(),
                Err(error) => tracing::debug!(%error, "the status is the last one that was told"),
            }
        }
        snapshot
    }

    /// What it publishes; nothing when it does not run, which this never changes.
    pub(crate) async fn ports(&self) -> Result<Vec<PublishedPort>> {
        if !self.has_processes() {
            return Ok(Vec::new());
        }
        supervisor::connect(&self.home, &self.name()).ports().await
    }

    /// What was in it when it was stopped, while it is off.
    pub(crate) fn record(&self) -> Option<Record> {
        if self.has_processes() { None } else { record::read(&self.home.machine(&self.name())) }
    }

    /// Whether it can be dialled.
    pub(crate) fn ready(&self) -> Ready {
        self.ready.borrow().clone()
    }

    /// Waits while it is on its way; a machine that is off stays so.
    pub(crate) async fn settled(&self) -> Result<Dialer> {
        let mut ready = self.ready.clone();
        loop {
            match &*ready.borrow_and_update() {
                Ready::Yes(dialer) => return Ok(dialer.clone()),
                Ready::No(failure) => return Err(failure.clone().into()),
                Ready::Coming | Ready::Found => {}
            }
            ready.changed().await.map_err(|_| Error::Ending)?;
        }
    }

    /// Whether it can be dialled no more within this time.
    pub(crate) async fn ended_within(&self, limit: Duration) -> bool {
        let mut ready = self.ready.clone();
        let ended = ready.wait_for(|ready| !matches!(ready, Ready::Yes(_)));
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    /// Whether it was ever made.
    pub(crate) fn exists(&self) -> bool {
        self.snapshot.borrow().state.is_some_and(|state| state != State::Absent)
    }

    /// Whether processes of it may exist.
    pub(crate) fn has_processes(&self) -> bool {
        self.snapshot.borrow().state.is_some_and(State::has_processes)
    }

    /// A start that is asked for now.
    pub(crate) fn timeline() -> Timeline {
        Timeline::new(Instant::now())
    }

    #[cfg(test)]
    pub(crate) fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }
}
