//! Starts a background process of ours and waits for its own word that it serves.
//!
//! The process has a pipe as its standard output, on which it writes one line, `ready` or a [`Failure`] as JSON, and then
//! closes it. Whoever launched it thus waits for a fact, and hears the reason of a failure word for word.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dhow_model::Failure;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The longest answer that is read.
const ANSWER_LIMIT: u64 = 64 << 10;

const READY: &str = "ready";

/// Why a process did not come to serve.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It could not be started at all.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// What was to be started.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It said why it cannot serve.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// It ended or closed the pipe without a word; its log may tell more.
    #[error("{program} ended without a word; see {log}")]
    Silent {
        /// What was started.
        program: String,
        /// Where it logs.
        log: String,
    },
    /// It did not answer in time and was killed.
    #[error("{program} did not answer in {} s and was ended; see {log}", limit.as_secs())]
    Timeout {
        /// What was started.
        program: String,
        /// Where it logs.
        log: String,
        /// How long it had.
        limit: Duration,
    },
}

/// Starts `command`, which is one of our own background processes, with its standard error appended to `log`, and returns
/// it once it serves. The caller reaps it; it goes on when the caller ends.
///
/// # Errors
/// When it cannot be started, says why it cannot serve, ends, or is silent for `limit`; it is then gone.
pub async fn launch(mut command: Command, log: &Path, limit: Duration) -> Result<Child, LaunchError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let spawn = |source| LaunchError::Spawn { program: program.clone(), source };
    let stderr =
        std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(log).map_err(spawn)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).current_dir("/");
    let mut child = command.spawn().map_err(spawn)?;
    let mut line = String::new();
    let answer = match child.stdout.take() {
        None => Ok(Ok(0)),
        Some(pipe) => {
            let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(pipe, ANSWER_LIMIT));
            tokio::time::timeout(limit, reader.read_line(&mut line)).await
        }
    };
    let log = log.display().to_string();
    let error = match (answer, serde_json::from_str::<Failure>(&line)) {
        (Ok(_), _) if line.trim_end() == READY => return Ok(child),
        (Ok(_), Ok(failure)) => LaunchError::Refused(failure),
        (Ok(_), Err(_)) => LaunchError::Silent { program, log },
        (Err(_), _) => LaunchError::Timeout { program, log, limit },
    };
    // A process that refused is ending by itself; one that is silent or late is ended. Either way it is reaped here.
    match child.kill().await {
        Ok(()) => Err(error),
        Err(source) => Err(LaunchError::Spawn { program: format!("(reaping) {error}"), source }),
    }
}

/// Says to whoever launched this process that it serves, or why it does not, and closes the pipe: standard output is
/// `/dev/null` from then on. Without a launcher the line is simply printed.
///
/// # Errors
/// When `/dev/null` cannot be opened. A launcher that is gone is no error.
pub fn answer(answer: Result<(), &Failure>) -> io::Result<()> {
    let line = match answer {
        Ok(()) => READY.to_owned(),
        Err(failure) => serde_json::to_string(failure)?,
    };
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e),
        _ => {}
    }
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Detaches this process from the terminal of whoever started it: a session of its own. One that already leads its group
/// (a shell's own job) stays where it is.
pub fn detach() {
    match rustix::process::setsid() {
        Ok(_) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str, limit: Duration) -> Result<Child, LaunchError> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).kill_on_drop(true);
        launch(command, &dir.path().join("log"), limit).await
    }

    /// Spec 6.2.
    #[tokio::test]
    async fn a_process_is_launched_by_its_own_word_and_its_reason_is_heard() {
        let long = Duration::from_secs(20);
        run("echo ready; sleep 60", long).await.unwrap().kill().await.unwrap();
        let refused = r#"echo '{"code":"disk-full","message":"no space","hint":"make some"}'; exit 1"#;
        match run(refused, long).await.unwrap_err() {
            LaunchError::Refused(failure) => assert_eq!(failure.code, "disk-full"),
            other => panic!("{other}"),
        }
        assert!(matches!(run("exit 1", long).await, Err(LaunchError::Silent { .. })));
    }

    /// Spec 16.2.
    #[tokio::test]
    async fn a_process_that_says_nothing_is_ended_at_the_limit() {
        assert!(matches!(
            run("exec sleep 60", Duration::from_millis(50)).await,
            Err(LaunchError::Timeout { .. })
        ));
    }
}
