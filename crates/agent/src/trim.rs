//! The data disk while it is mounted: what is free in it is told to the host, and it grows when its disk has.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::{self, Disk};
use crate::reaper::Reaper;
use crate::{Error, Result, data, facts, tool};

/// A trim reads every group's bitmap and waits for the host to make the holes.
const LIMIT: Duration = Duration::from_secs(600);
/// For a disk to show the size that the hypervisor gave it.
const RESIZED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Tells the disk which blocks hold nothing; answers their number of bytes, of which the host's file may have had many as
/// holes already.
pub fn trim(reaper: &Reaper) -> Result<u64> {
    // What was deleted is free on the disk only when the journal has said so.
    rustix::fs::sync();
    let mut command = Command::new("/usr/sbin/fstrim");
    command.args(["-v", data::MOUNT]);
    let (code, said) = tool::run(reaper, &mut command, LIMIT)?;
    if code != 0 {
        let how = format!("ended with status {code} on {}", data::MOUNT);
        return Err(Error::Tool { program: "fstrim".to_owned(), how, tail: Some(said) });
    }
    Ok(trimmed(&said))
}

/// The number in `/mnt: 1234 bytes trimmed`, as busybox says, or `/mnt: 1 GiB (1234 bytes) trimmed`, as util-linux does.
fn trimmed(said: &str) -> u64 {
    let words: Vec<&str> = said.split_whitespace().collect();
    let count = words.iter().position(|word| word.starts_with("bytes")).and_then(|at| at.checked_sub(1));
    count.and_then(|at| words[at].trim_matches('(').parse().ok()).unwrap_or(0)
}

/// Grows the mounted file system to its disk, once that is as large as `bytes`; answers the file system's size.
pub fn grow(bytes: u64, reaper: &Reaper) -> Result<u64> {
    let disk = resized(bytes)?;
    data::grow(&disk, reaper)?;
    Ok(facts::disk(data::MOUNT).0)
}

fn resized(bytes: u64) -> Result<Disk> {
    let deadline = Instant::now() + RESIZED;
    loop {
        let disk = disk::find(disk::DATA)?;
        if disk.bytes >= bytes {
            return Ok(disk);
        }
        if Instant::now() >= deadline {
            return Err(Error::NotResized { disk: disk.device, bytes: disk.bytes, asked: bytes });
        }
        // The kernel tells of the new size by an event, which nobody in the guest waits for otherwise.
        thread::park_timeout(LOOK);
    }
}

/// Whether the mounted file system takes no more writes, which it does by itself after an error (`errors=remount-ro`).
#[must_use]
pub fn is_read_only() -> bool {
    rustix::fs::statvfs(Path::new(data::MOUNT))
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_bytes_is_read_from_either_tool() {
        for (said, bytes) in [
            ("/var/lib/dhow: 123456 bytes trimmed\n", 123_456),
            ("/var/lib/dhow: 1.2 GiB (1288490188 bytes) trimmed on /dev/vdb", 1_288_490_188),
            ("", 0),
            ("bytes", 0),
        ] {
            assert_eq!(trimmed(said), bytes, "{said}");
        }
    }
}
