//! What a machine stands on while hypervisors come and go, and how one is started: from its files, or from a saved state.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dhow_channel::{Dialer, Gate, Mux};
use dhow_home::rotating::Rotating;
use dhow_home::{Home, MachineDir};
use dhow_hypervisor::{Hypervisor as _, Memory, Origin, Output, Qemu, Running};
use dhow_model::{MachineSpec, Purpose};
use dhow_proto::supervisor::Phase;
use tokio_util::sync::CancellationToken;

use crate::agent::Beginning;
use crate::changes::Line;
use crate::disk::{self, DataImage};
use crate::network::Network;
use crate::prepare::{self, Reach};
use crate::saved::Mark;
use crate::session::Session;
use crate::shares::Shares;
use crate::status::Status;
use crate::turns::Turns;
use crate::watch::{self, Machine};
use crate::{Error, Result};

/// For the guest's agent to answer the channel's first bytes.
const CHANNEL: Duration = Duration::from_secs(60);
/// For a hypervisor that was killed to be gone, after its lock is.
const LETTING_GO: Duration = Duration::from_secs(3);
/// Between two attempts meanwhile.
const AGAIN: Duration = Duration::from_millis(100);
/// How large a log of the machine may grow, and how many older ones are kept.
const LOG_LIMIT: u64 = 8 << 20;
const LOG_KEEP: u32 = 3;

/// What the supervisor has before it looks for anything.
pub struct Place<'a> {
    /// Dhow's directory.
    pub home: &'a Home,
    /// The machine's files.
    pub dir: MachineDir,
    /// What it is made from.
    pub spec: &'a MachineSpec,
    /// What it is started for.
    pub purpose: Purpose,
    /// Its network.
    pub network: &'a Network,
    /// The way to the guest, for others and for us.
    pub gate: Gate,
    /// Who may ask the guest something.
    pub turns: Turns,
    /// For the guest to become ready.
    pub limit: Duration,
}

/// Everything that is there whether or not a hypervisor runs.
pub struct Ground<'a> {
    /// What the supervisor began with.
    pub place: Place<'a>,
    /// The hypervisor that was found.
    pub qemu: Qemu,
    /// Its executable, as it was when it was found.
    pub executable: Mark,
    /// The data image, which nobody else may open.
    image: DataImage,
    /// What is shared, through every sleep and until the end.
    shares: Option<Shares>,
    /// Where its file server, which may be another one after a sleep, says what the host changes.
    line: tokio::sync::watch::Sender<Option<Line>>,
}

/// What a started hypervisor comes with.
pub struct Started {
    /// The hypervisor.
    pub running: Box<dyn Running>,
    /// How its guest is reached.
    pub reach: Reach,
    /// Its guest's memory, where it is ours.
    pub memory: Option<Memory>,
}

/// Finds the hypervisor, and its executable as it is now.
async fn hypervisor(spec: &MachineSpec) -> Result<(Qemu, Mark)> {
    let arch = spec.arch;
    let found = tokio::task::spawn_blocking(move || {
        let qemu = Qemu::find(arch)?;
        let path = qemu.path().to_owned();
        let mark = Mark::of(&path).map_err(|source| Error::File { path, source })?;
        Ok::<_, Error>((qemu, mark))
    });
    found.await.map_err(|_| Error::Ending)?
}

impl<'a> Ground<'a> {
    /// Opens the data image, starts the file server and finds the hypervisor.
    ///
    /// # Errors
    /// When either cannot be had.
    pub async fn find(place: Place<'a>, status: &Status) -> Result<Self> {
        let began = Instant::now();
        let image = disk::open(&place.dir, place.spec.disk, place.purpose).await?;
        let used = dhow_home::process::allocated_bytes(&place.dir.data_image());
        status.host_step("data image", began, &format!("{} sparse, {used} bytes used", place.spec.disk));
        let began = Instant::now();
        let shares = Shares::start(&place.dir, place.spec).await?;
        if let Some(shares) = &shares {
            status.host_step("shares", began, &format!("process {}", shares.pid()));
        }
        let (qemu, executable) = hypervisor(place.spec).await?;
        let line = shares.as_ref().map(Shares::line).transpose()?;
        Ok(Self { place, qemu, executable, image, shares, line: tokio::sync::watch::Sender::new(line) })
    }
}

impl Ground<'_> {
    /// Cancelled when the file server has ended; never where nothing is shared.
    #[must_use]
    pub fn shares_end(&self) -> CancellationToken {
        self.shares.as_ref().map_or_else(CancellationToken::new, Shares::ended)
    }

    /// Boots the machine: a hypervisor, a channel to its agent, and what follows the guest. A guest that resets itself before its agent
    /// has answered boots once more: it has done nothing yet, and one in some hundred emulated guests does, without a word.
    ///
    /// # Errors
    /// When the hypervisor does not start, or ends before its guest's agent answers.
    pub async fn boot(&mut self, status: &mut Status) -> Result<Machine> {
        let began = Instant::now();
        match self.boot_once(status).await {
            Err(error @ Error::WentOff { reset: true, .. }) => {
                tracing::warn!("{error}; it had not begun and boots once more");
                status.host_step("reset", began, "the guest reset itself before its agent answered");
                self.boot_once(status).await
            }
            other => other,
        }
    }

    async fn boot_once(&mut self, status: &mut Status) -> Result<Machine> {
        let began = Instant::now();
        if Mark::of(self.qemu.path()).ok().as_ref() != Some(&self.executable) {
            // It was replaced while the machine slept.
            (self.qemu, self.executable) = hypervisor(self.place.spec).await?;
        }
        self.serve_shares().await?;
        let memory = self.memory()?;
        let Started { mut running, reach, memory } = self.hypervise(memory, Origin::Boot).await?;
        status.hypervisor(running.pid(), reach.cid());
        status.host_step("hypervisor", began, self.qemu.name());
        status.phase(Phase::Booting, "");
        let (name, accelerator) = (self.qemu.name(), self.place.spec.accelerator);
        tracing::info!(pid = running.pid(), hypervisor = name, %accelerator, "the machine is on");
        let began = Instant::now();
        let mux = match self.connect(&reach, running.as_ref()).await {
            Ok(mux) => mux,
            Err(error) => return Err(watch::explain(running.as_mut(), error).await),
        };
        status.host_step("channel", began, "");
        let session = self.follow(Beginning::Boot);
        let machine = Machine { running, memory, mux, reach, session };
        self.open(&machine);
        Ok(machine)
    }

    /// Starts the file server anew if it has ended: it takes what its guest knew from the saved state.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn serve_shares(&mut self) -> Result<()> {
        if self.shares.as_mut().is_some_and(|shares| !shares.is_alive()) {
            self.shares = Shares::start(&self.place.dir, self.place.spec).await?;
            self.line.send_replace(self.shares.as_ref().map(Shares::line).transpose()?);
        }
        Ok(())
    }

    /// Lets everybody through to the guest.
    pub fn open(&self, machine: &Machine) {
        let dialer = match (&machine.mux, &machine.reach) {
            (Some(mux), _) => mux.dialer(),
            (None, Reach::Vsock(lease, token)) => Dialer::vsock(lease.cid, token.clone()),
            // Its session is over, and the machine with it.
            (None, Reach::Serial(_)) => return,
        };
        self.place.gate.open(dialer);
    }

    /// Follows the guest behind the gate.
    #[must_use]
    pub fn follow(&self, beginning: Beginning) -> Session {
        let dialer = self.place.gate.patient();
        Session::begin(
            self.place.home,
            self.place.spec.arch,
            self.place.network,
            dialer,
            &self.place.turns,
            beginning,
            self.line.subscribe(),
        )
    }

    /// Memory for a guest that may be put to sleep; none where the host cannot keep it apart from the hypervisor.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn memory(&self) -> Result<Option<Memory>> {
        match Memory::new(self.place.spec.memory) {
            Ok(memory) => Ok(Some(memory)),
            Err(dhow_hypervisor::Error::Unsupported(why)) => {
                tracing::debug!(%why, "this machine cannot sleep");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Starts a hypervisor, with the next context ID when the kernel says that one is taken (spec 8.2).
    ///
    /// # Errors
    /// When it does not start, or refuses the saved state.
    pub async fn hypervise(&self, memory: Option<Memory>, origin: Origin<'_>) -> Result<Started> {
        let mut refused = BTreeSet::new();
        let began = Instant::now();
        loop {
            let reach = prepare::reach(self.place.home, self.place.spec, &refused)?;
            let hardware =
                prepare::hardware(&self.place.dir, self.place.spec, self.place.purpose, &self.image, &reach)?;
            let copy = self.image.lock.file().try_clone();
            let copy = copy.map_err(|source| Error::File { path: self.place.dir.data_image(), source })?;
            let inherit = vec![OwnedFd::from(copy)];
            match self.qemu.start(&hardware, output(&self.place.dir)?, inherit, memory.as_ref(), origin).await
            {
                Ok(running) => return Ok(Started { running, reach, memory }),
                Err(dhow_hypervisor::Error::CidTaken(cid)) if refused.insert(cid) => {
                    tracing::info!(%cid, "the context ID is taken by another program; trying the next");
                }
                // The image's own lock is ours, so no other machine has it open: one that was killed is letting go of it.
                Err(dhow_hypervisor::Error::DiskInUse { path }) if began.elapsed() < LETTING_GO => {
                    tracing::info!(path = %path.display(), "the disk is still held by a process that ends; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Begins a session with the guest's agent, where the channel has sessions.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn connect(&self, reach: &Reach, running: &dyn Running) -> Result<Option<Mux>> {
        match reach {
            Reach::Vsock(..) => Ok(None),
            Reach::Serial(_) => Ok(Some(Mux::connect(running.serial().await?, CHANNEL).await?)),
        }
    }
}

impl Reach {
    /// The context ID, where there is one.
    #[must_use]
    pub fn cid(&self) -> Option<dhow_model::GuestCid> {
        match self {
            Self::Vsock(lease, _) => Some(lease.cid),
            Self::Serial(_) => None,
        }
    }
}

fn output(dir: &MachineDir) -> Result<Output> {
    let log = |path: std::path::PathBuf| {
        let opened = Rotating::open(&path, LOG_LIMIT, LOG_KEEP);
        opened.map_err(|source| Error::File { path, source })
    };
    Ok(Output { console: Box::new(log(dir.console_log())?), log: Box::new(log(dir.hypervisor_log())?) })
}
