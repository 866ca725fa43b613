//! One machine, owned by one task: it alone moves the state, drives the supervisor, and decides when to try again.
//!
//! Others see it through two watched values: a [`Snapshot`] for people, and [`Ready`] for whoever wants to dial the guest.

mod apart;
mod asleep;
mod happens;
mod limit;
mod phases;
mod seen;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dhow_home::{Home, MachineDir, atomic};
use dhow_model::drift::Drift;
use dhow_model::lifecycle::Event as Move;
use dhow_model::sleep::Decision;
use dhow_model::{Failure, Lifecycle, MachineName, MachineSpec, Placement, Purpose, Role, Size, State};
use dhow_proto::supervisor::{MachineStatus, StopReply, SuspendRequest};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::decide::{self, Action};
use crate::progress::Reporter;
use crate::retry::Retries;
use crate::snapshot::{Event, Observed, Ready, Snapshot};
use crate::supervisor::{self, Supervisor, Told};
use crate::timeline::Timeline;
use crate::{Error, Result, offer, record};

pub(crate) use apart::{Ask, failure as rescue_failure};

/// For the observer of a machine that is about to be stopped.
const OBSERVER: Duration = Duration::from_secs(3);

/// A request to the machine's task.
pub(crate) enum Command {
    Up {
        spec: Box<MachineSpec>,
        timeline: Timeline,
        report: Reporter,
        reply: oneshot::Sender<Result<bool>>,
    },
    Down {
        force: bool,
        limit: Duration,
        reply: oneshot::Sender<Result<StopReply>>,
    },
    /// Answered when it sleeps: whether that is new.
    Suspend {
        request: SuspendRequest,
        reply: oneshot::Sender<Result<bool>>,
    },
    /// Answered when it wakes, or is about to.
    Resume {
        why: String,
        reply: oneshot::Sender<Result<()>>,
    },
    /// What was decided about its sleep.
    Look(Decision),
    /// Something about its data disk.
    Disk(Ask),
}

/// What every machine of an engine shares.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The directory.
    pub(crate) home: Home,
    /// What supervisors are started from.
    pub(crate) executable: PathBuf,
    /// Where foreign workloads go.
    pub(crate) placement: watch::Receiver<Placement>,
    /// Who hears of transitions.
    pub(crate) events: broadcast::Sender<Event>,
    /// Who hears of machines that can be dialled.
    pub(crate) observed: Observed,
}

/// The machine's task.
pub(crate) struct Machine {
    shared: Surroundings,
    role: Role,
    name: MachineName,
    dir: MachineDir,
    lifecycle: Lifecycle,
    spec: Option<MachineSpec>,
    /// How much of its memory it may use, where that was ever changed since it was made.
    limit: Option<Size>,
    /// What it is booted for.
    purpose: Purpose,
    supervisor: Option<Supervised>,
    /// Its supervisor was found running, and has not said yet how the machine is.
    found: bool,
    retries: Retries,
    retry_at: Option<Instant>,
    ready_since: Option<Instant>,
    timeline: Timeline,
    waiting: Vec<oneshot::Sender<Result<bool>>>,
    /// What its supervisor was asked and takes time for; each ends with what those in `waiting` should know.
    calls: JoinSet<Option<Failure>>,
    /// Why it was last asked to sleep, until it does.
    why: Option<String>,
    snapshot: watch::Sender<Snapshot>,
    ready: watch::Sender<Ready>,
}

/// A supervisor that runs, and the tasks that belong to it.
struct Supervised {
    supervisor: Supervisor,
    told: mpsc::Receiver<Told>,
    watch: JoinHandle<()>,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

enum Next {
    Command(Option<Command>),
    Told(Told),
    Called(Option<Failure>),
    Retry,
}

impl Machine {
    pub(crate) fn new(
        role: Role,
        shared: Surroundings,
        snapshot: watch::Sender<Snapshot>,
        ready: watch::Sender<Ready>,
    ) -> Self {
        let name = role.machine();
        let dir = shared.home.machine(&name);
        Self {
            shared,
            role,
            name,
            dir,
            lifecycle: Lifecycle::absent(),
            spec: None,
            limit: None,
            purpose: Purpose::Serve,
            supervisor: None,
            found: false,
            retries: Retries::default(),
            retry_at: None,
            ready_since: None,
            timeline: Timeline::new(Instant::now()),
            waiting: Vec::new(),
            calls: JoinSet::new(),
            why: None,
            snapshot,
            ready,
        }
    }

    /// Finds what an earlier daemon left (spec 6.9): a supervisor that runs is attached to, and a machine that was wanted and
    /// has none is started again. One that sleeps goes on sleeping, with a supervisor or without.
    ///
    /// # Errors
    /// When the machine's files cannot be read.
    pub(crate) fn recover(&mut self) -> Result<()> {
        let path = self.dir.spec();
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(spec) => {
                    self.spec = Some(spec);
                    self.limit = self.limit_written();
                    self.lifecycle = Lifecycle::found();
                }
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "the description is damaged; it is made anew")
                }
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path, source }),
        }
        let saved = self.spec.is_some() && self.is_saved();
        if saved {
            self.lifecycle = Lifecycle::asleep();
        }
        if self.spec.is_some() && supervisor::is_running(&self.dir)? {
            self.attach(supervisor::connect(&self.shared.home, &self.name));
            if !saved {
                self.found = true;
                self.go(Move::Start, "a running supervisor was found");
            }
        } else if saved {
            tracing::info!(machine = %self.name, "the machine sleeps; the first who needs it wakes it");
        } else if self.spec.is_some() && self.dir.wanted().exists() {
            match offer::may_start(*self.shared.placement.borrow(), self.role) {
                Ok(()) => {
                    tracing::warn!(machine = %self.name, "the machine ended while no daemon ran; starting it again");
                    self.retry_at = Some(Instant::now());
                }
                Err(failure) => {
                    tracing::info!(machine = %self.name, %failure, "the machine is not started again");
                    self.want(false)?;
                }
            }
        }
        self.publish();
        Ok(())
    }

    /// Owns the machine until every sender of commands is gone. The supervisor goes on.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let retry = self.retry_at;
            let next = tokio::select! {
                command = commands.recv() => Next::Command(command),
                told = told(self.supervisor.as_mut()) => Next::Told(told),
                Some(called) = self.calls.join_next() => Next::Called(called.unwrap_or_default()),
                () = until(retry) => Next::Retry,
            };
            match next {
                Next::Command(None) => return,
                Next::Command(Some(Command::Up { spec, timeline, report, reply })) => {
                    self.up(*spec, timeline, &report, reply).await;
                }
                Next::Command(Some(Command::Down { force, limit, reply })) => {
                    let done = self.down(force, limit, "asked to stop").await;
                    self.publish();
                    if reply.send(done).is_err() {
                        tracing::debug!("whoever asked to stop did not wait for the answer");
                    }
                }
                Next::Command(Some(Command::Suspend { request, reply })) => self.suspend(request, reply),
                Next::Command(Some(Command::Resume { why, reply })) => self.resume(why, reply).await,
                Next::Command(Some(Command::Look(decision))) => self.look(decision),
                Next::Command(Some(Command::Disk(ask))) => self.disk(ask).await,
                Next::Called(failure) => self.called(failure).await,
                Next::Told(Told::Status(status)) => self.status(*status),
                Next::Told(Told::Gone) => self.gone(),
                Next::Retry => {
                    self.retry_at = None;
                    self.timeline = Timeline::new(Instant::now());
                    if let Err(error) = self.start().await {
                        self.failed(error.failure(), Duration::ZERO);
                    }
                }
            }
            self.publish();
        }
    }

    async fn up(
        &mut self,
        spec: MachineSpec,
        timeline: Timeline,
        report: &Reporter,
        reply: oneshot::Sender<Result<bool>>,
    ) {
        self.retries.reset();
        self.retry_at = None;
        match self.bring_up(spec, timeline, report).await {
            Ok(Some(changed)) => answer(reply, Ok(changed)),
            Ok(None) => self.waiting.push(reply),
            Err(error) => {
                if let Error::Failed(_) | Error::Launch { .. } = &error {
                    tracing::error!(%error, "the machine could not be started");
                }
                answer(reply, Err(error));
            }
        }
    }

    /// `Some` when the machine is up already; `None` when it is on its way.
    async fn bring_up(
        &mut self,
        spec: MachineSpec,
        timeline: Timeline,
        report: &Reporter,
    ) -> Result<Option<bool>> {
        let (spec, changed) = self.limited(spec, report).await?;
        let decided = decide::up(self.lifecycle.state(), self.spec.as_ref(), &spec);
        match decided.map_err(|shrink| Error::DiskWouldShrink { role: self.role, shrink })? {
            Action::Nothing => return Ok(Some(changed)),
            Action::Wait => {
                report.step(format!("waiting for {}, which is starting", self.name));
                return Ok(None);
            }
            // Stopping is a part of one command of ours, so another command never sees it.
            Action::WaitForEnd => {
                return Err(Error::State { machine: self.name.clone(), state: self.lifecycle.state() });
            }
            Action::Wake => {
                self.timeline = timeline.of_a_wake();
                report.step(format!("waking {}", self.name));
                self.want(true)?;
                self.wake().await?;
                return Ok(None);
            }
            Action::Forget(drift) => {
                tell(report, &drift);
                report.note(format!(
                    "{} slept as it was before; what was saved is set aside and it boots",
                    self.name
                ));
                self.leave().await?;
            }
            Action::Restart(drift) => {
                tell(report, &drift);
                report.step(format!("stopping {} to make it anew around its disk", self.name));
                self.down(false, Duration::from_secs(45), "its configuration changed").await?;
            }
            Action::Start(drift) => tell(report, &drift),
        }
        self.make(spec)?;
        self.unlimited()?;
        self.purpose = Purpose::Serve;
        self.timeline = timeline;
        report.step(format!("starting {}", self.name));
        self.want(true)?;
        let started = self.start().await;
        if let Err(error) = started {
            let failure = error.failure();
            self.fail(&failure);
            self.want_no_more_unless_native();
            return Err(failure.into());
        }
        Ok(None)
    }

    /// Writes down what the machine is made from.
    fn make(&mut self, spec: MachineSpec) -> Result<()> {
        if self.spec.as_ref() == Some(&spec) {
            return Ok(());
        }
        let first = self.lifecycle.state() == State::Absent;
        self.write_spec(spec)?;
        self.go(if first { Move::Create } else { Move::Remake }, "");
        Ok(())
    }

    fn write_spec(&mut self, spec: MachineSpec) -> Result<()> {
        self.dir.create()?;
        let path = self.dir.spec();
        let file = |source| Error::File { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(&spec).map_err(|e| file(e.into()))?;
        atomic::write(&path, &text, 0o600).map_err(file)?;
        self.spec = Some(spec);
        Ok(())
    }

    /// Launches the supervisor of a machine that is off, or that sleeps without one.
    async fn start(&mut self) -> Result<()> {
        record::clear(&self.dir)?;
        let sleeps = self.lifecycle.state() == State::Suspended;
        self.go(if sleeps { Move::Resume } else { Move::Start }, "");
        self.publish();
        let began = Instant::now();
        self.timeline.launched();
        let (supervisor, mut child) =
            supervisor::start(&self.shared.home, &self.name, self.purpose, &self.shared.executable).await?;
        self.timeline.step("supervisor", began, "");
        // Ends with the supervisor, which it reaps.
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::debug!(%status, "the supervisor has ended"),
                Err(error) => tracing::warn!(%error, "the supervisor could not be reaped"),
            }
        });
        self.attach(supervisor);
        Ok(())
    }

    fn attach(&mut self, supervisor: Supervisor) {
        let (sender, told) = mpsc::channel(16);
        let watch = tokio::spawn(supervisor.clone().watch(sender));
        self.supervisor = Some(Supervised { supervisor, told, watch });
    }

    async fn down(&mut self, force: bool, limit: Duration, reason: &str) -> Result<StopReply> {
        // A home that cannot be written keeps nobody from stopping.
        let noted = self.want(false).map_err(|error| {
            format!("{error}; that it is to be off is not noted, and a next daemon starts it again")
        });
        let mut stopped = self.stop(force, limit, reason).await;
        if let (Ok(reply), Err(why)) = (&mut stopped, noted) {
            reply.errors.push(why);
        }
        stopped
    }

    async fn stop(&mut self, force: bool, limit: Duration, reason: &str) -> Result<StopReply> {
        self.retry_at = None;
        self.found = false;
        let asleep = self.lifecycle.state() == State::Suspended;
        if asleep && self.supervisor.is_none() {
            if force {
                self.drop_saved()?;
                self.go(Move::Discard, reason);
            } else {
                // What it was doing when it was put to sleep ends in order.
                self.start().await?;
            }
        }
        let Some(supervised) = self.supervisor.take() else {
            self.publish();
            return Ok(StopReply::default());
        };
        if !force
            && !asleep
            && let Some(observer) = self.shared.observed.get()
        {
            let told = tokio::time::timeout(OBSERVER, observer.stopping(self.role)).await;
            if told.is_err() {
                tracing::warn!(machine = %self.name, "whoever keeps connections to its dockerd was too slow to end them");
            }
        }
        self.go(Move::Stop, reason);
        self.publish();
        let stopped = supervised.supervisor.stop(force, limit).await;
        match &stopped {
            Ok(_) => {
                // A supervisor that had to be killed may have left it.
                if let Err(error) = self.drop_saved() {
                    tracing::warn!(machine = %self.name, %error, "what was saved of the machine is still there");
                }
                self.go(Move::Ended, "");
            }
            Err(error) => {
                self.go(Move::Fail, &error.to_string());
                self.supervisor = Some(supervised);
            }
        }
        let failure = Failure::new("stopped", format!("machine {} was stopped", self.name), "run `dhow up`");
        self.answer_all(&failure);
        self.ready_since = None;
        self.snapshot.send_modify(|s| s.status = MachineStatus::default());
        stopped
    }

    /// Notes whether the user wants the machine up, for a next daemon.
    fn want(&self, wanted: bool) -> Result<()> {
        let path = self.dir.wanted();
        let done = match (wanted, path.exists()) {
            (true, false) => atomic::write(&path, b"", 0o600),
            (false, true) => atomic::remove(&path),
            _ => Ok(()),
        };
        done.map_err(|source| Error::File { path, source })
    }

    /// Who wanted a foreign machine that did not start was told; the next one who needs it asks anew (spec 6.5).
    fn want_no_more_unless_native(&self) {
        if self.role != Role::Native
            && let Err(error) = self.want(false)
        {
            tracing::warn!(machine = %self.name, %error, "cannot note that the machine is not wanted");
        }
    }
}

fn tell(report: &Reporter, drift: &[Drift]) {
    for drift in drift {
        report.note(format!("changed: {drift}"));
    }
}

fn answer(reply: oneshot::Sender<Result<bool>>, result: Result<bool>) {
    if reply.send(result).is_err() {
        tracing::debug!("whoever asked did not wait for the answer");
    }
}

async fn told(supervised: Option<&mut Supervised>) -> Told {
    match supervised {
        Some(supervised) => match supervised.told.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
