//! The data disk of a machine in rescue (spec 7.6). What the guest sees is a copy that the hypervisor throws away, so it may
//! be repaired at any price: e2fsck answers every question with yes, from whichever copy of the superblock is left, and dockerd
//! then gives out what is there. No container may start by itself: what it would write would be lost.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount};
use serde_json::Value;

use crate::disk::Disk;
use crate::reaper::Reaper;
use crate::{Error, Result, check, console, data, settings};

/// Makes whatever is left of the disk readable and mounts it; answers what a reader may want to know.
pub fn attach(disk: &Disk, reaper: &Reaper) -> Result<String> {
    fs::create_dir_all(data::MOUNT).map_err(Error::file("make", data::MOUNT))?;
    let ended = check::force(&disk.device, reaper)?;
    console::line(format!("dhow: rescue: e2fsck ended with status {}: {}", ended.status, ended.said));
    let how = mounted(disk).map_err(|first| Error::DataBroken {
        disk: disk.device.clone(),
        first,
        check: format!("e2fsck -y ended with status {}: {}", ended.status, ended.said),
    })?;
    let docker = Path::new(data::MOUNT).join("docker");
    let stilled = still(&docker);
    data::bind()?;
    Ok(format!(
        "a copy of the data disk, {how}, e2fsck status {}, {stilled} containers kept from starting",
        ended.status
    ))
}

/// Writable if the kernel takes it so; without its journal if not.
fn mounted(disk: &Disk) -> std::io::Result<&'static str> {
    let attempt = |flags, options| -> std::io::Result<()> {
        Ok(mount(&disk.device, data::MOUNT, "ext4", flags, options)?)
    };
    match attempt(MountFlags::NOATIME, c"errors=continue") {
        Ok(()) => Ok("repaired"),
        Err(first) => match attempt(MountFlags::NOATIME | MountFlags::RDONLY, c"noload") {
            Ok(()) => Ok("read-only, without its journal"),
            Err(_) => Err(first),
        },
    }
}

/// Takes every container's restart policy away, and a swarm's tasks; answers how many containers there were. One whose files
/// cannot be read is none that dockerd could start.
fn still(docker: &Path) -> usize {
    let swarm = docker.join("swarm");
    if swarm.exists()
        && let Err(error) = fs::rename(&swarm, docker.join("swarm.rescue"))
    {
        console::line(format!("dhow: rescue: the swarm's state stays: {error}"));
    }
    let Ok(entries) = fs::read_dir(docker.join("containers")) else { return 0 };
    let mut stilled = 0;
    for entry in entries.flatten() {
        let path = entry.path().join("hostconfig.json");
        let Ok(text) = fs::read(&path) else { continue };
        let Some(text) = without_restart(&text) else { continue };
        match settings::write(&path, &text) {
            Ok(()) => stilled += 1,
            Err(error) => console::line(format!(
                "dhow: rescue: {} may start: {error}",
                entry.path().file_name().unwrap_or(OsStr::new("?")).display()
            )),
        }
    }
    stilled
}

/// A container's settings with the policy `no`; `None` where they are none.
fn without_restart(text: &[u8]) -> Option<String> {
    let mut settings: Value = serde_json::from_slice(text).ok()?;
    let policy = settings.as_object_mut()?.entry("RestartPolicy").or_insert(Value::Null);
    *policy = serde_json::json!({ "Name": "no", "MaximumRetryCount": 0 });
    Some(settings.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.6: a rescue gives out what is there, and runs nothing.
    #[test]
    fn no_container_starts_by_itself_in_a_rescue() {
        let docker = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            settings::write(&docker.path().join(name), text).unwrap();
        };
        write("containers/a/hostconfig.json", r#"{"Memory":5,"RestartPolicy":{"Name":"always"}}"#);
        write("containers/b/hostconfig.json", "\u{0}garbage");
        write("containers/c/config.v2.json", "{}");
        write("swarm/state.json", "{}");
        assert_eq!(still(docker.path()), 1);
        let text = fs::read(docker.path().join("containers/a/hostconfig.json")).unwrap();
        let settings: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&settings["RestartPolicy"]["Name"], &settings["Memory"]), (&"no".into(), &5.into()));
        assert!(!docker.path().join("swarm").exists());
        assert_eq!(still(&docker.path().join("nothing")), 0);
    }
}
