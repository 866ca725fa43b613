//! The data disk: what must last. It is formatted only when it is provably blank, repaired as its file system advises,
//! and grown to its disk.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dhow_model::DiskBlank;
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::blank::{self, MARKER, Verdict};
use crate::disk::Disk;
use crate::ext4::{self, Superblock};
use crate::reaper::Reaper;
use crate::{Error, Result, check, tool};

/// Where the disk is mounted.
pub const MOUNT: &str = "/var/lib/dhow";
/// What lives on it, and where the engine looks for it.
const BINDS: [(&str, &str); 3] =
    [("docker", "/var/lib/docker"), ("containerd", "/var/lib/containerd"), ("cni", "/var/lib/cni")];

const FORMAT_LIMIT: Duration = Duration::from_secs(120);
const CHECK_LIMIT: Duration = Duration::from_secs(900);
const GROW_LIMIT: Duration = Duration::from_secs(300);

/// Makes the data disk ready and mounts it; answers what a reader may want to know.
pub fn attach(disk: &Disk, host: DiskBlank, reaper: &Reaper) -> Result<String> {
    let mut notes = Vec::new();
    let mut device = File::open(&disk.device).map_err(Error::file("open", &disk.device))?;
    let verdict =
        blank::judge(&mut device, disk.bytes, host).map_err(|unreadable| Error::DataUnreadable {
            disk: disk.device.clone(),
            offset: unreadable.offset,
            source: unreadable.source,
        })?;
    drop(device);
    let (filesystem_bytes, errors) = match verdict {
        Verdict::Ours(Superblock { bytes, errors, .. }) => (bytes, errors),
        Verdict::Format => {
            format(disk, reaper)?;
            notes.push("formatted".to_owned());
            (disk.bytes, false)
        }
        Verdict::Foreign(what) => return Err(Error::DataForeign { disk: disk.device.clone(), what }),
        Verdict::Unproven => return Err(Error::DataUnproven { disk: disk.device.clone() }),
    };
    notes.extend(mount_or_repair(disk, errors, reaper)?);
    if ext4::should_grow(filesystem_bytes, disk.bytes) {
        notes.push(grow(disk, reaper)?);
    }
    bind()?;
    notes.insert(0, format!("ext4, {} MiB", disk.bytes >> 20));
    Ok(notes.join(", "))
}

/// Puts what lives on the mounted disk where the engine looks for it.
pub fn bind() -> Result<()> {
    for (part, target) in BINDS {
        let source = Path::new(MOUNT).join(part);
        for directory in [source.as_path(), Path::new(target)] {
            fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
        }
        mount_bind(&source, target).map_err(Error::file("mount", target))?;
    }
    Ok(())
}

/// Makes the file system. The marker stands on the disk meanwhile, so that an interrupted run is told from foreign data.
fn format(disk: &Disk, reaper: &Reaper) -> Result<()> {
    mark(disk, MARKER)?;
    let mut command = Command::new("/usr/sbin/mkfs.ext4");
    command.args(ext4::MKFS).arg(&disk.device);
    let (code, tail) = tool::run(reaper, &mut command, FORMAT_LIMIT)?;
    if code != 0 {
        let how = format!("ended with status {code} on {}", disk.device.display());
        return Err(Error::Tool { program: "mkfs.ext4".to_owned(), how, tail: Some(tail) });
    }
    mark(disk, &[0; MARKER.len()])
}

/// Writes the first bytes of the disk and waits until they are on it.
fn mark(disk: &Disk, bytes: &[u8]) -> Result<()> {
    let mut device = File::options()
        .read(true)
        .write(true)
        .open(&disk.device)
        .map_err(Error::file("open", &disk.device))?;
    device
        .seek(SeekFrom::Start(0))
        .and_then(|_| device.write_all(bytes))
        .and_then(|()| device.sync_all())
        .map_err(Error::file("write", &disk.device))
}

/// Mounts; when the file system has noted `errors`, or the kernel refuses, repairs first what is safe to repair.
fn mount_or_repair(disk: &Disk, errors: bool, reaper: &Reaper) -> Result<Option<String>> {
    fs::create_dir_all(MOUNT).map_err(Error::file("make", MOUNT))?;
    let attempt = || -> std::io::Result<()> {
        Ok(mount(&disk.device, MOUNT, "ext4", MountFlags::NOATIME, c"discard,errors=remount-ro")?)
    };
    let first = if errors {
        std::io::Error::other("it has noted errors of its own")
    } else {
        match attempt() {
            Ok(()) => return Ok(None),
            Err(refused) => refused,
        }
    };
    let broken = |first, check| Error::DataBroken { disk: disk.device.clone(), first, check };
    let ended = match check::run(&disk.device, &["-p"], CHECK_LIMIT, reaper) {
        Ok(ended) => ended,
        Err(error) => return Err(broken(first, error.to_string())),
    };
    let status = ended.status;
    if !ended.is_sound() {
        return Err(broken(first, format!("e2fsck -p ended with status {status}: {}", ended.said)));
    }
    attempt().map_err(|again| broken(first, format!("e2fsck -p repaired it, and yet: {again}")))?;
    Ok(Some(format!("repaired (e2fsck status {status})")))
}

/// Grows the mounted file system to its disk.
pub fn grow(disk: &Disk, reaper: &Reaper) -> Result<String> {
    let mut command = Command::new("/usr/sbin/resize2fs");
    command.arg(&disk.device);
    let (code, tail) = tool::run(reaper, &mut command, GROW_LIMIT)?;
    if code != 0 {
        let how = format!("ended with status {code} on {}", disk.device.display());
        return Err(Error::Tool { program: "resize2fs".to_owned(), how, tail: Some(tail) });
    }
    Ok("grown".to_owned())
}
