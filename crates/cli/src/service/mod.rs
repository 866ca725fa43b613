//! The daemon under the user's own service manager (systemd): the Docker socket is there from login on, the daemon comes with the
//! first request, and at logout machines are saved to disk. The user asks for it; without it `dhow up` starts the daemon.
//!
//! What the units say is decided in `unit`, apart from the files and the service manager, which `verbs` sees to.

mod unit;
mod verbs;

use std::io;
use std::path::PathBuf;

pub(crate) use verbs::run;

/// The module's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the service cannot be installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no such service manager.
    #[error("this host starts no services as dhow writes them\n{why}")]
    Unsupported {
        /// What was found.
        why: String,
    },
    /// A path that a unit cannot name.
    #[error("a unit cannot name {0:?}\nit has a line break in it, or is no text")]
    BadPath(PathBuf),
    /// A file in our place is somebody else's, or was changed after we wrote it.
    #[error("{path} is not ours\n{why}; it is as it was")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why it is not.
        why: &'static str,
    },
    /// A daemon that was started by hand has the sockets.
    #[error(
        "a daemon runs that the service manager did not start\nit has the sockets, which the service manager would take from it"
    )]
    Running,
    /// A file cannot be read or written.
    #[error("{path} cannot be {done}\n{source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// read, written, removed.
        done: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The service manager did not do what it was told; files are as they should be.
    #[error("the service manager did not do what it was told\n`{command}` {why}")]
    Told {
        /// What was run.
        command: String,
        /// How it ended.
        why: String,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "service-unsupported",
            Self::BadPath(_) => "service-bad-path",
            Self::Foreign { .. } => "service-foreign",
            Self::Running => "service-daemon-runs",
            Self::Io { .. } => "service-io",
            Self::Told { .. } => "service-told",
        }
    }

    /// What to type or do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unsupported { .. } => "dhow up, which starts the daemon without one".to_owned(),
            Self::BadPath(_) => "use a directory whose name is plain text".to_owned(),
            Self::Foreign { path, .. } => {
                format!("look at {}; move it away if it is not needed, then type it again", path.display())
            }
            Self::Running => "dhow down --suspend && dhow service install".to_owned(),
            Self::Io { path, .. } => format!("check the owner and mode of {}", path.display()),
            Self::Told { command, .. } => format!("{command}, which says more"),
        }
    }
}

#[cfg(test)]
mod tests;
