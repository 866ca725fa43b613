//! What `dhow doctor` says about hypervisors (spec 9.3).

use dhow_model::config::Wish;
use dhow_model::{Accelerator, Arch};
use serde::Serialize;

use crate::{Error, Hypervisor as _, Qemu, Result, probe};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Dhow works, but less well than it could.
    Warn,
    /// Dhow does not work without it.
    Fail,
}

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Runs every probe of this crate; takes a few seconds at most.
pub async fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for arch in Arch::ALL {
        let found = tokio::task::spawn_blocking(move || Qemu::find(arch)).await;
        let found = found.unwrap_or_else(|e| Err(Error::Unsupported(e.to_string())));
        if let Ok(qemu) = &found
            && Arch::host() == Some(arch)
            && cfg!(target_os = "linux")
        {
            checks.push(sandbox(qemu).await);
        }
        checks.push(qemu(arch, found));
    }
    checks.push(accelerator().await);
    checks
}

/// QEMU for guests of one architecture. Without the host's own, nothing runs.
fn qemu(arch: Arch, found: Result<Qemu>) -> Check {
    let name = format!("qemu {arch}");
    let native = Arch::host() == Some(arch);
    match found {
        Ok(qemu) => Check::ok(name, format!("{} ({})", qemu.name(), qemu.path().display())),
        Err(error) => {
            let (found, advice) = match error {
                Error::NotInstalled { program, advice } => {
                    (format!("{program} is not installed"), Some(advice))
                }
                Error::TooOld { path, found, needed, advice } => {
                    (format!("{} is {found}, older than {needed}", path.display()), Some(advice))
                }
                Error::FirmwareMissing { file, looked, advice } => {
                    (format!("its firmware file {file} is missing (looked in {looked})"), Some(advice))
                }
                other => (other.to_string(), None),
            };
            let verdict = if native { Verdict::Fail } else { Verdict::Warn };
            let advice = match advice {
                Some(advice) if !native => {
                    Some(format!("only machines that emulate {arch} need it: {advice}"))
                }
                advice => advice,
            };
            Check { name, verdict, found, advice }
        }
    }
}

/// Spec 9.4: without its sandbox QEMU is not started.
async fn sandbox(qemu: &Qemu) -> Check {
    let name = "qemu sandbox".to_owned();
    let path = qemu.path().to_owned();
    let greeting = tokio::task::spawn_blocking(move || crate::qemu::greets_in_its_sandbox(&path)).await;
    match greeting {
        Ok(Ok(true)) => Check::ok(name, "QEMU runs with its system call filter on".to_owned()),
        Ok(Ok(false)) => Check {
            name,
            verdict: Verdict::Fail,
            found: "QEMU does not start with its system call filter (-sandbox on)".to_owned(),
            advice: Some(
                "install a QEMU that was built with seccomp, such as your distribution's".to_owned(),
            ),
        },
        Ok(Err(error)) => Check { name, verdict: Verdict::Fail, found: error.to_string(), advice: None },
        Err(error) => Check { name, verdict: Verdict::Fail, found: error.to_string(), advice: None },
    }
}

async fn accelerator() -> Check {
    let name = "accelerator".to_owned();
    let Some(arch) = Arch::host() else {
        let found = "this processor is neither x86-64 nor Arm64".to_owned();
        return Check { name, verdict: Verdict::Fail, found, advice: None };
    };
    match probe::accelerator(arch, Wish::Auto).await {
        Ok(choice) if choice.accelerator == Accelerator::Tcg => Check {
            name,
            verdict: Verdict::Warn,
            found: format!("tcg (software emulation): {}", choice.reason),
            advice: Some("machines run, several times slower than with hardware virtualization".to_owned()),
        },
        Ok(choice) => Check::ok(name, format!("{}: {}", choice.accelerator, choice.reason)),
        Err(error) => Check { name, verdict: Verdict::Fail, found: error.to_string(), advice: None },
    }
}

impl Check {
    const fn ok(name: String, found: String) -> Self {
        Self { name, verdict: Verdict::Ok, found, advice: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 9.3.
    #[tokio::test]
    async fn the_report_covers_every_probe_once_and_says_what_to_do_about_each_failure() {
        let checks = checks().await;
        for name in ["qemu amd64", "qemu arm64", "accelerator"] {
            assert_eq!(checks.iter().filter(|c| c.name == name).count(), 1, "{name}");
        }
        for check in checks {
            assert!(!check.found.is_empty());
            assert!(check.verdict != Verdict::Warn || check.advice.is_some(), "{check:?}");
        }
    }

    /// Spec 9.3.
    #[test]
    fn only_the_hosts_own_qemu_is_needed() {
        for arch in Arch::ALL {
            let missing = Error::NotInstalled { program: "q".to_owned(), advice: "apt install q".to_owned() };
            let check = qemu(arch, Err(missing));
            let native = Arch::host() == Some(arch);
            assert_eq!(check.verdict, if native { Verdict::Fail } else { Verdict::Warn });
            assert!(check.advice.unwrap().contains("apt install q"));
        }
    }
}
