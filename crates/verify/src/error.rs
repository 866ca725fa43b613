//! Why the engine, or an image, could not be had. What a program did wrong is no error but a [`crate::Seen`].

use std::path::PathBuf;
use std::time::Duration;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be asked of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine's socket leads nowhere.
    #[error("the engine cannot be reached at {}: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The engine said no.
    #[error("the engine refused {what}: {message} (status {status})")]
    Refused {
        /// What was asked.
        what: String,
        /// HTTP's status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The engine went away in the middle.
    #[error("the engine's answer to {what} broke off: {cause}")]
    Broken {
        /// What was asked.
        what: String,
        /// What the connection said.
        cause: String,
    },
    /// The engine took too long.
    #[error("the engine did not finish {what} within {} s", limit.as_secs())]
    Late {
        /// What was asked.
        what: String,
        /// How long it had.
        limit: Duration,
    },
    /// The engine's answer is larger than anything that is expected.
    #[error("the engine's answer to {what} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        what: String,
        /// How large it may be.
        limit: usize,
    },
    /// The engine's answer is not what its interface describes.
    #[error("the engine's answer to {what} cannot be understood: {cause}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// An image could not be made from the distribution's packages.
    #[error("an image cannot be made: {0}")]
    Assets(#[from] dhow_assets::Error),
    /// A file of ours cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Work on another thread did not come back.
    #[error("the work on an image was lost: {0}")]
    Lost(String),
}
