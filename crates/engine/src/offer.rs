//! Whether this host can offer the foreign machine, one of the other architecture than the native machine's, and whether the
//! user's configuration lets it start (spec 1.10).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dhow_hypervisor::Qemu;
use dhow_model::{Arch, Failure, Placement, Role};

/// How long an answer holds: somebody may remove QEMU meanwhile, or have been told to install it.
const HOLDS: Duration = Duration::from_secs(30);
const REFUSAL_HOLDS: Duration = Duration::from_secs(2);

/// The host's kind: what a person calls its platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// `linux` or `macos`, as [`std::env::consts::OS`] has it.
    pub os: &'static str,
    /// Its processor; `None` for one that Dhow does not know.
    pub arch: Option<Arch>,
}

impl Platform {
    /// This host's.
    #[must_use]
    pub const fn here() -> Self {
        Self { os: std::env::consts::OS, arch: Arch::host() }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let arch = self.arch.map_or(std::env::consts::ARCH, Arch::debian);
        write!(f, "{}/{arch}", self.os)
    }
}

/// Why a host has no foreign machine to offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host, {host}, cannot offer a foreign machine: {why}")]
pub struct NotOffered {
    /// What the host is.
    pub host: Platform,
    /// What it lacks, and what to do about it where there is something.
    pub why: String,
}

/// Whether the placement that was configured lets the machine of this role start.
///
/// # Errors
/// What keeps it off, and what to type.
pub(crate) fn may_start(placement: Placement, role: Role) -> Result<(), Failure> {
    if role == Role::Native || placement == Placement::ForeignMachine {
        return Ok(());
    }
    Err(Failure::new(
        "foreign-not-wanted",
        "the machine foreign is off, and the configuration keeps it so: workloads.placement is \"native-machine\"",
        "dhow config set workloads.placement foreign-machine && dhow up",
    ))
}

/// The architecture that is not this one.
#[must_use]
pub const fn other(arch: Arch) -> Arch {
    match arch {
        Arch::Amd64 => Arch::Arm64,
        Arch::Arm64 => Arch::Amd64,
    }
}

/// The foreign machine's architecture on such a host beside such a native machine, or why there is none. `emulator` is QEMU
/// for that architecture: there, or what is wrong with it.
///
/// # Errors
/// The host's platform and what is missing.
pub fn foreign(host: Platform, native: Arch, emulator: Result<(), String>) -> Result<Arch, NotOffered> {
    let cannot = |why: &str| NotOffered { host, why: why.to_owned() };
    if host.arch.is_none() {
        return Err(cannot("its processor is neither x86-64 nor Arm64"));
    }
    match (host.os, emulator) {
        ("linux", Ok(())) => Ok(other(native)),
        ("linux", Err(why)) => Err(cannot(&why)),
        ("macos", _) => Err(cannot(
            "on macOS it is a machine of Virtualization.framework with Rosetta, and this build of Dhow has no backend for that",
        )),
        _ => Err(cannot("it runs neither Linux nor macOS")),
    }
}

/// The answer for this host, looked up again when it is old: asking QEMU starts a process.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    last: Mutex<Option<Answer>>,
}

#[derive(Debug)]
struct Answer {
    since: Instant,
    /// Beside a native machine of this architecture; absent: of any.
    native: Option<Arch>,
    offered: Result<Arch, NotOffered>,
}

impl Offer {
    /// The foreign machine's architecture here beside a native machine of this one, or why there is none.
    pub(crate) async fn foreign(&self, native: Arch) -> Result<Arch, NotOffered> {
        if let Some(last) = self.last().as_ref()
            && last.native.is_none_or(|asked| asked == native)
            && last.since.elapsed() < if last.offered.is_ok() { HOLDS } else { REFUSAL_HOLDS }
        {
            return last.offered.clone();
        }
        let offered = foreign(Platform::here(), native, emulator(other(native)).await);
        *self.last() = Some(Answer { since: Instant::now(), native: Some(native), offered: offered.clone() });
        offered
    }

    /// Answers as a host does that has it, or not.
    #[cfg(test)]
    pub(crate) fn given(offered: Result<Arch, NotOffered>) -> Self {
        let answer = Answer { since: Instant::now() + HOLDS, native: None, offered };
        Self { last: Mutex::new(Some(answer)) }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Answer>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// QEMU for this architecture.
async fn emulator(arch: Arch) -> Result<(), String> {
    match tokio::task::spawn_blocking(move || Qemu::find(arch)).await {
        Ok(found) => found.map(drop).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Platform = Platform { os: "linux", arch: Some(Arch::Amd64) };

    /// Spec 1.10: on any Linux host that has the emulator, the foreign machine is one of the other architecture.
    #[test]
    fn a_linux_host_with_the_emulator_offers_the_other_architecture() {
        let arm = Platform { os: "linux", arch: Some(Arch::Arm64) };
        for host in [LINUX, arm] {
            assert_eq!(foreign(host, Arch::Amd64, Ok(())), Ok(Arch::Arm64));
            assert_eq!(foreign(host, Arch::Arm64, Ok(())), Ok(Arch::Amd64));
        }
    }

    /// Spec 1.10: what the host cannot offer is refused with its platform and what is missing.
    #[test]
    fn a_host_that_cannot_offer_it_is_named_with_what_is_missing() {
        let missing = "qemu-system-aarch64 is not installed";
        let mac = Platform { os: "macos", arch: Some(Arch::Arm64) };
        for (host, emulator, words) in [
            (LINUX, Err(missing.to_owned()), ["linux/amd64", missing]),
            (mac, Ok(()), ["macos/arm64", "Virtualization.framework"]),
            (Platform { os: "linux", arch: None }, Ok(()), ["linux/", "neither x86-64 nor Arm64"]),
            (Platform { os: "freebsd", ..LINUX }, Ok(()), ["freebsd/amd64", "neither Linux nor macOS"]),
        ] {
            let reason = foreign(host, Arch::Amd64, emulator).unwrap_err().to_string();
            assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
        }
    }
}
