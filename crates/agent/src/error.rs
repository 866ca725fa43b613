//! Everything that can go wrong in the guest. Each message reaches a person through the host's `Boot` stream.

use std::io;
use std::path::{Path, PathBuf};

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on what, why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the guest.
    #[error("could not {action} {path}: {source}")]
    File {
        /// What was tried: "read", "write", "mount", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Something else that the kernel was asked.
    #[error("could not {action}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A module without which nothing works is missing or refused.
    #[error(
        "kernel module {name} is needed and was not loaded: {why}. Build the boot assets again: dhow assets build"
    )]
    NeededModule {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// The host's boot configuration is not there, too large, or not understood.
    #[error("the boot configuration in {path} is not usable: {why}")]
    Config {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No disk carries the serial.
    #[error("there is no disk with the serial {serial}; the guest sees {seen}")]
    NoDisk {
        /// The serial.
        serial: &'static str,
        /// The disks that are there.
        seen: String,
    },
    /// The data disk cannot be read, so nothing about it can be proven.
    #[error("the data disk {disk} could not be read at byte {offset}: {source}. It was not touched")]
    DataUnreadable {
        /// The device.
        disk: PathBuf,
        /// Where.
        offset: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The data disk carries something that is not Dhow's.
    #[error("the data disk {disk} holds {what}, which is not Dhow's. It was not touched")]
    DataForeign {
        /// The device.
        disk: PathBuf,
        /// What was found.
        what: String,
    },
    /// The disk looks empty, but the host could not prove that it is.
    #[error(
        "the data disk {disk} has no file system, and the host could not prove that nothing was ever written to it. It was not touched"
    )]
    DataUnproven {
        /// The device.
        disk: PathBuf,
    },
    /// The file system of the data disk could be mounted neither at once nor after a repair.
    #[error(
        "the data disk {disk} could not be mounted ({}), and checking it did not help: {check}. Only what e2fsck -p repairs was changed: copy the image before trying anything else",
        in_words(.first)
    )]
    DataBroken {
        /// The device.
        disk: PathBuf,
        /// Why mounting failed first.
        first: io::Error,
        /// What the check said.
        check: String,
    },
    /// The data disk is in use and cannot be checked.
    #[error("the data disk {disk} is mounted on {point}, and a file system in use cannot be checked")]
    DataInUse {
        /// The device.
        disk: PathBuf,
        /// Where.
        point: PathBuf,
    },
    /// The data disk did not get the size that it was given.
    #[error("the data disk {disk} has {bytes} bytes and not the {asked} that it should have by now")]
    NotResized {
        /// The device.
        disk: PathBuf,
        /// Its size.
        bytes: u64,
        /// What was asked.
        asked: u64,
    },
    /// A program of the root image failed.
    #[error("{program} {how}{}", .tail.as_deref().map(|t| format!(": {t}")).unwrap_or_default())]
    Tool {
        /// The program.
        program: String,
        /// How it ended.
        how: String,
        /// The end of its output.
        tail: Option<String>,
    },
    /// No network interface appeared.
    #[error("no network interface appeared within {waited_ms} ms; the guest sees {seen}")]
    NoInterface {
        /// How long was waited.
        waited_ms: u128,
        /// What is there.
        seen: String,
    },
    /// The kernel refused a network setting.
    #[error("the kernel refused to {action}: {source}")]
    Network {
        /// What was asked.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The channel to the host cannot be served.
    #[error("the channel to the host cannot be served: {0}")]
    Channel(String),
    /// dockerd or containerd did not come up.
    #[error("{service} did not answer within {limit_s} s; {state}. Its last words:\n{tail}")]
    Service {
        /// Which.
        service: &'static str,
        /// The time limit.
        limit_s: u64,
        /// What it is doing.
        state: String,
        /// The end of its output.
        tail: String,
    },
    /// Something about a translator.
    #[error("translators: {0}")]
    Translator(String),
    /// A thread of process 1 panicked.
    #[error("the agent panicked: {0}. This is an error in Dhow")]
    Panic(String),
}

/// The C library of a static program has no words for what a damaged file system answers (`EUCLEAN`).
fn in_words(error: &io::Error) -> String {
    if error.raw_os_error() == Some(117) {
        "its structures are damaged".to_owned()
    } else {
        error.to_string()
    }
}

impl Error {
    /// For `map_err`: an operation on a file.
    pub fn file<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::File { action, path, source: source.into() }
    }

    /// For `map_err`: an operation that has no file.
    pub fn kernel<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Kernel { action, source: source.into() }
    }
}
