//! What can go wrong, by cause.

use std::io;
use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the program, its installation or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a Linux host.
    #[error("routes to containers are not supported on this host: they need Linux's TUN devices")]
    Unsupported,
    /// The program was started by hand, or by somebody else.
    #[error("dhow-route-helper is started by a machine's supervisor only: {0}")]
    BadStart(&'static str),
    /// The program runs without its privilege.
    #[error(
        "no CAP_NET_ADMIN: the file lost its capability, its file system is mounted nosuid, or it was started with no_new_privs"
    )]
    NoCapability,
    /// The process could not be confined.
    #[error("cannot give up {what}: {source}")]
    Confine {
        /// What it would have kept.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A step of making the device or its routes failed.
    #[error("{step}: {source}")]
    Device {
        /// What was done, and on what.
        step: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The machine's own network is somewhere else on this host.
    #[error("the machine's network {network} is in use on this host: conflict with {interface} {theirs}")]
    NetworkTaken {
        /// Ours.
        network: crate::Network,
        /// Where theirs is.
        interface: String,
        /// Theirs.
        theirs: crate::Network,
    },
    /// The other end of the socket does not keep to the protocol.
    #[error("the conversation broke: {0}")]
    Conversation(#[source] io::Error),
    /// The program refused, in its own words.
    #[error("{0}")]
    Refused(String),
    /// All ten devices exist.
    #[error("no device is left: dhow0 to dhow9 are all in use")]
    NoDeviceLeft,
    /// The installed program is not what `dhow route install` wrote.
    #[error("{path} is not what `dhow route install` wrote: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How it differs.
        why: String,
    },
    /// It is not installed.
    #[error("{0} is not installed")]
    NotInstalled(PathBuf),
    /// Only root can install.
    #[error("installing needs root, since {0} will be root's")]
    NeedsRoot(PathBuf),
    /// A file cannot be read or written.
    #[error("{path} cannot be {done}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// read, written, removed.
        done: &'static str,
        /// Why.
        source: io::Error,
    },
}
