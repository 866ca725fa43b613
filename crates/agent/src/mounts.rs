//! The file systems that the kernel makes up, and the order in which mounts come off again.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{Error, Result};

/// Mounts `kind` at `target`, which is made if it is missing.
pub fn attach(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    fs::create_dir_all(target).map_err(Error::file("make", target))?;
    let options = std::ffi::CString::new(options).map_err(Error::file("mount", target))?;
    mount(source, target, kind, flags, options.as_c_str()).map_err(Error::file("mount", target))
}

/// What every later step reads: /proc, /sys and /dev.
pub fn first() -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    attach("proc", "/proc", "proc", safe, "")?;
    attach("sysfs", "/sys", "sysfs", safe, "")?;
    match attach("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=0755") {
        // The kernel may have mounted it already (`CONFIG_DEVTMPFS_MOUNT`).
        Err(Error::File { source, .. }) if source.raw_os_error() == Some(16) => Ok(()),
        other => other,
    }
}

/// What the engine wants beside, in the root that it runs in.
pub fn rest() -> Result<()> {
    let (nosuid, nodev, noexec) = (MountFlags::NOSUID, MountFlags::NODEV, MountFlags::NOEXEC);
    attach("devpts", "/dev/pts", "devpts", nosuid | noexec, "gid=5,mode=0620,ptmxmode=0666")?;
    attach("shm", "/dev/shm", "tmpfs", nosuid | nodev, "mode=1777")?;
    attach("mqueue", "/dev/mqueue", "mqueue", nosuid | nodev | noexec, "")?;
    attach("run", "/run", "tmpfs", nosuid | nodev, "mode=0755")?;
    attach("tmp", "/tmp", "tmpfs", nosuid | nodev, "mode=1777")?;
    attach(
        "cgroup2",
        "/sys/fs/cgroup",
        "cgroup2",
        nosuid | nodev | noexec,
        "nsdelegate,memory_recursiveprot",
    )?;
    for link in [
        ("/proc/self/fd", "/dev/fd"),
        ("fd/0", "/dev/stdin"),
        ("fd/1", "/dev/stdout"),
        ("fd/2", "/dev/stderr"),
    ] {
        match std::os::unix::fs::symlink(link.0, link.1) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::file("make", link.1)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// In the text of `/proc/self/mounts`: the mount points of the file system `source` and whatever is mounted below them, in
/// the order in which they can be taken off: deepest and newest first.
#[must_use]
pub fn over(mounts: &str, source: &Path) -> Vec<PathBuf> {
    let all: Vec<(String, PathBuf)> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((unescape(words.next()?), PathBuf::from(unescape(words.next()?))))
        })
        .collect();
    let bases: Vec<&PathBuf> =
        all.iter().filter(|(from, _)| Path::new(from) == source).map(|(_, point)| point).collect();
    let mut points: Vec<PathBuf> = all
        .iter()
        .map(|(_, point)| point)
        .filter(|point| bases.iter().any(|base| point.starts_with(base)))
        .cloned()
        .collect();
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points
}

/// Takes `target` off; a file system that is still in use is detached, and its last user's end takes it off.
pub fn detach(target: &Path) -> Result<()> {
    unmount(target, UnmountFlags::empty())
        .or_else(|_| unmount(target, UnmountFlags::DETACH))
        .map_err(Error::file("unmount", target))
}

/// `/proc/self/mounts` writes blanks and backslashes as `\040` (`seq_file.c`, `mangle_path`).
fn unescape(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_comes_off_first() {
        let text = "overlay / overlay rw 0 0\n/dev/vdb /var/lib/dhow ext4 rw 0 0\n\
                    /dev/vdb /var/lib/docker ext4 rw 0 0\noverlay /var/lib/docker/a\\040b/c overlay rw 0 0\n\
                    proc /proc proc rw 0 0\n";
        let seen = over(text, Path::new("/dev/vdb"));
        assert_eq!(seen, ["/var/lib/docker/a b/c", "/var/lib/docker", "/var/lib/dhow"].map(PathBuf::from));
    }
}
