//! Why a fixture could not be had.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// One variant per cause. `Debug` prints the sentence, since that is what a failed test shows.
#[derive(thiserror::Error)]
pub enum Error {
    /// {what} on {path}: {source}
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: "create directory".
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start `{command}`: {source}")]
    Spawn {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A program ran longer than it may; it was killed.
    #[error("`{command}` did not end within {limit:?}\n{output}")]
    Overdue {
        /// The command line.
        command: String,
        /// Its time limit.
        limit: Duration,
        /// What it had said until then.
        output: String,
    },
    /// A program ended otherwise than it had to.
    #[error("`{command}` ended with {status}\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// A fact did not come true in its time.
    #[error("{what}: not within {limit:?}")]
    NeverCame {
        /// The fact that was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// The host's package configuration names no Debian mirror.
    #[error(
        "the host's apt configuration names no Debian mirror; \
         name one: DHOW_MIRROR=http://your-mirror/debian"
    )]
    NoMirror,
    /// Something that has to be there is not.
    #[error("{what} is missing: {hint}")]
    Missing {
        /// What.
        what: String,
        /// What to type.
        hint: String,
    },
    /// An answer that cannot be read.
    #[error("{what} says something else than expected: {said}")]
    Unexpected {
        /// Who answered.
        what: String,
        /// Its answer.
        said: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a fixture answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on file operations.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
