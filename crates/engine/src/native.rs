//! The native machine's architecture: the host's, or another one that the configuration names, which is emulated and said to
//! be (issue 6, point 3). Everything that is decided by "native" and "foreign" asks this and not the host.

use dhow_home::Home;
use dhow_hypervisor::Qemu;
use dhow_hypervisor::doctor::{Check, Verdict};
use dhow_model::{Arch, Config, MachineName, MachineSpec};

use crate::supervisor;

/// As the files tell: that of the machine that runs, or else what the configuration asks for.
pub(crate) fn arch(home: &Home, config: &Config) -> Option<Arch> {
    let dir = home.machine(&MachineName::native());
    let made = || serde_json::from_slice::<MachineSpec>(&std::fs::read(dir.spec()).ok()?).ok();
    let running = if supervisor::is_running(&dir).unwrap_or(false) { made() } else { None };
    running.map(|spec| spec.arch).or_else(|| config.native())
}

/// A guest's architecture, and that it is emulated where it is.
pub(crate) fn kind(host: Option<Arch>, guest: Arch) -> String {
    if host == Some(guest) { guest.to_string() } else { format!("{guest}, emulated") }
}

/// How a guest of this architecture runs on this host, for people: nothing is emulated in silence.
pub(crate) fn words(host: Option<Arch>, guest: Arch) -> String {
    let kind = kind(host, guest);
    match host {
        Some(host) if host == guest => kind,
        Some(host) => format!("{kind} on this {host} computer: slow"),
        None => format!("{kind} on this computer: slow"),
    }
}

/// What a person should know of an architecture that changes around a data disk, which is kept.
pub(crate) fn moved(made: Option<Arch>, asked: Arch) -> Option<String> {
    let made = made.filter(|made| *made != asked)?;
    Some(format!(
        "the machine native is {asked} now and was {made}: its data disk is kept, with images and containers for {made}, which \
         need a translator (`dhow translator list`) or to be pulled anew for linux/{asked}"
    ))
}

/// What the doctor says of a machine that is not of the host's architecture; nothing of one that is.
pub(crate) fn check(host: Option<Arch>, guest: Arch) -> Option<Check> {
    if host == Some(guest) {
        return None;
    }
    let (verdict, found) = match Qemu::find(guest) {
        Ok(_) => (Verdict::Warn, words(host, guest)),
        Err(error) => (Verdict::Fail, format!("{}; {error}", words(host, guest))),
    };
    let advice = Some(
        "dhow config set machine.arch host && dhow up, for a machine that this processor runs".to_owned(),
    );
    Some(Check { name: "native machine".to_owned(), verdict, found, advice })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::spec;

    /// Issue 6, point 3: explicit, never silent.
    #[test]
    fn an_emulated_machine_is_called_that_and_one_of_the_hosts_architecture_is_not() {
        let amd64 = Some(Arch::Amd64);
        assert_eq!(words(amd64, Arch::Amd64), "amd64");
        assert_eq!(words(amd64, Arch::Arm64), "arm64, emulated on this amd64 computer: slow");
        assert_eq!(words(None, Arch::Arm64), "arm64, emulated on this computer: slow");
        assert_eq!(check(amd64, Arch::Amd64), None);
        let told = check(amd64, Arch::Arm64).unwrap();
        assert!(told.verdict != Verdict::Ok && told.found.contains("emulated"), "{told:?}");
    }

    /// Spec 6.4: the data disk is kept, and what that means for what is on it is said.
    #[test]
    fn images_of_the_architecture_before_are_warned_of() {
        assert_eq!(moved(None, Arch::Arm64), None);
        assert_eq!(moved(Some(Arch::Arm64), Arch::Arm64), None);
        let told = moved(Some(Arch::Amd64), Arch::Arm64).unwrap();
        assert!(told.contains("data disk is kept") && told.contains("linux/arm64"), "{told}");
    }

    /// Spec 1.3: translators are those of the guest that runs, whatever the configuration asks for the next one.
    #[test]
    fn a_machine_that_runs_has_its_own_architecture_and_one_that_is_off_the_configured_one() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("h")).unwrap();
        home.create().unwrap();
        let dir = home.machine(&MachineName::native());
        dir.create().unwrap();
        let made = MachineSpec { arch: Arch::Amd64, ..spec() };
        dhow_home::atomic::write(&dir.spec(), &serde_json::to_vec(&made).unwrap(), 0o600).unwrap();
        let config = Config::parse("[machine]\narch = 'arm64'").unwrap();
        assert_eq!(arch(&home, &config), Some(Arch::Arm64));
        let held = dhow_home::lock::FileLock::try_exclusive(&dir.supervisor_lock()).unwrap().unwrap();
        assert_eq!(arch(&home, &config), Some(Arch::Amd64));
        drop(held);
        assert_eq!(arch(&home, &config), Some(Arch::Arm64));
    }
}
