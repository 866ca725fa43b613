//! The engine as a whole: its machine, and what the daemon may ask of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_channel::Dialer;
use dhow_home::Home;
use dhow_model::{Config, Failure, MachineName, MachineSpec, Port, State};
use dhow_proto::supervisor::{PublishedPort, StopReply};
use tokio::sync::{Mutex, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::machine::{Command, Machine};
use crate::progress::Reporter;
use crate::snapshot::{Event, Ready, Snapshot};
use crate::timeline::{Timed, Timeline};
use crate::{Error, Result, plan, supervisor};

/// For one dial into a guest that is up. The agent holds it while dockerd starts again.
const DIAL: Duration = Duration::from_secs(30);

/// The engine. Cheap to clone; the machine's task ends when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    home: Home,
    /// One plan is made at a time: two would build the same assets.
    planning: Mutex<()>,
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    ready: watch::Receiver<Ready>,
    events: broadcast::Sender<Event>,
    task: JoinHandle<()>,
}

/// What came of `up`.
#[derive(Debug, Clone)]
pub struct Up {
    /// False when all was as asked already.
    pub changed: bool,
    /// The steps of the start.
    pub timeline: Vec<Timed>,
}

impl Engine {
    /// The engine of this directory, with what an earlier daemon left (spec 6.9). `executable` is what supervisors are
    /// started from.
    ///
    /// # Errors
    /// When the directory's files cannot be read.
    pub fn open(home: &Home, executable: PathBuf) -> Result<Self> {
        let name = MachineName::native();
        let (snapshot_in, snapshot) = watch::channel(Snapshot::default());
        let off = Failure::new("engine-off", "the engine has not been started", "dhow up");
        let (ready_in, ready) = watch::channel(Ready::No(off));
        let events = broadcast::Sender::new(256);
        let mut machine = Machine::new(home, name, executable, snapshot_in, ready_in, events.clone());
        machine.recover()?;
        let (commands, queue) = mpsc::channel(16);
        let task = tokio::spawn(machine.run(queue));
        let shared =
            Shared { home: home.clone(), planning: Mutex::new(()), commands, snapshot, ready, events, task };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Brings the engine up as the configuration asks, and returns when Docker answers.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn up(&self, config: &Config, report: &Reporter) -> Result<Up> {
        let mut timeline = Timeline::new(Instant::now());
        let spec = {
            let _one = self.shared.planning.lock().await;
            plan::native(&self.shared.home, config, &mut timeline, report).await?
        };
        self.start(spec, timeline, report).await
    }

    /// Brings up the machine that `spec` describes.
    async fn start(&self, spec: MachineSpec, timeline: Timeline, report: &Reporter) -> Result<Up> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Up { spec: Box::new(spec), timeline, report: report.clone(), reply };
        self.shared.commands.send(command).await.map_err(|_| Error::Ending)?;
        let changed = answer.await.map_err(|_| Error::Ending)??;
        Ok(Up { changed, timeline: self.shared.snapshot.borrow().timeline.clone() })
    }

    /// Stops the machine, in order within `limit` or at once, and returns when it is off.
    ///
    /// # Errors
    /// When it is not off in the end.
    pub async fn down(&self, force: bool, limit: Duration) -> Result<StopReply> {
        let name = MachineName::native();
        if force && supervisor::is_running(&self.shared.home.machine(&name))? {
            // The machine's task may be in the middle of a graceful stop, which this cuts short (spec 6.6).
            supervisor::connect(&self.shared.home, &name).stop(true, limit).await?;
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Down { force, limit, reply };
        self.shared.commands.send(command).await.map_err(|_| Error::Ending)?;
        answer.await.map_err(|_| Error::Ending)?
    }

    /// What is known of the machine, with figures as they are now.
    pub async fn snapshot(&self) -> (MachineName, Snapshot) {
        let name = MachineName::native();
        let mut snapshot = self.shared.snapshot.borrow().clone();
        if snapshot.state.is_some_and(State::has_processes) {
            match supervisor::connect(&self.shared.home, &name).status().await {
                Ok(status) => snapshot.status = status,
                Err(error) if snapshot.trouble.is_empty() => snapshot.trouble = error.to_string(),
                Err(error) => tracing::debug!(%error, "the status is the last one that was told"),
            }
        }
        (name, snapshot)
    }

    /// What the machine publishes; nothing when it does not run, which this never changes.
    ///
    /// # Errors
    /// When its supervisor does not answer.
    pub async fn ports(&self) -> Result<(MachineName, Vec<PublishedPort>)> {
        let name = MachineName::native();
        let running = self.shared.snapshot.borrow().state.is_some_and(State::has_processes);
        let ports =
            if running { supervisor::connect(&self.shared.home, &name).ports().await? } else { Vec::new() };
        Ok((name, ports))
    }

    /// Every later transition.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Opens a stream to dockerd. A machine that is on its way is waited for, since its start has a time limit of its own.
    ///
    /// # Errors
    /// When the machine is off or does not answer.
    pub async fn docker(&self) -> Result<dhow_channel::Stream> {
        let dialer = self.ready().await?;
        dialer
            .dial(Port::DOCKER, DIAL)
            .await
            .map_err(|e| Error::Supervisor { machine: MachineName::native(), why: e.to_string() })
    }

    async fn ready(&self) -> Result<Dialer> {
        let mut ready = self.shared.ready.clone();
        loop {
            match &*ready.borrow_and_update() {
                Ready::Yes(dialer) => return Ok(dialer.clone()),
                Ready::No(failure) => return Err(failure.clone().into()),
                Ready::Coming => {}
            }
            ready.changed().await.map_err(|_| Error::Ending)?;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The task owns no process: supervisors go on without us.
        self.task.abort();
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
