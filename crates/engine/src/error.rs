//! What can go wrong with machines, one variant for each cause that a caller can act on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dhow_home::launch::LaunchError;
use dhow_model::drift::DiskWouldShrink;
use dhow_model::{Arch, Failure, MachineName, Role, Size, State};

use crate::offer::NotOffered;
use crate::ready::words;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on what, why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Dhow was built for a processor that no guest exists for.
    #[error("this host's processor is not supported: Dhow runs on x86-64 and Arm64")]
    Host,
    /// Dhow's directory cannot be used.
    #[error(transparent)]
    Home(#[from] dhow_home::Error),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is too little room to start.
    #[error("{path} has {free} left, and the engine needs {needed} to start safely")]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// What is free.
        free: Size,
        /// What is needed.
        needed: Size,
    },
    /// Boot assets could not be had.
    #[error("boot assets for {arch}: {source}")]
    Assets {
        /// The guest's architecture.
        arch: Arch,
        /// Why.
        source: dhow_assets::Error,
    },
    /// There are no boot assets, and no agent to build them with.
    #[error("there are no boot assets for {arch}, and the agent to build them with is not at {}", looked.display())]
    NoAgent {
        /// The guest's architecture.
        arch: Arch,
        /// Where it should be.
        looked: PathBuf,
    },
    /// A probe found that the machine cannot run here.
    #[error(transparent)]
    Hypervisor(#[from] dhow_hypervisor::Error),
    /// The configuration asks for a smaller disk.
    #[error("the data disk of {role} is {} and cannot shrink to {}; set {} to {} or more", shrink.made, shrink.asked, disk_key(*role), shrink.made)]
    DiskWouldShrink {
        /// Whose.
        role: Role,
        /// The sizes.
        shrink: DiskWouldShrink,
    },
    /// This host has no foreign machine to offer.
    #[error(transparent)]
    NotOffered(#[from] NotOffered),
    /// A machine that was waited for did not come.
    #[error("{} did not come up within {} s", words(*role), limit.as_secs())]
    TooSlow {
        /// Whose.
        role: Role,
        /// How long was waited.
        limit: Duration,
    },
    /// The supervisor could not be started.
    #[error("the supervisor of {machine}: {source}")]
    Launch {
        /// The machine.
        machine: MachineName,
        /// Why.
        source: LaunchError,
    },
    /// The supervisor could not be asked.
    #[error("the supervisor of {machine} does not answer: {why}")]
    Supervisor {
        /// The machine.
        machine: MachineName,
        /// Why.
        why: String,
    },
    /// The machine could not be put to sleep, and goes on.
    #[error("{machine} was not put to sleep: {why}")]
    Awake {
        /// The machine.
        machine: MachineName,
        /// Why.
        why: String,
    },
    /// The guest's agent or its dockerd could not do what was asked.
    #[error("machine {machine}: {why}")]
    Guest {
        /// The machine.
        machine: MachineName,
        /// Why.
        why: String,
    },
    /// A file system in use cannot be checked.
    #[error("machine {machine} is {state}, and a file system in use cannot be checked")]
    InUse {
        /// The machine.
        machine: MachineName,
        /// Its state.
        state: State,
    },
    /// There is no data disk.
    #[error("{} has no data disk yet", words(*role))]
    NoDisk {
        /// Whose.
        role: Role,
    },
    /// The machine is not in rescue.
    #[error("{} is {state} and not in rescue, so there is nothing to save from it", words(*role))]
    NotInRescue {
        /// Whose.
        role: Role,
        /// Its state.
        state: State,
    },
    /// The machine failed while it started or ran.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Something asked for cannot be done in the machine's state.
    #[error("machine {machine} is {state}")]
    State {
        /// The machine.
        machine: MachineName,
        /// Its state.
        state: State,
    },
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}

impl Error {
    /// The error as a person reads it, with what to do next.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (code, hint) = match self {
            Self::Failed(failure) | Self::Launch { source: LaunchError::Refused(failure), .. } => {
                return failure.clone();
            }
            Self::Host => ("host-unsupported", ""),
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ("disk-full", "make room on that disk, then run `dhow up`")
            }
            Self::Assets { source, .. } => return assets(self, source),
            Self::DiskFull { .. } => ("disk-full", "make room on that disk, then run `dhow up`"),
            Self::Home(error) => ("home-unusable", error.hint()),
            Self::File { .. } => ("files", "check the file's owner and mode, then run `dhow up`"),
            Self::NoAgent { .. } => (
                "agent-missing",
                "reinstall Dhow, or set DHOW_AGENTS to the directory that holds dhow-agent-ARCH",
            ),
            Self::Hypervisor(dhow_hypervisor::Error::NotInstalled { .. }) => {
                ("qemu-missing", "then run `dhow up` again")
            }
            Self::Hypervisor(dhow_hypervisor::Error::TooOld { .. }) => {
                ("qemu-too-old", "then run `dhow up` again")
            }
            Self::Hypervisor(_) => ("hypervisor", "run `dhow doctor`"),
            Self::DiskWouldShrink { role, .. } => {
                let hint =
                    format!("type `dhow config set {} SIZE` with its present size or more", disk_key(*role));
                return Failure::new("disk-would-shrink", self.to_string(), hint);
            }
            Self::NotOffered(_) => ("foreign-not-offered", "dhow doctor"),
            Self::TooSlow { .. } => ("too-slow", "dhow status"),
            Self::Launch { .. } => ("supervisor", "read `dhow logs supervisor`"),
            Self::Supervisor { .. } => {
                ("supervisor", "read `dhow logs supervisor`; `dhow down --force` ends it")
            }
            Self::Guest { .. } => ("guest", "dhow status"),
            Self::InUse { .. } => ("disk-in-use", "dhow down, then the same command again"),
            Self::NoDisk { .. } => ("engine-off", "dhow up"),
            Self::NotInRescue { .. } => ("not-in-rescue", "use docker: `docker save`, `docker cp`"),
            Self::Awake { .. } => ("not-suspended", "it goes on; `dhow status` shows what keeps it awake"),
            Self::State { .. } => ("state", "look at it with `dhow status`"),
            Self::Ending => ("ending", "run `dhow up`"),
        };
        Failure::new(code, self.to_string(), hint)
    }
}

/// The configuration's key for the size of this role's data disk.
const fn disk_key(role: Role) -> &'static str {
    match role {
        Role::Native => "machine.disk",
        Role::Foreign => "foreign.disk",
    }
}

fn assets(error: &Error, source: &dhow_assets::Error) -> Failure {
    use dhow_assets::Error as A;
    let (code, hint) = match source {
        A::DiskFull { .. } => ("disk-full", "make room on that disk, then run the same command again"),
        A::NoMirror | A::NoMirrorOf { .. } => ("no-mirror", "dhow config set assets.mirror URL"),
        A::Download { .. } | A::NotOnMirror { .. } => {
            ("download", "check the network, then run the same command again")
        }
        A::MissingProgram { package, .. } => {
            return Failure::new(
                "program-missing",
                error.to_string(),
                format!("install the package {package}"),
            );
        }
        A::MissingKeyring { .. } => ("keyring-missing", "install the package debian-archive-keyring"),
        A::WrongHash { .. } | A::WrongSize { .. } | A::NotBootable { .. } => {
            ("assets-damaged", "dhow assets build")
        }
        A::Signature { .. } | A::Expired { .. } => {
            ("index-untrusted", "use another mirror: dhow config set assets.mirror URL")
        }
        A::Agent { .. } => ("agent-unusable", "reinstall Dhow"),
        A::Busy { .. } => ("assets-busy", "wait for the other build"),
        _ => ("assets", "dhow assets verify"),
    };
    Failure::new(code, error.to_string(), hint)
}

/// A failure of work on boot assets of this architecture, as a person reads it.
#[must_use]
pub fn assets_failure(arch: Arch, source: dhow_assets::Error) -> Failure {
    Error::Assets { arch, source }.failure()
}
