//! The engine as a whole: a machine for each role, and what the daemon may ask of them.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dhow_channel::{Dialer, Stream};
use dhow_home::{Home, MachineDir};
use dhow_model::placement::{ForeignMachine, Host};
use dhow_model::sleep::After;
use dhow_model::{Arch, Config, Failure, MachineName, MachineSpec, Placement, Port, Record, Role};
use dhow_proto::supervisor::{PublishedPort, StopReply};
use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::handle::{Handle, Settled, Up, moved_within};
use crate::idle::Idle;
use crate::machine::Surroundings;
use crate::offer::{self, Offer, Platform};
use crate::plan::Planner;
use crate::progress::Reporter;
use crate::snapshot::{Event, Observed, Observer, Ready, Snapshot};
use crate::wake::Waking;
use crate::{Error, Result, native, translators};

/// For one dial into a guest that is up. The agent holds it while dockerd starts again.
const DIAL: Duration = Duration::from_secs(30);
/// For a supervisor's end, or a machine's sleep or wake, to be noticed.
const NOTICED: Duration = Duration::from_millis(500);
/// For such a start as a whole; whoever comes after that begins anew.
const START: Duration = Duration::from_secs(1800);
/// So often a request waits for a machine that dies, or falls asleep, under it.
const DEATHS: u32 = 3;
/// For a machine to come up for a request, its first boot assets included. It goes on coming when a request gives up.
pub(crate) const COME: Duration = Duration::from_secs(900);

/// The engine. Cheap to clone; the machines' tasks end when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    home: Home,
    planner: Arc<Planner>,
    native: Handle,
    foreign: Handle,
    pub(crate) waking: Waking,
    /// Machines were put to sleep for good: no request wakes one.
    pub(crate) ending: AtomicBool,
    offer: Arc<Offer>,
    /// As the configuration had it when this engine was opened or last brought up.
    placement: watch::Sender<Placement>,
    /// When machines are put to sleep, likewise.
    after: watch::Sender<After>,
    _idle: [AbortOnDropHandle<()>; 2],
    events: broadcast::Sender<Event>,
    observed: Observed,
}

/// How stopping one machine went.
#[derive(Debug)]
pub struct Stopped {
    /// The machine.
    pub machine: MachineName,
    /// What its supervisor said, or why it is not off.
    pub result: Result<StopReply>,
}

impl Engine {
    /// The engine of this directory, with what an earlier daemon left (spec 6.9). `executable` is what supervisors are
    /// started from.
    ///
    /// # Errors
    /// When the directory's files cannot be read.
    pub fn open(home: &Home, executable: PathBuf) -> Result<Self> {
        Self::with(home, executable, Planner::default(), Offer::default())
    }

    fn with(home: &Home, executable: PathBuf, planner: Planner, offer: Offer) -> Result<Self> {
        let events = broadcast::Sender::new(256);
        // A mistake in the file must not keep anybody from stopping machines; `up` tells it.
        let config = home.read_config().unwrap_or_default();
        let placement = watch::Sender::new(config.workloads.placement);
        let observed = Observed::default();
        let surroundings = Surroundings {
            home: home.clone(),
            executable,
            placement: placement.subscribe(),
            events: events.clone(),
            observed: observed.clone(),
        };
        let native = Handle::open(Role::Native, &surroundings)?;
        let foreign = Handle::open(Role::Foreign, &surroundings)?;
        let after = watch::Sender::new(config.sleep.after);
        let idle = |role, handle: &Handle| {
            let idle = Idle {
                role,
                handle: handle.bystander(),
                after: after.subscribe(),
                observed: observed.clone(),
            };
            AbortOnDropHandle::new(tokio::spawn(idle.keep()))
        };
        let shared = Shared {
            home: home.clone(),
            _idle: [idle(Role::Native, &native), idle(Role::Foreign, &foreign)],
            after,
            ending: AtomicBool::new(false),
            planner: Arc::new(planner),
            native,
            foreign,
            waking: Waking::default(),
            offer: Arc::new(offer),
            placement,
            events,
            observed,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tells `observer` of machines that can be dialled, now and from now on. There is one; later ones are not told.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        if !self.shared.observed.set(Arc::clone(&observer)) {
            tracing::warn!("the engine is observed already");
            return;
        }
        for role in Role::ALL {
            if matches!(self.handle(role).ready(), Ready::Yes(_)) {
                observer.changed(role, true);
            }
        }
    }

    /// Brings the native machine up as the configuration asks, and returns when Docker answers. A foreign machine that runs
    /// is made as the configuration asks, too; one that is off stays so (spec 6.5).
    ///
    /// # Errors
    /// Why the native machine could not. What is wrong with the foreign one is a warning.
    pub async fn up(&self, config: &Config, report: &Reporter) -> Result<Up> {
        let arch = config.native().ok_or(Error::Host)?;
        self.shared.placement.send_replace(config.workloads.placement);
        self.shared.after.send_replace(config.sleep.after);
        if Some(arch) != Arch::host() {
            report.note(format!("the machine native is {}", native::words(Arch::host(), arch)));
        }
        let made = self.last(Role::Native).spec.map(|spec| spec.arch);
        let native = Start::of(&self.shared, Role::Native);
        let mut up = native.start(config, arch, report).await?;
        up.warnings.extend(native::moved(made, arch));
        match self.foreign_after_up(config, arch, report).await {
            Ok(changed) => up.changed |= changed,
            Err(warning) => up.warnings.push(warning),
        }
        Ok(up)
    }

    /// What `up` has to do with the foreign machine; whether that changed anything.
    async fn foreign_after_up(
        &self,
        config: &Config,
        native: Arch,
        report: &Reporter,
    ) -> Result<bool, String> {
        let runs = self.shared.foreign.has_processes();
        let sleeps = self.shared.foreign.sleeps();
        if config.workloads.placement != Placement::ForeignMachine {
            let left = "the machine foreign still runs, although workloads.placement is \"native-machine\"; `dhow down` stops it";
            return if runs { Err(left.to_owned()) } else { Ok(false) };
        }
        let arch = self.shared.offer.foreign(native).await.map_err(|e| e.to_string())?;
        if sleeps {
            report.note("the machine foreign sleeps, and wakes as it was when a workload needs it");
            return Ok(false);
        }
        if !runs {
            let kind = native::kind(Arch::host(), arch);
            report.note(format!("the machine foreign ({kind}) boots when a workload needs it"));
            return Ok(false);
        }
        let up = Start::of(&self.shared, Role::Foreign).start(config, arch, report).await;
        up.map(|up| up.changed).map_err(|e| format!("the machine foreign: {}", e.failure().message))
    }

    /// Stops every machine, each through its own lifecycle, in order within `limit` or at once; returns when all have ended
    /// or failed to (spec 6.6).
    pub async fn down(&self, force: bool, limit: Duration) -> Vec<Stopped> {
        // No request starts the foreign machine meanwhile; afterwards native is off, which refuses them.
        let _hold = self.shared.waking.hold().await;
        let Shared { native, foreign, .. } = &*self.shared;
        let (first, second) = tokio::join!(native.down(force, limit), foreign.down(force, limit));
        let stopped = |handle: &Handle, result| Stopped { machine: handle.name(), result };
        vec![stopped(native, first), stopped(foreign, second)]
    }

    /// What is known of the machines, with figures as they are now: native first, and the foreign one if it was ever made.
    pub async fn snapshots(&self) -> Vec<(MachineName, Snapshot)> {
        let mut snapshots = Vec::new();
        for handle in self.machines() {
            snapshots.push((handle.name(), handle.snapshot().await));
        }
        snapshots
    }

    /// What is known of a role's machine, without asking its supervisor.
    #[must_use]
    pub fn last(&self, role: Role) -> Snapshot {
        self.handle(role).last()
    }

    /// What each machine publishes; nothing of one that does not run, which this never changes.
    pub async fn ports(&self) -> Vec<(MachineName, Result<Vec<PublishedPort>>)> {
        let mut ports = Vec::new();
        for handle in self.machines() {
            ports.push((handle.name(), handle.ports().await));
        }
        ports
    }

    fn machines(&self) -> impl Iterator<Item = &Handle> {
        let exists = |handle: &&Handle| handle.exists() || handle.name() == MachineName::native();
        [&self.shared.native, &self.shared.foreign].into_iter().filter(exists)
    }

    /// The machines that have processes now, or sleep.
    #[must_use]
    pub fn on(&self) -> Vec<MachineName> {
        self.machines().filter(|handle| handle.has_processes()).map(Handle::name).collect()
    }

    /// Every later transition of every machine.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The roles whose machines run now: asking these starts and wakes nothing (spec 2.6).
    #[must_use]
    pub fn running(&self) -> Vec<Role> {
        let runs = |role: &Role| matches!(self.handle(*role).ready(), Ready::Yes(_) | Ready::Found);
        Role::ALL.into_iter().filter(runs).collect()
    }

    /// What was in a role's machine when it was stopped in order or put to sleep; `None` while it runs, or if nobody could write it
    /// down.
    #[must_use]
    pub fn record(&self, role: Role) -> Option<Record> {
        self.handle(role).record()
    }

    /// Where foreign workloads go: as the configuration had it when the daemon started, or at the last `up`.
    #[must_use]
    pub fn placement(&self) -> Placement {
        *self.shared.placement.borrow()
    }

    /// What this host has, for admission (spec 1.1 to 1.5, 1.10): files are looked at, nothing is started.
    pub async fn host(&self, config: &Config) -> Host {
        let here = Platform::here();
        // A machine that runs has the last word on what it is and on what it has registered.
        let machine = self.handle(Role::Native);
        let made = if machine.has_processes() { machine.last().spec.map(|spec| spec.arch) } else { None };
        let native = made.or_else(|| config.native()).unwrap_or(Arch::Amd64);
        let answers = matches!(machine.ready(), Ready::Yes(_) | Ready::Asleep(_));
        let running = answers.then(|| machine.last().status);
        let placement = self.placement();
        let foreign = match placement {
            Placement::NativeMachine => Err("workloads.placement is \"native-machine\"".to_owned()),
            Placement::ForeignMachine => self.shared.offer.foreign(native).await.map_err(|e| e.why),
        };
        Host {
            name: here.to_string(),
            placement,
            native: native.into(),
            translators: translators::of(&self.shared.home, config, native, running.as_ref()),
            foreign: foreign.map(|arch| ForeignMachine { guest: arch.into(), translator: None }),
        }
    }

    /// Opens a stream to dockerd in this role's machine. A machine that is on its way is waited for, and one that sleeps is woken. The foreign one is
    /// started if it is off while native runs and the configuration wants one; nothing else starts a machine here, and no
    /// machine is started for the other's sake (spec 6.7).
    ///
    /// # Errors
    /// When the machine is off, could not be started or does not answer, and what to type.
    pub async fn docker(&self, role: Role) -> Result<Stream> {
        let mut deaths = 0;
        loop {
            let mut ready = self.handle(role).watch_ready();
            let dialer = tokio::time::timeout(COME, self.dialer(role)).await;
            let dialer = dialer.map_err(|_| Error::TooSlow { role, limit: COME })??;
            let error = match dialer.dial(Port::DOCKER, DIAL).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            // Its supervisor may have died a moment ago, or it sleeps, or could not be woken and boots: then it comes back, or there
            // is a better reason.
            deaths += 1;
            if deaths > DEATHS || !moved_within(&mut ready, NOTICED).await {
                return Err(Error::Supervisor { machine: role.machine(), why: error.to_string() });
            }
        }
    }

    async fn dialer(&self, role: Role) -> Result<Dialer> {
        let mut started = false;
        loop {
            match (role, self.handle(role).settled().await) {
                (_, Ok(Settled::Dial(dialer))) => return Ok(dialer),
                (_, Ok(Settled::Saved)) => {
                    if self.shared.ending.load(Ordering::Relaxed) {
                        return Err(Error::Ending);
                    }
                    offer::may_start(self.placement(), role)?;
                    tracing::info!(%role, "waking the machine for a request");
                    self.handle(role).resume("a Docker request").await?;
                }
                (Role::Foreign, Err(Error::Failed(_))) if !started => {
                    started = true;
                    let work = Start::of(&self.shared, role)
                        .for_a_request(self.shared.native.clone(), self.placement());
                    self.shared.waking.join(|| within(START, role, work)).await?;
                }
                (_, Err(error)) => return Err(error),
            }
        }
    }

    /// What a role's machine should be made of.
    pub(crate) async fn planned(
        &self,
        config: &Config,
        role: Role,
        arch: Arch,
        report: &Reporter,
    ) -> Result<MachineSpec> {
        let mut timeline = Handle::timeline();
        let Shared { home, planner, .. } = &*self.shared;
        planner.machine(home, config, role, arch, &mut timeline, report).await
    }

    /// The files of a role's machine.
    pub(crate) fn dir(&self, role: Role) -> MachineDir {
        self.shared.home.machine(&role.machine())
    }

    pub(crate) fn handle(&self, role: Role) -> &Handle {
        match role {
            Role::Native => &self.shared.native,
            Role::Foreign => &self.shared.foreign,
        }
    }
}

/// What starting a machine takes, apart from the engine, which it must not keep alive.
struct Start {
    home: Home,
    role: Role,
    planner: Arc<Planner>,
    offer: Arc<Offer>,
    handle: Handle,
}

impl Start {
    fn of(shared: &Shared, role: Role) -> Self {
        let handle = match role {
            Role::Native => &shared.native,
            Role::Foreign => &shared.foreign,
        };
        Self {
            home: shared.home.clone(),
            role,
            planner: Arc::clone(&shared.planner),
            offer: Arc::clone(&shared.offer),
            handle: handle.clone(),
        }
    }

    async fn start(&self, config: &Config, arch: Arch, report: &Reporter) -> Result<Up> {
        let mut timeline = Handle::timeline();
        let spec = self.planner.machine(&self.home, config, self.role, arch, &mut timeline, report).await?;
        self.handle.start(spec, timeline, report).await
    }

    /// Starts the foreign machine because a request needs it; what keeps it off is told as it concerns that machine.
    async fn for_a_request(self, native: Handle, placement: Placement) -> Result<(), Failure> {
        native.settled().await.map_err(|e| e.failure())?;
        offer::may_start(placement, self.role)?;
        let native = native.last().spec.map(|spec| spec.arch).or(Arch::host()).unwrap_or(Arch::Amd64);
        let arch = self.offer.foreign(native).await.map_err(|e| Error::from(e).failure())?;
        tracing::info!(%arch, "starting the foreign machine for a request");
        let config = self.home.read_config()?;
        match self.start(&config, arch, &Reporter::nobody()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let Failure { code, message, hint } = error.failure();
                tracing::warn!(code, message, "the foreign machine did not start");
                let kind = native::kind(Arch::host(), arch);
                let message = format!("the machine foreign ({kind}) could not be started: {message}");
                Err(Failure::new(code, message, hint))
            }
        }
    }
}

/// Work that brings up a machine, cut off when it takes too long.
async fn within(
    limit: Duration,
    role: Role,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(Error::TooSlow { role, limit }.failure()))
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
