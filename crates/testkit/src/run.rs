//! A command that ends: by itself or by its time limit, with everything it said.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Error, Result, wait};

/// A command about to be run. Its output is kept apart by stream, its input is empty unless given.
pub struct Run {
    command: Command,
    input: Vec<u8>,
    limit: Duration,
}

/// How a command ended.
#[derive(Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// From spawn to exit.
    pub took: Duration,
}

impl Run {
    /// A program with no arguments yet and five minutes to live: long for anything, even in an emulated guest on a busy
    /// host.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self::from(Command::new(program))
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The directory to run in.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What the command reads on its standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long it may take before it is killed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command line as a person would type it.
    pub fn line(&self) -> String {
        line(&self.command)
    }

    /// Starts it and leaves it to the caller, without input and with its output dropped.
    ///
    /// # Errors
    /// [`Error::Spawn`] when it cannot start.
    pub fn start(mut self) -> Result<Child> {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        spawn(&mut self.command)
    }

    /// Runs it to its end, whatever its exit status.
    ///
    /// # Errors
    /// [`Error::Spawn`] when it cannot start, [`Error::Overdue`] when it was killed at its limit.
    pub fn outcome(mut self) -> Result<Outcome> {
        let line = line(&self.command);
        let began = Instant::now();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut self.command)?;
        let feeder = feed(&mut child, std::mem::take(&mut self.input));
        let stdout = gather(child.stdout.take());
        let stderr = gather(child.stderr.take());
        let status = wait_within(&mut child, self.limit);
        let took = began.elapsed();
        if status.is_none() {
            kill(&mut child);
        }
        // A grandchild may hold the pipes open; it gets a moment, then its words are not waited for.
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        drop(feeder);
        match status {
            Some(status) => Ok(Outcome { command: line, status, stdout, stderr, took }),
            None => {
                let output =
                    format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
                Err(Error::Overdue { command: line, limit: self.limit, output })
            }
        }
    }

    /// Runs it and requires exit status 0.
    ///
    /// # Errors
    /// As [`Run::outcome`], and [`Error::Failed`] with what the command said.
    pub fn ok(self) -> Result<Outcome> {
        self.outcome()?.ok()
    }
}

impl From<Command> for Run {
    fn from(command: Command) -> Self {
        Self { command, input: Vec::new(), limit: Duration::from_secs(300) }
    }
}

impl Outcome {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Itself, if it ended well.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the command said.
    pub fn ok(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        Err(Error::Failed {
            command: self.command.clone(),
            status: self.status.to_string(),
            output: self.to_string(),
        })
    }

    /// Standard output as text, without white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text, without white space around it.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "`{}`: {} after {:?}", self.command, self.status, self.took)?;
        writeln!(f, "--- stdout\n{}", clip(&self.stdout))?;
        write!(f, "--- stderr\n{}", clip(&self.stderr))
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The command line as a person would type it.
pub fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Starts a command.
///
/// # Errors
/// [`Error::Spawn`] with the command line.
pub fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|source| Error::Spawn { command: line(command), source })
}

/// The child's exit status, or `None` when it still runs after `limit`.
pub fn wait_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if began.elapsed() < limit => wait::nap(pause),
            Ok(None) | Err(_) => return None,
        }
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Kills a child and reaps it. One that has already ended is only reaped.
pub fn kill(child: &mut Child) {
    if child.kill().is_ok()
        && let Err(error) = child.wait()
    {
        eprintln!("cannot reap process {}: {error}", child.id());
    }
}

fn feed(child: &mut Child, input: Vec<u8>) -> Option<JoinHandle<()>> {
    let mut stdin = child.stdin.take()?;
    if input.is_empty() {
        return None;
    }
    // A command that ends without reading its input breaks the pipe, which is its right.
    Some(std::thread::spawn(move || stdin.write_all(&input).unwrap_or_default()))
}

type Gathered = std::sync::Arc<std::sync::Mutex<Vec<u8>>>;

fn gather(pipe: Option<impl Read + Send + 'static>) -> (Gathered, Option<JoinHandle<()>>) {
    let kept = Gathered::default();
    let thread = pipe.map(|mut pipe| {
        let kept = kept.clone();
        std::thread::spawn(move || {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(length) = pipe.read(&mut piece) {
                if length == 0 {
                    return;
                }
                if let Ok(mut kept) = kept.lock() {
                    kept.extend_from_slice(&piece[..length]);
                }
            }
        })
    });
    (kept, thread)
}

fn collect((kept, thread): (Gathered, Option<JoinHandle<()>>)) -> Vec<u8> {
    let ended = || thread.as_ref().is_none_or(JoinHandle::is_finished).then_some(());
    if wait::until("the end of output", Duration::from_secs(2), ended).is_err() {
        eprintln!("a child of a finished command still holds its output open");
    }
    kept.lock().map(|mut bytes| std::mem::take(&mut *bytes)).unwrap_or_default()
}

fn clip(bytes: &[u8]) -> String {
    const MOST: usize = 8 * 1024;
    let tail = &bytes[bytes.len().saturating_sub(MOST)..];
    let mark = if tail.len() < bytes.len() { "[…]\n" } else { "" };
    format!("{mark}{}", String::from_utf8_lossy(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_and_both_streams_are_kept_apart() {
        let outcome = Run::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).outcome().unwrap();
        assert_eq!(
            (outcome.code(), outcome.text(), outcome.complaint()),
            (Some(3), "out".into(), "err".into())
        );
    }

    #[test]
    fn input_reaches_the_command_whole() {
        let bytes = vec![b'x'; 1 << 20];
        let outcome = Run::new("wc").arg("-c").input(bytes).ok().unwrap();
        assert_eq!(outcome.text(), "1048576");
    }

    /// Rule 16.2: no command hangs.
    #[test]
    fn a_command_past_its_limit_is_killed_and_named() {
        let error = Run::new("sleep").arg("60").limit(Duration::from_millis(50)).outcome().unwrap_err();
        assert!(
            matches!(error, Error::Overdue { .. }) && error.to_string().starts_with("`sleep 60`"),
            "{error}"
        );
    }

    #[test]
    fn a_failure_shows_what_the_command_said() {
        let error = Run::new("sh").args(["-c", "echo why >&2; exit 1"]).ok().unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
