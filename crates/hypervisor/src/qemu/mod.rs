//! QEMU as a hypervisor (spec 9.1, 9.4).

mod arguments;
mod clock;
mod find;
mod running;
mod state;
#[cfg(test)]
mod tests;
mod version;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use dhow_model::Arch;
use tokio::net::UnixStream;

use crate::process::{Launch, Process};
use crate::qmp::Qmp;
use crate::{ChannelDevice, Error, Hardware, Hypervisor, Memory, Origin, Output, Result, Running, output};

pub use arguments::{Given, arguments};
pub(crate) use find::{ask, greets_in_its_sandbox};
pub use version::QemuVersion;

/// How long QEMU may take from its start to its greeting. It needs 0.1 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Variables of ours that QEMU gets; everything else stays here (spec 9.4).
const ENVIRONMENT: [&str; 6] =
    ["PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "QEMU_MODULE_DIR", "XDG_RUNTIME_DIR"];

/// QEMU for guests of one architecture.
#[derive(Debug, Clone)]
pub struct Qemu {
    arch: Arch,
    path: PathBuf,
    version: QemuVersion,
    name: String,
}

impl Qemu {
    /// The oldest version that will do: snapshots need what came with it.
    pub const OLDEST: QemuVersion = QemuVersion { major: 8, minor: 2, micro: 0 };

    /// Finds QEMU in `PATH` and checks its version and its firmware. This starts a process and waits for it; it belongs on
    /// a blocking thread.
    ///
    /// # Errors
    /// [`NotInstalled`](Error::NotInstalled), [`TooOld`](Error::TooOld), [`NoVersion`](Error::NoVersion) and
    /// [`FirmwareMissing`](Error::FirmwareMissing), each with what to type.
    pub fn find(arch: Arch) -> Result<Self> {
        Self::find_in(arch, &std::env::var_os("PATH").unwrap_or_default())
    }

    /// The guest architecture that it runs.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// The executable.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> QemuVersion {
        self.version
    }
}

#[async_trait::async_trait]
impl Hypervisor for Qemu {
    fn name(&self) -> &str {
        &self.name
    }

    async fn start(
        &self,
        hardware: &Hardware,
        output: Output,
        inherit: Vec<OwnedFd>,
        memory: Option<&Memory>,
        origin: Origin<'_>,
    ) -> Result<Box<dyn Running>> {
        if hardware.arch != self.arch {
            let (have, want) = (self.arch, hardware.arch);
            return Err(Error::Unsupported(format!(
                "this QEMU runs {have} guests, and this machine is {want}"
            )));
        }
        let loading = match origin {
            Origin::Boot => None,
            Origin::Saved(saved) => Some(state::Loading::open(&saved, memory, hardware)?),
        };
        let memory_fd = memory.map(copy_of).transpose()?;
        let qmp = listen(&hardware.qmp)?;
        let channel = match &hardware.channel {
            ChannelDevice::Serial(path) => Some((listen(path)?, path.clone())),
            ChannelDevice::Vsock(_) => None,
        };
        let given = Given {
            qmp: qmp.as_raw_fd(),
            channel: channel.as_ref().map(|(listener, _)| listener.as_raw_fd()),
            tsc_khz: clock::rate(hardware).await,
            memory: memory_fd.as_ref().map(AsRawFd::as_raw_fd),
            incoming: loading.is_some(),
        };
        let arguments = arguments(hardware, &self.version, &given);
        let mut command = Command::new(&self.path);
        command.args(&arguments).env_clear().env("LC_ALL", "C").envs(environment());

        let mut output = output;
        header(&mut output, &self.name, &command);
        let mut remove = vec![hardware.qmp.clone()];
        let mut descriptors = inherit;
        descriptors.push(qmp);
        descriptors.extend(memory_fd);
        let mut serial = None;
        if let Some((listener, path)) = channel {
            descriptors.push(listener);
            remove.push(path.clone());
            serial = Some(path);
        }
        let name = format!("qemu-{}", hardware.name);
        let process = Process::launch(Launch { name, command, output, inherit: descriptors, remove }).await?;
        let Some(loading) = loading else {
            let machine = running::greet(process, hardware, serial, memory.is_some()).await?;
            return Ok(Box::new(machine));
        };
        let (machine, filled) = tokio::join!(running::greet(process, hardware, serial, true), loading.fill());
        let mut machine = machine?;
        let loaded = match filled {
            Ok(devices) => machine.load(devices).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok(()) => Ok(Box::new(machine)),
            Err(error) => {
                // Whoever boots next finds no process and no socket of this attempt.
                if let Err(stays) = machine.kill().await {
                    tracing::warn!(error = %stays, "a hypervisor that loaded nothing stays");
                }
                Err(error)
            }
        }
    }
}

/// A descriptor of the memory for a process to inherit.
fn copy_of(memory: &Memory) -> Result<OwnedFd> {
    memory.as_fd().try_clone_to_owned().map_err(|source| Error::Memory { doing: "share", source })
}

/// Connects QMP to a fresh QEMU. The listening socket was made here, so the connection waits in its backlog until QEMU
/// takes it: no attempt is repeated, no time passes unused.
async fn control(path: &Path) -> Result<Qmp> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).await.map_err(failed)?;
    Qmp::connect(stream, START_LIMIT).await
}

/// A listening Unix socket, mode 0600, that QEMU will be given.
fn listen(path: &Path) -> Result<OwnedFd> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    let listener = dhow_home::socket::listen(path).map_err(failed)?;
    Ok(OwnedFd::from(listener.into_std().map_err(failed)?))
}

fn environment() -> BTreeMap<&'static str, std::ffi::OsString> {
    ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

/// A line in each log that says which start what follows belongs to.
fn header(output: &mut Output, name: &str, command: &Command) {
    let now = output::timestamp(SystemTime::now());
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().replace(char::is_control, "?"))
        .collect();
    let log = writeln!(output.log, "--- {now} start of {name}: {}", words.join(" "));
    let console = writeln!(output.console, "--- {now} start");
    if let Err(error) = log.and(console) {
        tracing::warn!(%error, "a log of the hypervisor cannot be written");
    }
}
