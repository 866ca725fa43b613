//! The machine's file server: a process of its own (`dhow_share`), started before the hypervisor and gone with the supervisor. While the
//! machine sleeps it stays, with all that its guest had open.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dhow_home::{MachineDir, socket};
use dhow_hypervisor::Share;
use dhow_model::MachineSpec;
use dhow_model::config::Access;
use tokio_util::sync::CancellationToken;

use crate::changes::Line;
use crate::{Error, Result};

/// For it to open what it shares; a directory on a network may take its time.
const READY: Duration = Duration::from_secs(20);
/// The longest line of its log that is taken.
const LINE: u64 = 4 << 10;

/// A running file server.
#[derive(Debug)]
pub struct Shares {
    child: Child,
    /// Closed, it ends.
    life: UnixStream,
    said: Said,
    /// Cancelled when it has ended.
    ended: CancellationToken,
}

/// Its last words.
type Said = Arc<Mutex<String>>;

/// What the hypervisor is told: one device for all shares.
pub fn devices(dir: &MachineDir, spec: &MachineSpec) -> Vec<Share> {
    if spec.shares.is_empty() {
        return Vec::new();
    }
    vec![Share { socket: dir.shares_socket(), tag: dhow_share::TAG.to_owned() }]
}

impl Shares {
    /// Starts it, unless nothing is shared. It serves when this answers.
    ///
    /// # Errors
    /// When it cannot be started, or says that a directory cannot be shared.
    pub async fn start(dir: &MachineDir, spec: &MachineSpec) -> Result<Option<Self>> {
        if spec.shares.is_empty() {
            return Ok(None);
        }
        let path = dir.shares_socket();
        let listener = socket::listen(&path)
            .and_then(tokio::net::UnixListener::into_std)
            .and_then(|listener| listener.set_nonblocking(false).map(|()| listener))
            .map_err(|source| Error::Serve { path, source })?;
        let each =
            || spec.shares.iter().map(|share| (share.path.as_path(), share.access == Access::ReadWrite));
        let mut command = Command::new(std::env::current_exe().map_err(Error::Shares)?);
        // The machine's disk, its saved memory and the translators are no guest's business (spec 14.3).
        let home =
            dir.path().ancestors().nth(2).filter(|home| !each().any(|(path, _)| path.starts_with(home)));
        command.args(dhow_share::words(each(), home)).current_dir("/").process_group(0);
        let started = tokio::task::spawn_blocking(move || Self::spawn(command, listener.into()));
        let started = started.await.map_err(|_| Error::Ending)?;
        let shares = started?;
        tracing::info!(pid = shares.child.id(), shares = spec.shares.len(), "directories are shared");
        Ok(Some(shares))
    }

    fn spawn(mut command: Command, listener: OwnedFd) -> Result<Self> {
        let (life, theirs) = UnixStream::pair().map_err(Error::Shares)?;
        command.stdin(listener).stdout(OwnedFd::from(theirs)).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::Shares)?;
        // Ours of the other end goes with the command: when the process ends, we read its end.
        drop(command);
        let (said, ended) = (Said::default(), CancellationToken::new());
        let mut words = None;
        if let Some(stderr) = child.stderr.take() {
            let (said, ended) = (Arc::clone(&said), ended.clone());
            let log = thread::Builder::new().name("shares-log".to_owned()).spawn(move || {
                log(stderr, &said);
                ended.cancel();
            });
            words = Some(log.map_err(Error::Shares)?);
        }
        let mut shares = Self { child, life, said, ended };
        if shares.is_ready() {
            return Ok(shares);
        }
        shares.end();
        if let Some(words) = words
            && words.join().is_err()
        {
            tracing::error!("the reader of the file server's log has failed");
        }
        let said = shares.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(Error::NotShared(said))
    }

    /// Whether it says that it serves.
    fn is_ready(&self) -> bool {
        let mut answer = [0; 6];
        let read =
            self.life.set_read_timeout(Some(READY)).and_then(|()| (&self.life).read_exact(&mut answer));
        match read {
            Ok(()) => answer == *b"ready\n",
            Err(error) => {
                tracing::debug!(%error, "the file server is not ready");
                false
            }
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still serves.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Where it says what the host changes; asked for once.
    ///
    /// # Errors
    /// When its socket cannot be waited for.
    pub fn line(&self) -> Result<Line> {
        Line::new(&self.life).map_err(Error::Shares)
    }

    /// Cancelled when it has ended, of itself or because we are done with it.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    fn end(&mut self) {
        // It may be gone already, and is waited for in any case.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "the file server could not be ended");
        }
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.end();
    }
}

/// Passes its log on to ours and keeps the last line.
fn log(from: impl io::Read, said: &Said) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        tracing::info!(target: "shares", "{text}");
        text.clone_into(&mut said.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
