//! One machine as others reach it: commands to its task, and what the task lets be seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_channel::Dialer;
use dhow_home::Home;
use dhow_model::sleep::Decision;
use dhow_model::{Failure, MachineName, MachineSpec, Record, Role, State};
use dhow_proto::supervisor::{PublishedPort, StopReply, SuspendRequest};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::machine::{Command, Machine, Surroundings};
use crate::progress::Reporter;
use crate::snapshot::{Event, Observed, Ready, Snapshot};
use crate::timeline::{Timed, Timeline};
use crate::{Error, Result, record, supervisor};

/// For dockerd to say what is in a machine that is to be stopped; less where that is to happen at once.
const RECORD: Duration = Duration::from_secs(3);
const RECORD_AT_ONCE: Duration = Duration::from_millis(700);

/// For a machine's own task to have heard what its supervisor told.
const HEARD: Duration = Duration::from_secs(5);

/// A machine that can be dialled, or woken.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Through this; where it sleeps, that wakes it.
    Dial(Dialer),
    /// It sleeps and nobody would hear a dial: [`Handle::resume`] first.
    Saved,
}

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

/// A machine. Its task ends when the last clone that is no bystander's is gone; its processes go on.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    home: Home,
    role: Role,
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    ready: watch::Receiver<Ready>,
    observed: Observed,
    events: broadcast::Sender<Event>,
    /// Absent for a bystander.
    _task: Option<Arc<AbortOnDropHandle<()>>>,
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
        let task = Some(Arc::new(AbortOnDropHandle::new(tokio::spawn(machine.run(queue)))));
        let Surroundings { home, observed, events, .. } = shared.clone();
        Ok(Self { home, role, commands, snapshot, ready, observed, events, _task: task })
    }

    /// The same machine for one who does not keep its task going.
    pub(crate) fn bystander(&self) -> Self {
        Self { _task: None, ..self.clone() }
    }

    /// Its name.
    pub(crate) fn name(&self) -> MachineName {
        self.role.machine()
    }

    /// Brings up the machine that `spec` describes, and returns when dockerd answers.
    pub(crate) async fn start(&self, spec: MachineSpec, timeline: Timeline, report: &Reporter) -> Result<Up> {
        let slept = self.sleeps();
        let (reply, answer) = oneshot::channel();
        let command = Command::Up { spec: Box::new(spec), timeline, report: report.clone(), reply };
        self.commands.send(command).await.map_err(|_| Error::Ending)?;
        let changed = answer.await.map_err(|_| Error::Ending)??;
        let timeline = self.snapshot.borrow().timeline.clone();
        let warnings = if slept { self.set_aside().into_iter().collect() } else { Vec::new() };
        Ok(Up { changed, timeline, warnings })
    }

    /// What to know of a machine that slept and booted instead of going on.
    pub(crate) fn set_aside(&self) -> Option<String> {
        let why = self.snapshot.borrow().status.sleep.as_ref().map(|sleep| sleep.set_aside.clone());
        let why = why.filter(|why| !why.is_empty())?;
        Some(format!("the machine {} did not go on where it was: {why}", self.name()))
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

    /// Puts it to sleep, and returns when it sleeps: whether that is new. What is in it is written down first, for lookups to be
    /// answered from (spec 2.6).
    pub(crate) async fn suspend(&self, request: SuspendRequest) -> Result<bool> {
        let dir = self.home.machine(&self.name());
        let leave = request.leave;
        let awake = self.ready();
        if let Ready::Yes(dialer) = &awake {
            if let Some(observer) = self.observed.get() {
                observer.resting(self.role);
            }
            record::take(&dir, dialer, RECORD).await;
        }
        let mut events = self.events.subscribe();
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Suspend { request, reply }).await.map_err(|_| Error::Ending)?;
        let changed = answer.await.map_err(|_| Error::Ending)?;
        if changed.is_err() {
            if let Ready::Yes(_) = &awake {
                record::clear(&dir)?;
            }
            return changed;
        }
        // The supervisor's answer may be here before its news are there.
        let name = self.name();
        let slept = async {
            while let Ok(event) = events.recv().await {
                if event.machine == name && event.to == State::Suspended {
                    return;
                }
            }
        };
        let mut ready = self.ready.clone();
        let heard = async {
            if let Ok(true) = changed {
                slept.await;
            }
            // The event comes a moment before whoever wants to dial can see it.
            let seen = |ready: &Ready| match ready {
                Ready::Coming => false,
                Ready::Asleep(_) => !leave,
                _ => true,
            };
            if ready.wait_for(seen).await.is_err() {
                tracing::debug!("the machine's task has ended");
            }
        };
        if tokio::time::timeout(HEARD, heard).await.is_err() {
            tracing::warn!(machine = %self.name(), "its supervisor has not told yet that it sleeps");
        }
        changed
    }

    /// Sees to it that it wakes if it sleeps: returns when that is under way.
    pub(crate) async fn resume(&self, why: &str) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Resume { why: why.to_owned(), reply };
        self.commands.send(command).await.map_err(|_| Error::Ending)?;
        answer.await.map_err(|_| Error::Ending)?
    }

    /// Whether it is awake and serves.
    pub(crate) fn runs(&self) -> bool {
        matches!(*self.ready.borrow(), Ready::Yes(_))
    }

    /// Waits until it is awake and serves, however long that takes.
    pub(crate) async fn runs_some_time(&self) -> Result<()> {
        let mut ready = self.ready.clone();
        let runs = ready.wait_for(|ready| matches!(ready, Ready::Yes(_))).await;
        runs.map(drop).map_err(|_| Error::Ending)
    }

    /// Waits until it is awake, or off.
    pub(crate) async fn awake(&self) -> Result<()> {
        let mut ready = self.ready.clone();
        let settled = ready.wait_for(|ready| matches!(ready, Ready::Yes(_) | Ready::No(_))).await;
        match &*settled.map_err(|_| Error::Ending)? {
            Ready::No(failure) => Err(failure.clone().into()),
            _ => Ok(()),
        }
    }

    /// Tells what was decided about its sleep.
    pub(crate) async fn look(&self, decision: Decision) -> Result<()> {
        self.commands.send(Command::Look(decision)).await.map_err(|_| Error::Ending)
    }

    /// Asks its task something.
    pub(crate) async fn ask(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| Error::Ending)
    }

    /// Its supervisor, which may not run.
    pub(crate) fn supervisor(&self) -> supervisor::Supervisor {
        supervisor::connect(&self.home, &self.name())
    }

    /// What is known of it, as its task last told.
    pub(crate) fn last(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// What is known of it, with figures as they are now.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.last();
        if self.has_supervisor() {
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
        if !self.has_supervisor() {
            return Ok(Vec::new());
        }
        supervisor::connect(&self.home, &self.name()).ports().await
    }

    /// What was in it when it was stopped or put to sleep, while it is off or sleeps.
    pub(crate) fn record(&self) -> Option<Record> {
        let runs = self.has_processes() && !self.sleeps();
        if runs { None } else { record::read(&self.home.machine(&self.name())) }
    }

    /// Whether it sleeps.
    pub(crate) fn sleeps(&self) -> bool {
        self.snapshot.borrow().state == Some(State::Suspended)
    }

    /// Whether it can be dialled.
    pub(crate) fn ready(&self) -> Ready {
        self.ready.borrow().clone()
    }

    /// Waits while it is on its way; a machine that is off stays so, and one that sleeps is not woken by this.
    pub(crate) async fn settled(&self) -> Result<Settled> {
        let mut ready = self.ready.clone();
        loop {
            match &*ready.borrow_and_update() {
                Ready::Yes(dialer) | Ready::Asleep(dialer) => return Ok(Settled::Dial(dialer.clone())),
                Ready::Saved => return Ok(Settled::Saved),
                Ready::No(failure) => return Err(failure.clone().into()),
                Ready::Coming | Ready::Found => {}
            }
            ready.changed().await.map_err(|_| Error::Ending)?;
        }
    }

    /// Whether it can be dialled, as it is seen from now on: for [`moved_within`].
    pub(crate) fn watch_ready(&self) -> watch::Receiver<Ready> {
        let mut ready = self.ready.clone();
        ready.mark_unchanged();
        ready
    }

    /// Whether it was ever made.
    pub(crate) fn exists(&self) -> bool {
        self.snapshot.borrow().state.is_some_and(|state| state != State::Absent)
    }

    /// Whether processes of it may exist.
    pub(crate) fn has_processes(&self) -> bool {
        self.snapshot.borrow().state.is_some_and(State::has_processes)
    }

    /// Whether there is one to ask. It answers without waking a machine that sleeps.
    fn has_supervisor(&self) -> bool {
        self.has_processes() && !matches!(*self.ready.borrow(), Ready::Saved)
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

/// Whether a machine came or went, fell asleep or woke since `ready` was taken, or does so within this time.
pub(crate) async fn moved_within(ready: &mut watch::Receiver<Ready>, limit: Duration) -> bool {
    matches!(tokio::time::timeout(limit, ready.changed()).await, Ok(Ok(())))
}
