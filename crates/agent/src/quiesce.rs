//! Before the machine sleeps: what it need not keep is let go, so that little is saved. Containers go on; nothing of this must be
//! undone when no sleep follows, and what does not fit into the time is left out.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use dhow_proto::agent::{QuiesceReply, QuiesceStep};

use crate::{data, facts, settings, sys};

/// When the host names no limit.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of the data disk that are trimmed at a time: a part takes milliseconds, so that the limit holds.
const PART: u64 = 4 << 30;
/// A shorter run of free blocks is not worth a request to the disk; the file system tells of those as they come (`discard`).
const LEAST: u64 = 1 << 20;
/// Everything that can be read again, and everything that the kernel remembers of files.
const CACHES: &str = "3";

/// Does what fits into `limit`. It belongs on a blocking thread.
#[must_use]
pub fn quiesce(limit: Duration) -> QuiesceReply {
    let deadline = Instant::now() + limit;
    let steps = [
        step("sync", deadline, || {
            rustix::fs::sync();
            Ok(())
        }),
        step("trim", deadline, || trim(Path::new(data::MOUNT), deadline)),
        step("drop", deadline, || settings::poke(Path::new("/proc/sys/vm/drop_caches"), CACHES)),
        step("compact", deadline, || settings::poke(Path::new("/proc/sys/vm/compact_memory"), "1")),
    ];
    QuiesceReply { steps: steps.to_vec(), memory_free_bytes: facts::free_memory() }
}

fn step(name: &str, deadline: Instant, work: impl FnOnce() -> std::io::Result<()>) -> QuiesceStep {
    let began = Instant::now();
    let done = if began >= deadline { Err(std::io::ErrorKind::TimedOut.into()) } else { work() };
    QuiesceStep {
        name: name.to_owned(),
        took_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        error: done.err().map(|error| error.to_string()).unwrap_or_default(),
    }
}

/// Part after part while there is time. The kernel remembers which ones it has told of, so that the next time goes on.
fn trim(mount: &Path, deadline: Instant) -> std::io::Result<()> {
    let directory = File::open(mount)?;
    let (total, _) = facts::disk(&mount.display().to_string());
    let mut start = 0;
    while start < total {
        if Instant::now() >= deadline {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        sys::trim(&directory, start, PART, LEAST)?;
        start += PART;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 16.2: what would come too late is left out and says so.
    #[test]
    fn a_step_that_comes_too_late_is_left_out_and_says_so() {
        let mut done = false;
        let late = step("drop", Instant::now(), || {
            done = true;
            Ok(())
        });
        assert!(!done && !late.error.is_empty());
        let failed =
            step("drop", Instant::now() + DEFAULT_LIMIT, || Err(std::io::ErrorKind::NotFound.into()));
        assert!(!failed.error.is_empty());
        assert_eq!(step("drop", Instant::now() + DEFAULT_LIMIT, || Ok(())).error, "");
    }
}
