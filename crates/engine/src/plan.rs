//! What an engine machine should be made of: the configuration, the boot assets and the host's probes, put together.

use std::path::{Path, PathBuf};
use std::time::Instant;

use dhow_assets::{BuildOptions, Bundle, Store};
use dhow_channel::vsock_usable;
use dhow_home::Home;
use dhow_hypervisor::probe;
use dhow_model::config::{Dns, Share, Shares, Wish};
use dhow_model::{Accelerator, Arch, ChannelKind, Config, MachineSpec, Role, Size};

use tokio::sync::Mutex;

use crate::progress::Reporter;
use crate::timeline::Timeline;
use crate::{Error, Result};

/// Free space below which nothing is started: logs, the description and the data disk's first blocks must fit.
const ROOM: Size = Size::mib(512);

/// Makes plans, one at a time: two would build the same assets.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    one: Mutex<()>,
    /// What every plan is, instead of what this host has.
    #[cfg(test)]
    given: Option<fn(Role) -> MachineSpec>,
}

impl Planner {
    /// Plans what `given` says.
    #[cfg(test)]
    pub(crate) fn given(given: fn(Role) -> MachineSpec) -> Self {
        Self { given: Some(given), ..Self::default() }
    }

    /// Computes the description of a role's machine, building boot assets where there are none. `arch` is the guest's.
    ///
    /// # Errors
    /// When this host cannot run it, or boot assets cannot be had.
    pub(crate) async fn machine(
        &self,
        home: &Home,
        config: &Config,
        role: Role,
        arch: Arch,
        timeline: &mut Timeline,
        report: &Reporter,
    ) -> Result<MachineSpec> {
        let _one = self.one.lock().await;
        #[cfg(test)]
        if let Some(given) = self.given {
            return Ok(given(role));
        }
        room(home.root())?;

        let began = Instant::now();
        report.step("choosing how to run the guest");
        let choice = probe::accelerator(arch, wish(config, role, Arch::host() == Some(arch))).await?;
        blocking(move || Ok(dhow_hypervisor::Qemu::find(arch)?)).await?;
        timeline.step("probe", began, choice.reason.clone());
        report.detail(choice.reason);

        let began = Instant::now();
        report.step("checking boot assets");
        let bundle = assets(home, config, arch, report.clone()).await?;
        timeline.step("assets", began, bundle.id.clone());

        let spec = spec(config, role, arch, choice.accelerator, channel(), host_cpus(), bundle);
        Ok(MachineSpec { shares: shares(config), ..spec })
    }
}

/// What should execute the guest's instructions. No processor runs those of another architecture (`ours` says whether it is
/// this one's); a foreign machine is of this one's where the native machine is not.
const fn wish(config: &Config, role: Role, ours: bool) -> Wish {
    match role {
        Role::Native => config.machine.accelerator,
        Role::Foreign if ours => Wish::Auto,
        Role::Foreign => Wish::Tcg,
    }
}

/// The description, from facts only; what is shared is a question to the file system.
fn spec(
    config: &Config,
    role: Role,
    arch: Arch,
    accelerator: Accelerator,
    channel: ChannelKind,
    host_cpus: u32,
    bundle: Bundle,
) -> MachineSpec {
    let (cpus, memory, disk) = match role {
        Role::Native => (config.machine.cpus, config.machine.memory, config.machine.disk),
        Role::Foreign => (config.foreign.cpus, config.foreign.memory, config.foreign.disk),
    };
    // The host has one port for names, and the native machine's supervisor has it.
    let dns = match role {
        Role::Native => config.dns.clone(),
        Role::Foreign => Dns { port: 0 },
    };
    MachineSpec {
        name: role.machine(),
        arch,
        accelerator,
        cpus: cpus.resolve(host_cpus),
        memory,
        disk,
        kernel: bundle.kernel,
        initrd: bundle.initrd,
        root: bundle.root,
        cmdline: dhow_hypervisor::cmdline(arch, accelerator),
        channel,
        network: config.network.clone(),
        dns,
        shares: Vec::new(),
    }
}

/// What the machine shares: each directory also under its real name, since a shell's working directory may be either.
#[must_use]
pub fn shares(config: &Config) -> Vec<Share> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    // A user without a home shares none; a directory that the configuration names must be there.
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_dir());
    let mut named = config.files.shares.resolve(home.as_deref());
    let real = named.iter().filter_map(|share| {
        let path = std::fs::canonicalize(&share.path).ok().filter(|path| *path != share.path)?;
        Some(Share { path, access: share.access })
    });
    let both: Vec<Share> = real.collect();
    named.extend(both);
    Shares(named).resolve(None)
}

/// Where the agent for guests of this architecture is: in the directory that `DHOW_AGENTS` names, or else beside our own
/// executable.
#[must_use]
pub fn agent_file(arch: Arch) -> PathBuf {
    let beside = || std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let dir = std::env::var_os("DHOW_AGENTS").filter(|v| !v.is_empty()).map(PathBuf::from).or_else(beside);
    dir.unwrap_or_default().join(format!("dhow-agent-{arch}"))
}

/// The assets to boot from: those in the store if they are whole and hold our agent, or else new ones.
async fn assets(home: &Home, config: &Config, arch: Arch, report: Reporter) -> Result<Bundle> {
    let store = home.asset_store();
    let root = home.root().to_owned();
    let mirror = Some(config.assets.mirror.clone()).filter(|m| !m.is_empty());
    let agent = agent_file(arch);
    let work = move || {
        let failed = |source| Error::Assets { arch, source };
        let store = Store::open(store).map_err(failed)?;
        let current = store.current(arch).map_err(failed)?;
        let bundle = match (current, agent.exists()) {
            (Some(bundle), false) => bundle,
            (None, false) => return Err(Error::NoAgent { arch, looked: agent }),
            (Some(bundle), true) if holds(&bundle, &agent)? => bundle,
            (_, true) => {
                report.step("building boot assets");
                let mut options = BuildOptions::new(arch, agent);
                options.mirror = mirror.or(options.mirror);
                dhow_assets::build(&store, &options, &mut |p| report.detail(words(&p))).map_err(failed)?
            }
        };
        store.check_quick(&bundle).map_err(failed)?;
        store.register_use(&root, &bundle.digests()).map_err(failed)?;
        Ok(bundle)
    };
    blocking(work).await
}

/// Does work that blocks where it keeps nobody waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Ending),
    }
}

/// Whether the assets were built with this very agent.
fn holds(bundle: &Bundle, agent: &Path) -> Result<bool> {
    let file = |source| Error::File { path: agent.to_owned(), source };
    let (sha256, _) = dhow_assets::hash::file(agent).map_err(|e| file(std::io::Error::other(e)))?;
    Ok(sha256 == bundle.manifest.agent.sha256)
}

/// A build's progress in one line.
#[must_use]
pub fn words(progress: &dhow_assets::Progress) -> String {
    match progress {
        dhow_assets::Progress::Begin { step, detail } => format!("{} {detail}", step.verb()),
        dhow_assets::Progress::Bytes { step, detail, done, total } => {
            format!("{} {detail}: {} of {} MiB", step.verb(), done >> 20, total >> 20)
        }
        dhow_assets::Progress::Note { text } => text.clone(),
    }
}

pub(crate) fn channel() -> ChannelKind {
    match vsock_usable() {
        Ok(()) => ChannelKind::Vsock,
        Err(reason) => {
            tracing::debug!(%reason, "vsock is not usable; the channel is a virtio-serial port");
            ChannelKind::Serial
        }
    }
}

fn host_cpus() -> u32 {
    std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()).unwrap_or(1)
}

/// What is free on the disk. Refuses to start where that is too little: a guest whose disk cannot be written stops in the
/// middle of its work.
pub(crate) fn room(path: &Path) -> Result<Size> {
    let file = |e: rustix::io::Errno| Error::File { path: path.to_owned(), source: e.into() };
    let fs = rustix::fs::statvfs(path).map_err(file)?;
    let free = Size::mib(fs.f_bavail.saturating_mul(fs.f_frsize) >> 20);
    if free < ROOM {
        return Err(Error::DiskFull { path: path.to_owned(), free, needed: ROOM });
    }
    Ok(free)
}
