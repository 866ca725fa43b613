//! What can go wrong with a machine's shares as a whole. What goes wrong with one file is the guest's answer.

use std::io;
use std::path::PathBuf;

/// This crate's errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not started by a supervisor.
    #[error("dhow {verb}: {0}; a machine's supervisor starts this", verb = crate::VERB)]
    BadStart(&'static str),
    /// A directory that is to be shared cannot be opened.
    #[error("{path} cannot be shared: {source}; take it out of the configuration's shares, or make it", path = path.display())]
    Top {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not give something up.
    #[error("the file server cannot be confined: {what}: {source}")]
    Confine {
        /// What it was to give up.
        what: &'static str,
        /// Why it could not.
        source: io::Error,
    },
    /// Serving ended.
    #[error("the file server ended: {0}")]
    Serve(#[from] io::Error),
    /// Not on this host.
    #[error("directories can be shared on Linux only, so far")]
    Unsupported,
}

/// This crate's results.
pub type Result<T> = std::result::Result<T, Error>;
