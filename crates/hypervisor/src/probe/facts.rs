//! What the host says about its virtualization, in files.

use std::path::Path;

/// Kernel drivers that run an ordinary guest on the processor.
#[cfg(target_arch = "x86_64")]
const DRIVERS: [&str; 2] = ["kvm_intel", "kvm_amd"];

/// The kernel's driver for KVM: the name of a known one, or what is there in its place.
pub(super) fn driver() -> Result<String, String> {
    #[cfg(target_arch = "x86_64")]
    {
        let modules = modules(Path::new("/sys/module"));
        DRIVERS.iter().find(|driver| modules.iter().any(|m| m == *driver)).map_or_else(
            || {
                let others: Vec<_> = modules.into_iter().filter(|m| m.starts_with("kvm_")).collect();
                Err(if others.is_empty() { "no driver known to us".to_owned() } else { others.join(", ") })
            },
            |driver| Ok((*driver).to_owned()),
        )
    }
    // Part of Arm's kernel: there is no module to look for.
    #[cfg(not(target_arch = "x86_64"))]
    Ok("built in".to_owned())
}

#[cfg(target_arch = "x86_64")]
fn modules(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The name of the group that a file belongs to, from the host's list of groups; its number where it has no name.
pub(super) fn group(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let gid = std::fs::metadata(path).ok()?.gid();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    Some(group_name(&groups, gid).unwrap_or_else(|| gid.to_string()))
}

/// A line is `name:password:number:members` (group(5)).
fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// Whether Apple's Hypervisor.framework is there.
pub(super) async fn hvf() -> Result<String, String> {
    if !cfg!(target_os = "macos") {
        return Err("Hypervisor.framework is part of macOS, and this is another system".to_owned());
    }
    let asked = tokio::task::spawn_blocking(|| {
        crate::qemu::ask(Path::new("/usr/sbin/sysctl"), &["-n", "kern.hv_support"])
    });
    match asked.await {
        Ok(Ok(answer)) if answer.trim() == "1" => Ok("Hypervisor.framework is there".to_owned()),
        Ok(Ok(answer)) => Err(format!("macOS says kern.hv_support is {:?}", answer.trim())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_to_join_is_named() {
        let groups = "root:x:0:\nkvm:x:104:alice,bob\nbroken\nempty::7:\n";
        assert_eq!(group_name(groups, 104).as_deref(), Some("kvm"));
        assert_eq!(group_name(groups, 7).as_deref(), Some("empty"));
        assert_eq!(group_name(groups, 105), None);
    }
}
