//! What `dhow doctor` looks at before there is an engine: room on the disk, hypervisor, channel and boot assets
//! (spec 9.3).

use dhow_assets::Store;
use dhow_channel::vsock_usable;
use dhow_home::Home;
use dhow_hypervisor::doctor::{Check, Verdict};
use dhow_model::{Arch, Placement, Role};

use crate::offer::{NotOffered, Offer};
use crate::{native, plan};

/// Runs every probe.
pub async fn checks(home: &Home) -> Vec<Check> {
    let mut checks = vec![directory(home)];
    checks.extend(dhow_hypervisor::doctor::checks().await);
    checks.push(vsock());
    // A configuration that cannot be read is told by `dhow config check`.
    let config = home.read_config().unwrap_or_default();
    let native = native::arch(home, &config);
    if let Some(arch) = native {
        checks.extend(native::check(Arch::host(), arch));
        checks.push(assets(home, arch));
        checks.push(agent(arch));
        checks.extend(crate::translators::checks(home, &config, arch).await);
        if config.workloads.placement == Placement::ForeignMachine {
            checks.extend(foreign(home, Offer::default().foreign(arch).await));
        }
    }
    checks.extend(set_aside(home));
    checks
}

/// Spec 13.2: a machine that booted although it had slept lost what it was doing, and its user should know why.
fn set_aside(home: &Home) -> Vec<Check> {
    let one = |role: Role| {
        let bad = home.machine(&role.machine()).sleep_bad();
        let why = std::fs::read_to_string(bad.join("why")).ok()?;
        Some(Check {
            name: format!("sleep of {role}"),
            verdict: Verdict::Warn,
            found: format!("a saved state was not used and the machine booted: {}", why.trim()),
            advice: Some(format!(
                "nothing; the state is kept for a look, and may be deleted: {}",
                bad.display()
            )),
        })
    };
    Role::ALL.into_iter().filter_map(one).collect()
}

/// Spec 1.10: what the placement `foreign-machine` needs. Without it native workloads run all the same.
fn foreign(home: &Home, offered: Result<Arch, NotOffered>) -> Vec<Check> {
    let name = "foreign machine".to_owned();
    match offered {
        Ok(arch) => {
            let found = format!("{}; it boots when a workload needs it", native::kind(Arch::host(), arch));
            vec![Check { name, verdict: Verdict::Ok, found, advice: None }, assets(home, arch), agent(arch)]
        }
        Err(why) => {
            let advice = "dhow config set workloads.placement native-machine && dhow up".to_owned();
            vec![Check { name, verdict: Verdict::Warn, found: why.to_string(), advice: Some(advice) }]
        }
    }
}

fn directory(home: &Home) -> Check {
    let found = match home.create().map_err(crate::Error::from).and_then(|()| plan::room(home.root())) {
        Ok(free) => {
            Ok(format!("{} can be written, {} GiB are free", home.root().display(), free.as_bytes() >> 30))
        }
        Err(error) => Err(error.failure()),
    };
    check("directory", found)
}

/// Spec 8.1: the very check by which the plan chooses. The fallback is as good, so its use is no warning.
fn vsock() -> Check {
    let found = match vsock_usable() {
        Ok(()) => "/dev/vhost-vsock can be opened".to_owned(),
        Err(reason) => format!("not used ({reason}): the channel is a virtio-serial port"),
    };
    check("vsock", Ok(found))
}

fn assets(home: &Home, arch: Arch) -> Check {
    let looked = Store::open(home.asset_store()).and_then(|store| {
        let bundle = store.current(arch)?;
        bundle.map(|bundle| store.check_quick(&bundle).map(|()| bundle.id)).transpose()
    });
    match looked {
        Ok(Some(id)) => check("boot assets", Ok(format!("{arch}: {id}"))),
        Ok(None) => Check {
            name: "boot assets".to_owned(),
            verdict: Verdict::Warn,
            found: format!("none for {arch}; the first start of a machine that needs them builds them"),
            advice: Some(format!("dhow assets build --arch {arch}")),
        },
        Err(source) => check("boot assets", Err(crate::Error::Assets { arch, source }.failure())),
    }
}

fn agent(arch: Arch) -> Check {
    let path = plan::agent_file(arch);
    let found = if path.is_file() {
        Ok(path.display().to_string())
    } else {
        Err(crate::Error::NoAgent { arch, looked: path }.failure())
    };
    check("agent", found)
}

fn check(name: &str, found: Result<String, dhow_model::Failure>) -> Check {
    let name = name.to_owned();
    match found {
        Ok(found) => Check { name, verdict: Verdict::Ok, found, advice: None },
        Err(failure) => {
            Check { name, verdict: Verdict::Fail, found: failure.message, advice: Some(failure.hint) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 1.10, 9.3: what this host cannot offer is said with its platform, and what it can with all that it needs.
    #[test]
    fn the_foreign_machine_is_looked_at_with_its_assets_and_its_agent_or_said_to_be_impossible() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("h")).unwrap();
        let names: Vec<_> = foreign(&home, Ok(Arch::Arm64)).into_iter().map(|check| check.name).collect();
        assert_eq!(names, ["foreign machine", "boot assets", "agent"]);
        let host = crate::Platform { os: "macos", arch: Some(Arch::Arm64) };
        let cannot = foreign(&home, crate::foreign(host, Arch::Arm64, Ok(())));
        assert_eq!((cannot.len(), cannot[0].verdict), (1, Verdict::Warn));
        assert!(cannot[0].found.contains("macos/arm64") && cannot[0].advice.is_some(), "{cannot:?}");
    }

    /// Spec 13.2: a state that was set aside is told with its reason until somebody deletes it.
    #[test]
    fn a_saved_state_that_was_set_aside_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("h")).unwrap();
        assert!(set_aside(&home).is_empty());
        let bad = home.machine(&Role::Native.machine()).sleep_bad();
        std::fs::create_dir_all(&bad).unwrap();
        dhow_home::atomic::write(&bad.join("why"), b"memory: 2GiB, 3GiB\n", 0o600).unwrap();
        let checks = set_aside(&home);
        assert_eq!(
            (checks.len(), checks[0].verdict, &*checks[0].name),
            (1, Verdict::Warn, "sleep of native")
        );
        assert!(checks[0].found.ends_with("memory: 2GiB, 3GiB"), "{}", checks[0].found);
    }

    /// Spec 8.1, 9.3: the doctor tells what the plan does, and the fallback is no fault.
    #[test]
    fn the_channel_that_is_reported_is_the_one_that_is_chosen() {
        let check = vsock();
        assert_eq!((check.name.as_str(), check.verdict), ("vsock", Verdict::Ok));
        assert_eq!(check.found.contains("virtio-serial"), plan::channel() == dhow_model::ChannelKind::Serial);
    }
}
