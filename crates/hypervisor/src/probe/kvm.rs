//! The verdict on KVM: who asks, in which process, for how long.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{SUBCOMMAND, facts};

/// How long the child may take. It needs 30 ms where KVM works.
const LIMIT: Duration = Duration::from_secs(2);

const DEVICE: &str = "/dev/kvm";

/// What the probe found out about KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmVerdict {
    /// Guest instructions ran, in time, with the right result.
    Usable {
        /// The kernel's driver: `kvm_intel`, `kvm_amd`, or `built in`.
        driver: String,
    },
    /// There is none, and why.
    Missing(String),
    /// The user may not open it, and what to do.
    NoPermission(String),
    /// It is there and does not run ordinary guests: what happened.
    NotUsable(String),
}

impl KvmVerdict {
    /// Why it can be used, or why not, as a clause.
    ///
    /// # Errors
    /// Every verdict but `Usable`.
    pub fn into_result(self) -> Result<String, String> {
        if matches!(self, Self::Usable { .. }) { Ok(self.to_string()) } else { Err(self.to_string()) }
    }
}

impl fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable { driver } => write!(f, "KVM runs guest instructions (driver {driver})"),
            Self::Missing(why) => write!(f, "there is no KVM: {why}"),
            Self::NoPermission(what) => write!(f, "KVM is there and may not be opened: {what}"),
            Self::NotUsable(what) => write!(f, "KVM is there and does not run an ordinary guest: {what}"),
        }
    }
}

/// The executable that runs the probe.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// How long it may take.
    pub limit: Duration,
}

/// Probes KVM in a child process of this executable, which must call [`run_probe_child`](super::run_probe_child) as its
/// [`SUBCOMMAND`].
pub async fn kvm() -> KvmVerdict {
    match std::env::current_exe() {
        Ok(path) => {
            let arguments = vec![SUBCOMMAND.to_owned()];
            kvm_with(Program { path, arguments, limit: LIMIT }).await
        }
        Err(error) => KvmVerdict::NotUsable(format!("the probe cannot find its own executable: {error}")),
    }
}

/// Probes KVM in a child process of another executable.
pub async fn kvm_with(program: Program) -> KvmVerdict {
    match open(Path::new(DEVICE)) {
        Ok(()) => {}
        Err(verdict) => return verdict,
    }
    let driver = facts::driver();
    match (run(program).await, driver) {
        (Ok(()), Ok(driver)) => KvmVerdict::Usable { driver },
        (Ok(()), Err(other)) => KvmVerdict::Usable { driver: other },
        (Err(what), Ok(driver)) => KvmVerdict::NotUsable(format!("{what} (driver {driver})")),
        (Err(what), Err(other)) => KvmVerdict::NotUsable(format!(
            "{what}; its driver is {other}, not that of Intel's or AMD's processors"
        )),
    }
}

/// Whether the device can be opened for reading and writing.
fn open(device: &Path) -> Result<(), KvmVerdict> {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    if !cfg!(target_os = "linux") {
        return Err(KvmVerdict::Missing("KVM is part of Linux, and this is another system".to_owned()));
    }
    let shown = device.display();
    match std::fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == NotFound => Err(KvmVerdict::Missing(format!(
            "{shown} does not exist (load kvm_intel or kvm_amd, enable virtualization in the firmware)"
        ))),
        Err(e) if e.kind() == PermissionDenied => Err(KvmVerdict::NoPermission(
            match facts::group(device).filter(|group| group != "root" && group != "0") {
                Some(group) => format!(
                    "{shown} belongs to the group {group}; join it with `sudo usermod -aG {group} \"$USER\"` and log in \
                     again"
                ),
                None => format!("{shown} belongs to root alone; give it to a group of yours"),
            },
        )),
        Err(e) => Err(KvmVerdict::Missing(format!("{shown}: {e}"))),
    }
}

/// `Ok` when the child says so, otherwise what happened.
async fn run(program: Program) -> Result<(), String> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(program.limit, command.output()).await {
        Err(_) => {
            Err(format!("a few guest instructions did not come to their end within {:?}", program.limit))
        }
        Ok(Err(e)) => Err(format!("the probe {} could not be run: {e}", program.path.display())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stdout);
            match said.trim() {
                "" => Err(format!("the probe ended with {}", output.status)),
                said => Err(said.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Program { path: "/bin/sh".into(), arguments, limit: Duration::from_millis(500) }
    }

    /// Spec 9.1, 16.2.
    #[tokio::test]
    async fn a_probe_that_hangs_fails_or_dies_is_a_reason_in_words() {
        let table = [
            ("sleep 60", "within 500ms"),
            ("echo wrong result; exit 1", "wrong result"),
            ("kill -9 $$", "signal: 9"),
        ];
        for (script, expected) in table {
            let what = run(shell(script)).await.unwrap_err();
            assert!(what.contains(expected), "{script}: {what}");
        }
        assert_eq!(run(shell("exit 0")).await, Ok(()));
        let nowhere = Program { path: "/nowhere/dhow".into(), ..shell("") };
        assert!(run(nowhere).await.unwrap_err().contains("could not be run"));
    }

    #[test]
    fn a_device_that_is_not_there_is_missing_with_what_to_do() {
        let verdict = open(Path::new("/nowhere/kvm")).unwrap_err();
        assert!(matches!(&verdict, KvmVerdict::Missing(why) if !why.is_empty()), "{verdict}");
    }
}
