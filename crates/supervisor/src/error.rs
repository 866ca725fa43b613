//! What can keep a machine from starting, one variant for each cause that a caller can act on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dhow_home::lock::LockError;
use dhow_model::Failure;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on what, why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another supervisor runs this machine.
    #[error("machine {0} already has a supervisor")]
    AlreadySupervised(String),
    /// A file of the machine cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine's description is damaged.
    #[error("{path} is damaged: {source}; it is made anew by `dhow up` when it is moved away")]
    Spec {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The configuration's egress rules cannot be enforced.
    #[error("the egress rules of the configuration: {0}")]
    Egress(#[source] dhow_model::egress::EgressError),
    /// The machine's network cannot be had.
    #[error("the machine's network: {0}")]
    Network(#[source] dhow_net::Error),
    /// The data image is larger than asked.
    #[error("the data disk {path} holds {found} bytes and cannot shrink to {asked}")]
    DiskWouldShrink {
        /// The image.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// What is asked.
        asked: u64,
    },
    /// The data image holds something, and that is no file system of ours.
    #[error("the data disk {path} is not blank and holds no file system of Dhow's; it was not touched")]
    ForeignDisk {
        /// The image.
        path: PathBuf,
    },
    /// Somebody else has the data image open.
    #[error("the data disk is in use: {0}")]
    DiskHeld(#[source] LockError),
    /// The process is ending.
    #[error("the supervisor is ending")]
    Ending,
    /// All context IDs are taken.
    #[error("no vsock context ID is free")]
    NoCid,
    /// The hypervisor could not be started or controlled.
    #[error(transparent)]
    Hypervisor(#[from] dhow_hypervisor::Error),
    /// The channel to the guest could not be opened.
    #[error("the channel to the guest: {0}")]
    Channel(#[from] dhow_channel::Error),
    /// A socket of ours cannot be served.
    #[error("cannot serve {path}: {source}")]
    Serve {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The guest was not ready in time.
    #[error("the guest was not ready within {} s; it was at: {at}{}", limit.as_secs(), tail(console))]
    NotReady {
        /// The limit.
        limit: Duration,
        /// The last step that was heard of.
        at: String,
        /// The console's last lines.
        console: Vec<String>,
    },
    /// A step of the guest's boot failed.
    #[error("the guest could not boot: {step}: {reason}")]
    BootStep {
        /// The step.
        step: String,
        /// The agent's words.
        reason: String,
    },
    /// The file server could not be started.
    #[error("the process that shares directories cannot be started: {0}")]
    Shares(std::io::Error),
    /// The file server said why it cannot serve.
    #[error("the configured directories cannot be shared: {0}")]
    NotShared(String),
    /// The file server has ended while its guest runs.
    #[error("the process that shares directories has ended; the machine starts again with a new one")]
    SharesEnded,
    /// The gateway has failed while its guest runs.
    #[error("the machine's network has failed; the machine starts again with a new one")]
    NetworkEnded,
    /// The guest's kernel met an error in the data disk's file system, which takes no more writes.
    #[error("the data disk's file system met an error and takes no more writes; the next start checks it")]
    DataReadOnly,
    /// The agent speaks another version of the protocol.
    #[error(
        "the guest's agent speaks protocol {agent}, and this Dhow speaks {ours}; build the boot assets again"
    )]
    AgentVersion {
        /// The agent's.
        agent: u32,
        /// Ours.
        ours: u32,
    },
    /// The hypervisor ended and nobody asked for that.
    #[error("the machine went off by itself: the hypervisor {how}{}", tail(console))]
    WentOff {
        /// How it ended.
        how: String,
        /// The guest reset itself, as a kernel does that panics.
        reset: bool,
        /// The console's last lines.
        console: Vec<String>,
    },
    /// The agent has not answered for too long.
    #[error("the guest has not answered for {} s: {why}", silent.as_secs())]
    Silent {
        /// For how long.
        silent: Duration,
        /// What happened to the last question.
        why: String,
    },
}

impl Error {
    /// The error as a person reads it, with what to do next.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (code, hint) = match self {
            Self::AlreadySupervised(_) => ("already-supervised", "look at it with `dhow status`"),
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ("disk-full", "make room on the disk that holds Dhow's directory, then run `dhow up`")
            }
            Self::File { .. } | Self::Serve { .. } => {
                ("files", "check the directory's owner and mode, then run `dhow up`")
            }
            Self::Spec { .. } => ("machine-damaged", "move the file away and run `dhow up`"),
            Self::DiskWouldShrink { .. } => {
                ("disk-would-shrink", "set machine.disk to its present size or more")
            }
            Self::ForeignDisk { .. } => ("disk-foreign", "dhow disk check"),
            Self::DiskHeld(_) => {
                ("disk-in-use", "stop the process that has the disk open, then run `dhow up`")
            }
            Self::Egress(_) => ("egress", "mend network.egress in the configuration, then run `dhow up`"),
            Self::Network(_) => ("network", "read `dhow logs supervisor`"),
            Self::NoCid | Self::Ending => ("host", "run `dhow doctor`"),
            Self::Hypervisor(dhow_hypervisor::Error::NotInstalled { .. }) => {
                ("qemu-missing", "then run `dhow up` again")
            }
            Self::Hypervisor(dhow_hypervisor::Error::TooOld { .. }) => {
                ("qemu-too-old", "then run `dhow up` again")
            }
            Self::Hypervisor(dhow_hypervisor::Error::DiskInUse { .. }) => {
                ("disk-in-use", "stop the process that has the disk open, then run `dhow up`")
            }
            Self::Hypervisor(_) => ("hypervisor", "run `dhow doctor`, and read `dhow logs hypervisor`"),
            Self::Channel(_) => ("channel", "read `dhow logs console`"),
            Self::NotReady { .. } => {
                ("not-ready", "read `dhow logs console`; a slow host may need a larger limits.start")
            }
            Self::BootStep { step, .. } if step == "data" => ("data-disk", "dhow disk check"),
            Self::BootStep { .. } => ("boot-failed", "read `dhow logs console`"),
            Self::Shares(_) | Self::SharesEnded => ("shares", "read `dhow logs supervisor`"),
            Self::NetworkEnded => ("network", "read `dhow logs supervisor`"),
            Self::NotShared(_) => ("not-shared", "dhow config get files.shares"),
            Self::DataReadOnly => ("data-read-only", "dhow disk check"),
            Self::AgentVersion { .. } => ("agent-version", "run `dhow assets build`, then `dhow up`"),
            Self::WentOff { .. } => ("machine-died", "read `dhow logs hypervisor` and `dhow logs console`"),
            Self::Silent { .. } => ("guest-silent", "read `dhow logs console`"),
        };
        Failure::new(code, self.to_string(), hint)
    }
}

fn tail(console: &[String]) -> String {
    let last = console.len().saturating_sub(10);
    match &console[last..] {
        [] => String::new(),
        lines => format!("; its console ended with:\n  {}", lines.join("\n  ")),
    }
}
