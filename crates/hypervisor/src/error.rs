//! What can go wrong with a hypervisor, one variant for each cause that a caller can act on.

use std::path::PathBuf;
use std::time::Duration;

use dhow_model::{Accelerator, Arch, GuestCid};

use crate::{Exit, QemuVersion};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on what, why, and what to do where there is something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The executable is in no directory of the search path.
    #[error("{program} is not installed (it is in no directory of PATH); {advice}")]
    NotInstalled {
        /// Its name.
        program: String,
        /// What to type.
        advice: String,
    },
    /// It is there, but lacks what Dhow needs.
    #[error("{} is QEMU {found}, and Dhow needs {needed} or later; {advice}", path.display())]
    TooOld {
        /// The executable.
        path: PathBuf,
        /// Its version.
        found: QemuVersion,
        /// The oldest one that will do.
        needed: QemuVersion,
        /// What to type.
        advice: String,
    },
    /// It did not print a version.
    #[error("{} --version did not print a version of QEMU: {said}", path.display())]
    NoVersion {
        /// The executable.
        path: PathBuf,
        /// What it did instead.
        said: String,
    },
    /// QEMU's own data file is missing.
    #[error("the firmware file {file} of QEMU is missing (looked in {looked}); {advice}")]
    FirmwareMissing {
        /// The file's name.
        file: String,
        /// Directories, separated by commas.
        looked: String,
        /// What to type.
        advice: String,
    },
    /// The accelerator that the configuration asks for cannot be used here.
    #[error("the accelerator {wish} cannot be used for an {arch} guest: {reason}")]
    AcceleratorUnusable {
        /// What was asked for.
        wish: Accelerator,
        /// The guest's architecture.
        arch: Arch,
        /// What the probe found.
        reason: String,
    },
    /// Another machine on this host has the vsock context ID; take the next (spec 8.2).
    #[error("another virtual machine has the vsock context ID {0}")]
    CidTaken(GuestCid),
    /// Another process has a disk image open.
    #[error("the disk image {} is in use by another process", path.display())]
    DiskInUse {
        /// The image.
        path: PathBuf,
    },
    /// The hypervisor ended before it answered.
    #[error("the hypervisor {0}")]
    EndedEarly(Box<Exit>),
    /// A socket could not be made or reached.
    #[error("the socket {}: {source}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The process could not be started.
    #[error("cannot run {}: {source}", path.display())]
    Spawn {
        /// The executable.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A signal could not be sent or a process not be waited for.
    #[error("cannot end the hypervisor (process {pid}): {source}")]
    Signal {
        /// Its process ID.
        pid: u32,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// The control connection ended.
    #[error("QEMU's control socket is closed: {0}")]
    QmpClosed(String),
    /// The peer broke the control protocol.
    #[error("QEMU's control socket sent what is not QMP: {0}")]
    QmpProtocol(String),
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {description} ({class})")]
    QmpRefused {
        /// The command.
        command: String,
        /// QMP's error class.
        class: String,
        /// QMP's description.
        description: String,
    },
    /// The guest's memory could not be made, read or written.
    #[error("cannot {doing} the guest's memory: {source}")]
    Memory {
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of a saved machine could not be read or written.
    #[error("the file of a saved machine {}: {source}", path.display())]
    SavedFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of a saved machine is not what was written: the machine cannot go on from it, and boots.
    #[error("the file of a saved machine {} is of no use: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The machine could not be saved; it is paused as before and can be resumed.
    #[error("the machine cannot be saved: {reason}")]
    NotSaved {
        /// The hypervisor's reason.
        reason: String,
    },
    /// The hypervisor ended in the middle of saving: the guest is gone as after a power cut.
    #[error("while the machine was saved the hypervisor {0}")]
    EndedWhileSaving(Box<Exit>),
    /// The hypervisor refused a saved machine.
    #[error("the saved machine cannot be loaded: the hypervisor {0}")]
    NotRestored(Box<Exit>),
    /// This machine, backend or host cannot do that.
    #[error("{0}")]
    Unsupported(String),
}

/// What is wrong with a file of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is shorter or longer than it was.
    #[error("it has {found} bytes instead of {expected}")]
    Length {
        /// Bytes that were written.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// It is no dump of a memory, or of another version.
    #[error("it is not a dump of a memory that this version of Dhow reads")]
    Format,
    /// It is a dump of a larger or smaller memory.
    #[error("it holds a memory of {found} bytes instead of {expected}")]
    Size {
        /// What the machine has.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// It is another dump than the one that was asked for, or its own description has changed.
    #[error("its description does not have the checksum that was noted")]
    Description,
    /// Its description contradicts itself.
    #[error("its description makes no sense at byte {at}")]
    Nonsense {
        /// Where.
        at: u64,
    },
    /// Its content has changed.
    #[error("what it holds at byte {at} does not have the checksum that was noted")]
    Content {
        /// Where the block begins in the file.
        at: u64,
    },
}
