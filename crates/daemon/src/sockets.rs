//! The daemon's sockets: its own, or those that a service manager listens on in its place (sd_listen_fds(3)) and keeps when the
//! daemon ends.

use std::io;
use std::os::unix::net::UnixListener as Given;
use std::path::{Path, PathBuf};

use dhow_home::{Home, socket};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::UnixListener;

use crate::{Error, Result};

/// What a service manager passed to this process.
#[derive(Debug, Default)]
pub struct Passed {
    listeners: Vec<(PathBuf, Given)>,
}

/// A socket that is served.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Whether it goes when the daemon does.
    ours: bool,
}

impl Passed {
    /// Nothing: the daemon listens itself.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// What the environment says. To be called before there are threads, and once: the variables are removed, and no child inherits
    /// a socket.
    ///
    /// # Errors
    /// When one that was passed is no Unix socket that listens.
    pub fn from_environment() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for index in 0..passed.len() {
            let Some(listener) = passed.take_unix_listener(index)? else { continue };
            rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let path = address.as_pathname().map(Path::to_owned).unwrap_or_default();
            listeners.push((path, listener));
        }
        Ok(Self { listeners })
    }

    /// Listens at both sockets, one after the other: at those that were passed, else at our own.
    pub(crate) fn listen(mut self, home: &Home) -> Result<[(Socket, UnixListener); 2]> {
        let docker = self.one(home.docker_socket())?;
        let control = self.one(home.control_socket())?;
        for (path, _) in self.listeners {
            tracing::warn!(path = %path.display(), "a socket that was passed is none of this daemon's, and is closed");
        }
        Ok([docker, control])
    }

    fn one(&mut self, path: PathBuf) -> Result<(Socket, UnixListener)> {
        let passed = self.listeners.iter().position(|(passed, _)| *passed == path);
        let listening = match passed {
            Some(index) => UnixListener::from_std(self.listeners.swap_remove(index).1),
            None => socket::listen(&path),
        };
        match listening {
            Ok(listener) => Ok((Socket { path, ours: passed.is_none() }, listener)),
            Err(source) => Err(Error::Serve { path, source }),
        }
    }
}

impl Socket {
    /// New requests find no socket rather than one that is not served; one that was passed waits for the next daemon.
    pub(crate) fn close(self) -> Result<()> {
        if !self.ours {
            return Ok(());
        }
        socket::remove(&self.path).map_err(|source| Error::Serve { path: self.path, source })
    }
}

/// Tells the service manager, if there is one, that the daemon serves.
pub(crate) fn serves() {
    tell(&[NotifyState::Ready]);
}

/// Tells it that the daemon is about to end, and what it does meanwhile.
pub(crate) fn ends(what: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(what)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
