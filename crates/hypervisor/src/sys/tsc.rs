//! The rate of the processor's time stamp counter.

use std::time::{Duration, Instant};

/// One reading of the counter and the moment at which it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    counter: u64,
    moment: Instant,
}

/// Attempts at a reading; the one that took the shortest time is the most exact.
const ATTEMPTS: u32 = 8;

impl Reading {
    pub(crate) fn now() -> Self {
        let attempt = |_| {
            let before = Instant::now();
            // SAFETY: the instruction reads a register and has no other effect; it is there on every x86-64 processor, and
            // Linux lets every program execute it unless the program forbids itself to (PR_SET_TSC).
            let counter = unsafe { core::arch::x86_64::_rdtsc() };
            let took = before.elapsed();
            (took, Self { counter, moment: before + took / 2 })
        };
        let first = attempt(0);
        (1..ATTEMPTS).map(attempt).fold(first, |best, new| if new.0 < best.0 { new } else { best }).1
    }

    /// Kilohertz between an earlier reading and this one; `None` when it makes no sense.
    pub(crate) fn rate_since(&self, earlier: &Self) -> Option<u32> {
        let ticks = self.counter.checked_sub(earlier.counter)?;
        rate(ticks, self.moment.checked_duration_since(earlier.moment)?)
    }
}

fn rate(ticks: u64, time: Duration) -> Option<u32> {
    let khz = u128::from(ticks) * 1_000_000 / time.as_nanos().max(1);
    // What the kernel takes (`tsc_early_khz`) and a processor has: 100 MHz to 20 GHz.
    u32::try_from(khz).ok().filter(|khz| (100_000..20_000_000).contains(khz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_ticks_over_time_and_nonsense_is_none() {
        assert_eq!(rate(52_000_000, Duration::from_millis(20)), Some(2_600_000));
        assert_eq!(rate(0, Duration::from_millis(20)), None);
        assert_eq!(rate(52_000_000, Duration::ZERO), None);
        assert_eq!(rate(u64::MAX, Duration::from_millis(1)), None);
    }

    #[test]
    fn two_measurements_of_the_same_processor_agree() {
        let measure = || {
            let first = Reading::now();
            while first.moment.elapsed() < Duration::from_millis(20) {}
            Reading::now().rate_since(&first).unwrap()
        };
        let (a, b) = (measure(), measure());
        assert!(a.abs_diff(b) < a / 500, "{a} {b}");
    }
}
