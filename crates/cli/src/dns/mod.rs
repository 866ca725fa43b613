//! The host's resolver and containers' names (spec 5.1): one file of its configuration sends questions about our domain to our
//! port on 127.0.0.1. The user asks for it; without it nothing on the host changes.
//!
//! What the host has is looked at (`host`), which file that means is decided (`plan`), and the file is written whole or
//! removed (`file`), only ever one that we wrote and nobody changed since. `ask` finds out what really works.

mod ask;
mod file;
mod host;
mod plan;
mod verbs;

use std::io;
use std::path::PathBuf;

pub(crate) use verbs::run;

/// The module's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the host's resolver cannot be told of our names. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration switches the port off.
    #[error("names of containers are not answered on the host\ndns.port is 0 in the configuration")]
    Off,
    /// The host's resolver is one that we cannot tell, or one that would be hurt.
    #[error("the host's resolver cannot be told of {domain} by dhow\n{why}", domain = dhow_model::network::DOMAIN)]
    Unsupported {
        /// What was found, and why it does not do.
        why: String,
        /// What a person can do.
        advice: String,
    },
    /// A file in our place is somebody else's, or was changed after we wrote it.
    #[error("{path} is not ours\n{why}; it is as it was")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why it is not.
        why: &'static str,
    },
    /// Only root may.
    #[error("{path} cannot be {done} without root's rights\n{source}; nothing was changed")]
    NeedsRoot {
        /// The file.
        path: PathBuf,
        /// written, removed.
        done: &'static str,
        /// What to type.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A file or directory cannot be read or written.
    #[error("{path} cannot be {done}\n{source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// read, written, removed.
        done: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The resolver did not take its new configuration; the file was removed again.
    #[error(
        "the host's resolver did not take its new configuration\n`{command}` {why}; what was written is removed again"
    )]
    Reload {
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
            Self::Off => "dns-off",
            Self::Unsupported { .. } => "dns-unsupported",
            Self::Foreign { .. } => "dns-foreign",
            Self::NeedsRoot { .. } => "dns-needs-root",
            Self::Io { .. } => "dns-io",
            Self::Reload { .. } => "dns-reload",
        }
    }

    /// What to type or do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Off => "dhow config unset dns.port".to_owned(),
            Self::Unsupported { advice, .. } => advice.clone(),
            Self::Foreign { path, .. } => {
                format!("look at {}; move it away if it is not needed, then type it again", path.display())
            }
            Self::NeedsRoot { command, .. } => command.clone(),
            Self::Io { path, .. } => format!("check the owner and mode of {}", path.display()),
            Self::Reload { command, .. } => format!("{command}, which says more"),
        }
    }
}

#[cfg(test)]
mod tests;
