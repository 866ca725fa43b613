//! What the daemon may ask about a machine's data disk: what it takes, giving back what is free, growth, and a check.

use std::time::Duration;

use dhow_home::process::allocated_bytes;
use dhow_model::drift::DiskWouldShrink;
use dhow_model::{Arch, Config, Role, Size, State};
use dhow_proto::agent::{CheckDataReply, DiskUsageReply, DiskUsageRequest, GrowDataRequest, TrimRequest};
use tokio::sync::oneshot;

use crate::machine::{Ask, Command};
use crate::progress::Reporter;
use crate::{Engine, Error, Result, agent};

/// dockerd walks through every volume to say how large it is.
const USAGE: Duration = Duration::from_secs(70);
/// For a trim and for a growth, which the agent limits as well.
const WORK: Duration = Duration::from_secs(660);

/// What a data disk takes.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskUsage {
    /// The image's size.
    pub logical: u64,
    /// What it takes of the host's disk.
    pub allocated: u64,
    /// What the guest says; absent while the machine does not run.
    pub inside: Option<DiskUsageReply>,
    /// Why that is absent, although the machine runs.
    pub warning: Option<String>,
}

/// What came of giving back what is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// What the image took of the host's disk.
    pub before: u64,
    /// What it takes now.
    pub after: u64,
}

/// What came of growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// The image's size.
    pub logical: u64,
    /// The file system's; `None` when it grows at the next start.
    pub filesystem: Option<u64>,
}

impl Engine {
    /// What a machine's data disk takes. Starts and wakes nothing.
    pub async fn disk_usage(&self, role: Role) -> DiskUsage {
        let (dir, handle) = (self.dir(role), self.handle(role));
        let image = dir.data_image();
        let inside = match handle.last().state {
            Some(State::Running | State::Idle) => {
                let mut client = agent::client(&dir);
                let asked = tokio::time::timeout(USAGE, client.disk_usage(DiskUsageRequest {})).await;
                Some(agent::said(&role.machine(), "disk_usage", asked))
            }
            _ => None,
        };
        let (inside, warning) = match inside {
            Some(Ok(inside)) => (Some(inside), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let logical = image.metadata().map_or(0, |m| m.len());
        DiskUsage { logical, allocated: allocated_bytes(&image), inside, warning }
    }

    /// Makes holes in the image where the guest's file system has nothing. A machine that sleeps is woken for it.
    ///
    /// # Errors
    /// When the machine is off, or its agent cannot do it.
    pub async fn disk_compact(&self, role: Role) -> Result<Compacted> {
        self.woken(role, "its data disk is compacted").await?;
        let dir = self.dir(role);
        let before = allocated_bytes(&dir.data_image());
        let asked = tokio::time::timeout(WORK, agent::client(&dir).trim(TrimRequest {})).await;
        agent::said(&role.machine(), "trim", asked)?;
        Ok(Compacted { before, after: allocated_bytes(&dir.data_image()) })
    }

    /// Makes the data disk as large as the configuration asks: now if the machine runs, and at its next start if it does not. Each
    /// step leaves what a machine that is killed then starts with: first the size is written down, then the image grows, then the
    /// file system in it.
    ///
    /// # Errors
    /// When it would shrink, or the machine could not do it now; it grows at its next start then.
    pub async fn disk_grow(&self, role: Role, config: &Config) -> Result<Grown> {
        let asked = asked(role, config);
        let (dir, handle) = (self.dir(role), self.handle(role));
        let image = dir.data_image();
        let made = Size::bytes(image.metadata().map_or(0, |m| m.len()));
        if asked < made {
            return Err(Error::DiskWouldShrink { role, shrink: DiskWouldShrink { made, asked } });
        }
        let awake = matches!(handle.last().state, Some(State::Running | State::Idle | State::Suspended));
        if !awake {
            return Ok(Grown { logical: made.as_bytes(), filesystem: None });
        }
        self.woken(role, "its data disk grows").await?;
        let (reply, written) = oneshot::channel();
        handle.ask(Command::Disk(Ask::Resized { disk: asked, reply })).await?;
        written.await.map_err(|_| Error::Ending)??;
        let mut client = agent::client(&dir);
        handle.supervisor().grow_disk(asked.as_bytes()).await?;
        let request = GrowDataRequest { bytes: asked.as_bytes() };
        let grown = tokio::time::timeout(WORK, client.grow_data(request)).await;
        let grown = agent::said(&role.machine(), "grow_data", grown)?;
        Ok(Grown { logical: image.metadata().map_or(0, |m| m.len()), filesystem: Some(grown.total_bytes) })
    }

    /// Waits until the machine is awake, waking it if it sleeps.
    async fn woken(&self, role: Role, why: &str) -> Result<()> {
        let handle = self.handle(role);
        if handle.sleeps() {
            handle.resume(why).await?;
        }
        handle.awake().await
    }

    /// Checks the file system of a machine that is off or in rescue, in a guest that is booted for it, and repairs it if asked to.
    ///
    /// # Errors
    /// When the machine runs or sleeps, or its guest cannot be booted.
    pub async fn disk_check(
        &self,
        role: Role,
        config: &Config,
        repair: bool,
        report: &Reporter,
    ) -> Result<CheckDataReply> {
        let (dir, handle) = (self.dir(role), self.handle(role));
        if !dir.data_image().exists() {
            return Err(Error::NoDisk { role });
        }
        let arch = match handle.last().spec {
            Some(spec) => spec.arch,
            None => Arch::host().ok_or(Error::Host)?,
        };
        let spec = self.planned(config, role, arch, report).await?;
        let (reply, checked) = oneshot::channel();
        let ask = Ask::Check { spec: Box::new(spec), repair, report: report.clone(), reply };
        handle.ask(Command::Disk(ask)).await?;
        checked.await.map_err(|_| Error::Ending)?
    }
}

const fn asked(role: Role, config: &Config) -> Size {
    match role {
        Role::Native => config.machine.disk,
        Role::Foreign => config.foreign.disk,
    }
}
