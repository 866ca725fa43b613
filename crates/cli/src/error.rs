//! What can go wrong at the command line, by cause. Each turns into a [`Failure`]: the message's first line says what
//! happened, the others why, and the hint what to type.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dhow_model::Failure;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Dhow's directory cannot serve.
    #[error("Dhow's directory cannot be used\n{0}")]
    Home(#[from] dhow_home::Error),
    /// The daemon or another part of Dhow said no, in its own words.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The control socket is there and cannot be connected to, and not for want of a daemon.
    #[error("the daemon's socket {path} cannot be reached\n{source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A daemon cannot be spawned.
    #[error("the daemon cannot be started\n{program}: {source}")]
    Spawn {
        /// What should run.
        program: PathBuf,
        /// Why it does not.
        source: io::Error,
    },
    /// A daemon ended before it was ready, and did not say why.
    #[error("the daemon ended before it was ready\n{}", if tail.is_empty() { "it wrote nothing to its log" } else { tail })]
    DaemonDied {
        /// What it wrote to its log.
        tail: String,
    },
    /// A daemon holds its lock and does not serve.
    #[error(
        "a daemon holds {lock} but does not answer\nwaited {} s for its socket; it may be starting, stopping or stuck", waited.as_secs()
    )]
    DaemonStuck {
        /// The daemon's lock.
        lock: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// Something took longer than it may.
    #[error("gave up after {} s\nwaited for: {step}", limit.as_secs_f64())]
    TimedOut {
        /// What we waited for.
        step: String,
        /// How long.
        limit: Duration,
        /// Whether the work goes on without us.
        goes_on: bool,
    },
    /// The daemon's connection broke.
    #[error("the daemon went away during: {step}\n{cause}")]
    Lost {
        /// What we waited for.
        step: String,
        /// What the connection said.
        cause: String,
    },
    /// The daemon refused a call in gRPC's words.
    #[error("the daemon refused: {message}\nduring: {step} ({code})")]
    Refused {
        /// What was asked.
        step: String,
        /// gRPC's code.
        code: tonic::Code,
        /// The daemon's words.
        message: String,
    },
    /// The daemon that runs speaks another protocol.
    #[error(
        "the daemon that runs is another version\nit is {theirs} (protocol {their_protocol}), this dhow is {ours} (protocol {our_protocol})"
    )]
    OtherProtocol {
        /// Its version.
        theirs: String,
        /// Its protocol.
        their_protocol: u32,
        /// Our version.
        ours: &'static str,
        /// Our protocol.
        our_protocol: u32,
    },
    /// Ctrl-C.
    #[error("interrupted during: {step}\n{consequence}")]
    Interrupted {
        /// What went on.
        step: String,
        /// What goes on regardless.
        consequence: String,
        /// What to type.
        hint: String,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read\n{source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written\n{source}; it is as it was")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Docker's configuration or the record of the previous context is not what it should be.
    #[error(transparent)]
    Context(#[from] crate::context::Error),
    /// The host's resolver cannot be told of containers' names.
    #[error(transparent)]
    Dns(#[from] crate::dns::Error),
    /// The service cannot be installed or removed.
    #[error(transparent)]
    Service(#[from] crate::service::Error),
    /// Dhow's configuration is not what it should be.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The log that was asked for does not exist.
    #[error("there is no {what} log yet\n{path} does not exist")]
    NoLog {
        /// Which.
        what: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The answer cannot be written to standard output.
    #[error("the answer cannot be written\nstandard output: {0}")]
    Output(#[source] io::Error),
    /// The program's own surroundings are broken.
    #[error("{what}\n{source}")]
    Surroundings {
        /// What failed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Home(_) => "home-unusable",
            Self::Failed(failure) => &failure.code,
            Self::Socket { .. } => "socket-unreachable",
            Self::Spawn { .. } => "daemon-not-started",
            Self::DaemonDied { .. } => "daemon-died",
            Self::DaemonStuck { .. } => "daemon-stuck",
            Self::TimedOut { .. } => "timed-out",
            Self::Lost { .. } => "daemon-lost",
            Self::Refused { .. } => "daemon-refused",
            Self::OtherProtocol { .. } => "daemon-other-version",
            Self::Interrupted { .. } => "interrupted",
            Self::Read { .. } => "file-unreadable",
            Self::Write { .. } => "file-unwritable",
            Self::Context(error) => error.code(),
            Self::Dns(error) => error.code(),
            Self::Service(error) => error.code(),
            Self::Config(error) => error.code(),
            Self::NoLog { .. } => "no-log",
            Self::Output(_) => "output",
            Self::Surroundings { .. } => "surroundings",
        }
    }

    /// What to type or do next; empty where there is nothing.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Home(error) => error.hint().to_owned(),
            Self::Output(_) | Self::Surroundings { .. } => String::new(),
            Self::Failed(failure) => failure.hint.clone(),
            Self::Socket { .. } => "check who owns that socket; it must be yours".to_owned(),
            Self::Spawn { .. } => "install dhow again, so that its executable can be run".to_owned(),
            Self::DaemonDied { .. } => "dhow logs daemon".to_owned(),
            Self::DaemonStuck { .. } => {
                "wait a moment and type it again; `dhow logs daemon` shows what it does".to_owned()
            }
            Self::TimedOut { goes_on: true, .. } => {
                "it goes on without this command: `dhow status` shows how far it is, --time-limit waits longer"
                    .to_owned()
            }
            Self::TimedOut { goes_on: false, .. } => {
                "dhow logs daemon; --time-limit waits longer".to_owned()
            }
            Self::Lost { .. } => {
                "machines go on without a daemon: `dhow up` starts the next one, `dhow logs daemon` shows why it ended"
                    .to_owned()
            }
            Self::Refused { .. } => "dhow logs daemon".to_owned(),
            Self::OtherProtocol { .. } => {
                "stop it with `dhow down`, then type `dhow up` for one of this version".to_owned()
            }
            Self::Interrupted { hint, .. } => hint.clone(),
            Self::Read { .. } | Self::Write { .. } => "check the file's owner and mode, and the disk's space".to_owned(),
            Self::Context(error) => error.hint(),
            Self::Dns(error) => error.hint(),
            Self::Service(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::NoLog { .. } => "dhow up".to_owned(),
        }
    }

    /// The command's exit status.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::Interrupted { .. } => crate::exit::INTERRUPTED,
            _ => crate::exit::FAILED,
        }
    }

    /// Whether the reader of our output went away, which is no error.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self::new(error.code(), error.to_string(), error.hint())
    }
}
