//! The real `docker` client, aimed at one engine, with a configuration of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, Result, Run, Tools};

/// A `docker` client whose every call goes to one socket. Contexts and settings of the user's are neither read nor
/// changed.
#[derive(Clone, Debug)]
pub struct Docker {
    tools: Tools,
    socket: PathBuf,
}

impl Docker {
    /// A client for the engine that listens on `socket`.
    pub fn new(tools: Tools, socket: impl Into<PathBuf>) -> Self {
        Self { tools, socket: socket.into() }
    }

    /// The engine's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The programs behind it.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// `docker` with nothing after it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.tools.docker);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", &self.tools.config)
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY")
            .env_remove("DOCKER_API_VERSION");
        command
    }

    /// `docker args…`, to be completed.
    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        Run::from(self.command()).args(args)
    }

    /// `docker args…` run to its end, whatever that is.
    ///
    /// # Errors
    /// As [`Run::outcome`].
    pub fn outcome(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Outcome> {
        self.run(args).outcome()
    }

    /// `docker args…`, which must succeed; its trimmed output.
    ///
    /// # Errors
    /// As [`Run::ok`].
    pub fn ok(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        Ok(self.run(args).ok()?.text())
    }

    /// Whether an engine answers on the socket now.
    pub fn answers(&self) -> bool {
        let ping = self.run(["version", "--format", "{{.Server.Version}}"]).limit(Duration::from_secs(5));
        ping.ok().is_ok()
    }
}
