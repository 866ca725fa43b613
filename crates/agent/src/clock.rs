//! The guest's clocks: time since the kernel started, for the boot's steps, and the time of day, which the host sets.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::{Error, Result};

/// A difference that is not worth a jump, nanoseconds: setting the clock on every `Hello` would make timers stutter.
const GOOD_ENOUGH: i64 = 20_000_000;

/// Microseconds since the guest's kernel started, suspended time included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn since_kernel_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

/// The time of day, nanoseconds since 1970-01-01 UTC.
#[must_use]
pub fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// By how much a clock that shows `now` is to be moved to show `wanted`: nothing for a difference that is good enough
/// or a time that nobody sent.
#[must_use]
pub fn correction(now: u64, wanted: u64) -> i64 {
    let moved = i64::try_from(i128::from(wanted) - i128::from(now)).unwrap_or(i64::MAX);
    if wanted == 0 || moved.abs() < GOOD_ENOUGH { 0 } else { moved }
}

/// Sets the time of day; answers by how much it was moved, nanoseconds.
pub fn set(wanted: u64) -> Result<i64> {
    let moved = correction(unix_nanos(), wanted);
    if moved != 0 {
        let time = Timespec {
            tv_sec: i64::try_from(wanted / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(wanted % 1_000_000_000).unwrap_or(0),
        };
        clock_settime(ClockId::Realtime, time).map_err(Error::kernel("set the clock"))?;
    }
    Ok(moved)
}

/// Takes the time of day from the machine's real-time clock, where the kernel did not do so itself (the driver is a
/// module on some architectures). Answers what a reader may want to know.
pub fn from_rtc() -> String {
    /// 2024-01-01: an earlier time means that nobody set the clock.
    const PLAUSIBLE: u64 = 1_704_067_200;
    if unix_nanos() / 1_000_000_000 >= PLAUSIBLE {
        return "set by the kernel".to_owned();
    }
    let seconds = std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    match seconds.map(|seconds| set(seconds.saturating_mul(1_000_000_000))) {
        Some(Ok(_)) => "set from rtc0".to_owned(),
        Some(Err(error)) => format!("waits for the host: {error}"),
        None => "waits for the host: no real-time clock".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.5, 13.2.
    #[test]
    fn the_clock_is_moved_only_by_what_matters() {
        let second = 1_000_000_000_u64;
        let table = [
            (100 * second, 100 * second + 1, 0),
            (100 * second, 100 * second + 19_999_999, 0),
            (100 * second, 101 * second, 1_000_000_000),
            (101 * second, 100 * second, -1_000_000_000),
            (100 * second, 0, 0),
            (0, u64::MAX, i64::MAX),
        ];
        for (now, wanted, moved) in table {
            assert_eq!(correction(now, wanted), moved, "{now} {wanted}");
        }
    }
}
