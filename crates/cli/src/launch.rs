//! Starts a daemon that outlives the command, and finds one that runs. The daemon is this executable again; its standard
//! output is a pipe on which it says one line, `ready` or a [`Failure`] as JSON, and that line is all that is waited for.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dhow_home::Home;
use dhow_home::lock::FileLock;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::{Daemon, Deadline};
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::text;

/// What a daemon says when it serves.
const READY: &str = "ready";

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

/// Says on standard output, as the daemon that a command waits for, whether it serves. A command that has gone is no
/// error. Nothing more may be printed there afterwards.
pub fn answer(result: Result<(), &Failure>) {
    let line = match result {
        Ok(()) => READY.to_owned(),
        Err(failure) => serde_json::to_string(failure).unwrap_or_else(|_| failure.message.replace('\n', " ")),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

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
/// When it cannot be started, or ended at once; with its own words where it said any.
pub async fn ensure(home: &Home) -> Result<Daemon> {
    home.create()?;
    loop {
        if let Some(daemon) = running(home).await? {
            return Ok(daemon);
        }
        let launching = FileLock::wait_exclusive(&home.run_dir().join("launch.lock"), START + SETTLE)
            .await
            .map_err(dhow_home::Error::from)?;
        if let Some(daemon) = running(home).await? {
            return Ok(daemon);
        }
        let started = launch(home).await;
        drop(launching);
        match started {
            Ok(()) => {}
            // Somebody started one by other means, so ours could not have the lock.
            Err(_) if held(&home.daemon_lock())? => {}
            Err(error) => return Err(error),
        }
    }
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

async fn launch(home: &Home) -> Result<()> {
    let program =
        std::env::current_exe().map_err(|source| Error::Spawn { program: PathBuf::from("dhow"), source })?;
    let path = home.daemon_log();
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Error::Write { path: path.clone(), source })?;
    let before = log.metadata().map_or(0, |m| m.len());
    let child = Command::new(&program)
        .arg("--home")
        .arg(home.root())
        .args(["daemon", "--detached"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|source| Error::Spawn { program, source })?;
    let mut newborn = Newborn { child, serves: false };
    let line = Deadline::after(START).wait("the daemon's first word", newborn.first_line()).await?;
    if line.trim_end() == READY {
        newborn.serves = true;
        return Ok(());
    }
    match serde_json::from_str::<Failure>(&line) {
        Ok(failure) => Err(Error::Failed(failure)),
        Err(_) => {
            let status = newborn.end().await;
            let tail = last_words(&path, before).unwrap_or_default();
            let tail = if tail.is_empty() { line.trim_end().to_owned() } else { tail };
            Err(Error::DaemonDied { status, tail: text::harmless(&tail) })
        }
    }
}

/// A daemon that does not serve yet. It is ours to end, also when its command is interrupted.
struct Newborn {
    child: Child,
    serves: bool,
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if !self.serves {
            // That it has ended by itself is as good.
            self.child.start_kill().ok();
        }
    }
}

impl Newborn {
    async fn first_line(&mut self) -> String {
        let mut line = Vec::new();
        let Some(out) = self.child.stdout.take() else { return String::new() };
        // What cannot be read counts as not said; the child's end tells more.
        BufReader::new(out.take(64 << 10)).read_until(b'\n', &mut line).await.ok();
        String::from_utf8_lossy(&line).into_owned()
    }

    /// How it ended; one that goes on without a word is ended.
    async fn end(&mut self) -> String {
        match tokio::time::timeout(Duration::from_secs(2), self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its output without a word".to_owned(),
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
