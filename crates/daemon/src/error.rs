//! What can keep the daemon from serving.

use std::io;
use std::path::PathBuf;

use dhow_model::Failure;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on what, why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon serves this directory.
    #[error("another daemon already serves {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// The directory cannot be used.
    #[error(transparent)]
    Home(#[from] dhow_home::Error),
    /// The engine's files cannot be read.
    #[error(transparent)]
    Engine(#[from] dhow_engine::Error),
    /// A socket cannot be served.
    #[error("cannot serve {}: {source}", path.display())]
    Serve {
        /// The socket or lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The error as a person reads it, with what to do next.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::AlreadyRunning(_) => {
                Failure::new("already-running", self.to_string(), "look at it with `dhow status`")
            }
            Self::Home(error) => Failure::new("home-unusable", self.to_string(), error.hint()),
            Self::Engine(error) => error.failure(),
            Self::Serve { .. } => {
                Failure::new("files", self.to_string(), "check the directory's owner and mode")
            }
        }
    }
}
