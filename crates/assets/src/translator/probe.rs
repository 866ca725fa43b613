//! Has a translator run a test program on this host, where it can: the proof before any machine.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use dhow_model::Arch;
use dhow_model::translator::{Translator, probe};

/// For the test program, which does nothing.
const LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// Runs the test program of the architecture that a translator serves. Answers how long it took.
///
/// # Errors
/// Why it did not run, in words; also when this host is not of the guest's architecture.
pub fn run(directory: &Path, translator: &Translator) -> Result<Duration, String> {
    if !cfg!(target_os = "linux") || Arch::host() != Some(translator.guest) {
        return Err(format!("it runs on Linux of {} only, and this host is another", translator.guest));
    }
    let scratch = tempfile::tempdir().map_err(|error| format!("no scratch directory: {error}"))?;
    let program = scratch.path().join("probe");
    dhow_home::atomic::write(&program, &probe::program(translator.serves), 0o755)
        .and_then(|()| std::fs::set_permissions(&program, Permissions::from_mode(0o755)))
        .map_err(|error| format!("the test program cannot be written: {error}"))?;
    let began = Instant::now();
    let mut command = Command::new(directory.join(translator.file));
    command.arg(&program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    let status = wait(child)?;
    match status.code() {
        Some(probe::STATUS) => Ok(began.elapsed()),
        _ => Err(format!("the test program should end with status {}: {status}", probe::STATUS)),
    }
}

fn wait(mut child: Child) -> Result<ExitStatus, String> {
    let until = Instant::now() + LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < until => park_timeout(LOOK),
            Ok(None) => {
                let ended = child.kill().and_then(|()| child.wait());
                let ended =
                    ended.map_or_else(|error| format!(", and cannot be ended: {error}"), |_| String::new());
                return Err(format!("the test program did not end within {} s{ended}", LIMIT.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use dhow_model::TranslatorName;
    use dhow_model::translator::{Source, TABLE};

    use super::*;

    /// An interpreter of our own that ends as a translator would, or does not.
    fn outcome(script: &str) -> Result<Duration, String> {
        let directory = tempfile::tempdir().unwrap();
        let guest = Arch::host().unwrap();
        let row = TABLE.iter().find(|row| row.guest == guest && row.name == TranslatorName::Qemu).unwrap();
        assert!(matches!(row.source, Source::Package { .. }));
        let text = format!("#!/bin/sh\n{script}\n");
        dhow_home::atomic::write(&directory.path().join(row.file), text.as_bytes(), 0o755).unwrap();
        run(directory.path(), row)
    }

    /// Spec 1.9: only a program that really ran counts.
    #[test]
    fn only_the_status_of_the_test_program_is_a_proof() {
        assert!(outcome("test -x \"$1\" && exit 42").is_ok());
        assert!(outcome("exit 0").unwrap_err().contains("exit status: 0"));
        assert!(outcome("kill -SEGV $$").unwrap_err().contains("signal: 11"));
    }

    #[test]
    fn another_hosts_translator_is_not_tried() {
        let row = TABLE.iter().find(|row| Some(row.guest) != Arch::host()).unwrap();
        assert!(run(Path::new("/nowhere"), row).unwrap_err().contains("this host is another"));
    }
}
