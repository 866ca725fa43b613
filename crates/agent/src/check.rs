//! Runs e2fsck over the data disk's file system and says what came of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dhow_proto::agent::CheckDataReply;

use crate::reaper::Reaper;
use crate::{Error, Result, mounts, tool};

/// A large and badly damaged file system takes its time.
pub const LIMIT: Duration = Duration::from_secs(3600);

/// So often a repair may go on where it ended early.
const RUNS: u32 = 3;

/// How an e2fsck ended (e2fsck(8), EXIT CODE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The status, a sum of bits.
    pub status: i32,
    /// The end of its output.
    pub said: String,
}

impl Ended {
    /// Whether nothing is wrong, or nothing is any more. 1 stands for corrected, 2 for corrected and to be mounted anew.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.status & !3 == 0
    }

    /// Whether something was corrected.
    #[must_use]
    pub const fn has_repaired(&self) -> bool {
        self.status & 3 != 0
    }
}

/// Runs e2fsck with these options.
pub fn run(device: &Path, options: &[&str], limit: Duration, reaper: &Reaper) -> Result<Ended> {
    let mut command = Command::new("/usr/sbin/e2fsck");
    command.args(options).arg(device);
    let (status, said) = tool::run(reaper, &mut command, limit)?;
    Ok(Ended { status, said })
}

/// Repairs whatever can be repaired, at any price. A run that had to take a copy of the superblock and replay the journal ends
/// early, and the next one goes on from there.
pub fn force(device: &Path, reaper: &Reaper) -> Result<Ended> {
    let mut repaired = 0;
    let mut ended = run(device, &["-f", "-y"], LIMIT, reaper)?;
    for _ in 1..RUNS {
        if ended.is_sound() {
            break;
        }
        repaired |= ended.status & 3;
        let again = run(device, &["-f", "-y"], LIMIT, reaper)?;
        ended = Ended { status: again.status, said: format!("{}\n{}", ended.said, again.said) };
    }
    ended.status |= repaired;
    Ok(ended)
}

/// Checks a disk that is not mounted: reads it, or repairs it, first what is safe and then whatever is left.
pub fn check(device: &Path, repair: bool, reaper: &Reaper) -> Result<CheckDataReply> {
    let text = fs::read_to_string("/proc/self/mounts").map_err(Error::file("read", "/proc/self/mounts"))?;
    if let Some(point) = mounts::over(&text, device).pop() {
        return Err(Error::DataInUse { disk: device.to_path_buf(), point });
    }
    if !repair {
        let ended = run(device, &["-f", "-n"], LIMIT, reaper)?;
        return Ok(told(&ended, &ended.said));
    }
    let safe = run(device, &["-f", "-p"], LIMIT, reaper)?;
    if safe.is_sound() {
        return Ok(told(&safe, &safe.said));
    }
    let all = force(device, reaper)?;
    Ok(told(&all, &format!("{}\n{}", safe.said, all.said)))
}

fn told(ended: &Ended, said: &str) -> CheckDataReply {
    CheckDataReply { sound: ended.is_sound(), repaired: ended.has_repaired(), said: said.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.6: what e2fsck leaves to a person is not called sound.
    #[test]
    fn the_bits_of_the_status_say_whether_the_file_system_is_sound() {
        for (status, sound, repaired) in [
            (0, true, false),
            (1, true, true),
            (2, true, true),
            (3, true, true),
            (4, false, false),
            (5, false, true),
            (8, false, false),
            (12, false, false),
        ] {
            let ended = Ended { status, said: String::new() };
            assert_eq!((ended.is_sound(), ended.has_repaired()), (sound, repaired), "{status}");
        }
    }
}
