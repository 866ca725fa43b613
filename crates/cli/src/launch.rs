//! Starts a daemon that outlives the command, and finds one that runs. The daemon is this executable again.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use dhow_home::Home;
use dhow_home::launch::{LaunchError, launch};
use dhow_home::lock::{FileLock, LockError};
use tokio::process::Command;

use crate::client::{Daemon, Deadline};
use crate::error::{Error, Result};
use crate::text;

/// How long a daemon may take until it serves. It starts no machine before that.
const START: Duration = Duration::from_secs(30);

/// How long to wait for a daemon that is there and does not serve yet, or no more.
const SETTLE: Duration = Duration::from_secs(20);

/// How long a call that has no work to do may take.
pub const CALL: Duration = Duration::from_secs(10);

/// How often to look for a daemon that is starting or stopping.
const LOOK_AGAIN: Duration = Duration::from_millis(30);

/// How much of a dead daemon's last words are shown.
const LAST_WORDS: u64 = 2 << 10;

/// The daemon's code for having found another one.
const ALREADY_RUNNING: &str = "already-running";

/// The daemon that runs; `None` when none does. One that is starting is waited for, and so is the end of one that is
/// stopping.
///
/// # Errors
/// When there is one that does not answer.
pub async fn running(home: &Home) -> Result<Option<Daemon>> {
    let settle = Deadline::after(SETTLE);
    loop {
        if let Some(daemon) = Daemon::reach(&home.control_socket(), Deadline::after(CALL)).await? {
            return Ok(Some(daemon));
        }
        if !held(&home.daemon_lock())? {
            return Ok(None);
        }
        if settle.left().is_zero() {
            return Err(Error::DaemonStuck { lock: home.daemon_lock(), waited: SETTLE });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The daemon that runs, started where there is none. Of several commands at once, one starts it.
///
/// # Errors
/// When it cannot be started, or ended at once, with its own words where it said any; when time is up.
pub async fn ensure(home: &Home, deadline: Deadline) -> Result<Daemon> {
    home.create()?;
    loop {
        if let Some(daemon) = running(home).await? {
            return Ok(daemon);
        }
        let launching = alone(home, deadline).await?;
        if let Some(daemon) = running(home).await? {
            return Ok(daemon);
        }
        let started = start(home, deadline).await;
        drop(launching);
        match started {
            Ok(()) => {}
            // Somebody else started one, or looked whether one runs, which takes its lock for a moment.
            Err(Error::Failed(failure)) if failure.code == ALREADY_RUNNING && !deadline.left().is_zero() => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Holds other commands off from starting a daemon too.
async fn alone(home: &Home, deadline: Deadline) -> Result<FileLock> {
    let lock = home.run_dir().join("launch.lock");
    FileLock::wait_exclusive(&lock, deadline.left()).await.map_err(|error| match error {
        LockError::Held { .. } => deadline.missed("another command, which starts the daemon", false),
        error @ LockError::Io { .. } => Error::Home(error.into()),
    })
}

/// Waits until no daemon runs.
///
/// # Errors
/// When one still does at the end of the deadline.
pub async fn gone(home: &Home, deadline: Deadline) -> Result<()> {
    while held(&home.daemon_lock())? {
        if deadline.left().is_zero() {
            return Err(deadline.missed("the daemon's end", true));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Whether some process holds the lock at `path`.
///
/// # Errors
/// When the file cannot be opened.
pub fn held(path: &Path) -> Result<bool> {
    FileLock::is_held(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

async fn start(home: &Home, deadline: Deadline) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|source| Error::Surroundings { what: "this program's own file is not known", source })?;
    let log = home.daemon_log();
    let before = log.metadata().map_or(0, |m| m.len());
    let mut command = Command::new(&program);
    command.arg("--home").arg(home.root()).args(["daemon", "--detached"]);
    let limit = START.min(deadline.left());
    match launch(command, &log, limit).await {
        // It belongs to nobody from now on: it ends by `dhow down` or by a signal.
        Ok(_child) => Ok(()),
        Err(LaunchError::Refused(failure)) => Err(Error::Failed(failure)),
        Err(LaunchError::Spawn { source, .. }) => Err(Error::Spawn { program, source }),
        Err(LaunchError::Silent { .. }) => {
            Err(Error::DaemonDied { tail: text::harmless(&last_words(&log, before).unwrap_or_default()) })
        }
        Err(LaunchError::Timeout { .. }) if deadline.left().is_zero() => {
            Err(deadline.missed("the daemon's start", false))
        }
        Err(LaunchError::Timeout { limit, .. }) => {
            Err(Error::TimedOut { step: "the daemon's start".to_owned(), limit, goes_on: false })
        }
    }
}

fn last_words(log: &Path, before: u64) -> Option<String> {
    let mut file = std::fs::File::open(log).ok()?;
    let end = file.metadata().ok()?.len();
    let from = before.max(end.saturating_sub(LAST_WORDS)).min(end);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
