//! Which files of a file system somebody in the guest watches (`inotify`): the kernel says so for each open instance, in `/proc`.
//! It is read when something has changed, so that nobody's being told costs next to nothing.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// What an open `inotify` instance is called.
const INSTANCE: &str = "anon_inode:inotify";

/// The numbers of the watched files of the FUSE file system on device `device` (as the kernel numbers it, `stat`'s minor number).
#[must_use]
pub fn watched(device: u32) -> HashSet<u64> {
    let mut nodes = HashSet::new();
    let Ok(all) = fs::read_dir("/proc") else { return nodes };
    for process in all.flatten().filter(|entry| is_number(&entry.file_name())) {
        add(&process.path(), device, &mut nodes);
    }
    nodes
}

/// Whoever ends meanwhile watches nothing.
fn add(process: &Path, device: u32, nodes: &mut HashSet<u64>) {
    let Ok(open) = fs::read_dir(process.join("fd")) else { return };
    for file in open.flatten() {
        if fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == INSTANCE) {
            let told = fs::read_to_string(process.join("fdinfo").join(file.file_name())).unwrap_or_default();
            nodes.extend(told.lines().filter_map(|line| node(line, device)));
        }
    }
}

fn is_number(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The file of one watch: `inotify wd:1 ino:3 sdev:2a mask:fc6 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:…`, where the
/// handle of FUSE is the halves of its number and a generation.
fn node(line: &str, device: u32) -> Option<u64> {
    let mut words = line.strip_prefix("inotify ")?.split(' ').filter_map(|word| word.split_once(':'));
    let mut value = |name: &str| words.find(|word| word.0 == name).map(|word| word.1);
    let on = u32::from_str_radix(value("sdev")?, 16).ok()?;
    if on != device || value("fhandle-type")? != "81" {
        return None;
    }
    let handle = value("f_handle")?;
    let half =
        |at: usize| Some(u64::from(u32::from_str_radix(handle.get(at..at + 8)?, 16).ok()?.swap_bytes()));
    Some(half(0)? << 32 | half(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_file_is_known_by_its_number_on_its_own_device() {
        let line = "inotify wd:1 ino:15f sdev:2a mask:fc6 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:01000000070000000b000000 ";
        assert_eq!(node(line, 0x2a), Some(1 << 32 | 7));
        assert_eq!(node(line, 0x2b), None);
        assert_eq!(node("inotify wd:1 ino:15f sdev:2a mask:fc6 ignored_mask:0", 0x2a), None);
        assert_eq!(node("pos:\t0", 0x2a), None);
        assert_eq!(node(&line.replace("type:81", "type:1"), 0x2a), None);
    }

    /// The kernel's own words, as far as a file system without FUSE's handles shows them.
    #[test]
    fn what_is_watched_here_is_no_file_of_another_device() {
        assert_eq!(watched(u32::MAX), HashSet::new());
    }
}
