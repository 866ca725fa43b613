//! When a machine that failed is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);
/// A machine that ran this long was well: its next failure is a first one.
const WELL: Duration = Duration::from_secs(60);
/// So many failures in a row, and it stays off until somebody asks.
const LIMIT: u32 = 8;

/// What failing has led to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retries {
    failures: u32,
}

impl Retries {
    /// Failures since it last ran well.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.failures
    }

    /// Takes note of a failure after it ran for `ran` (zero if it never became ready), and says how long to wait before the
    /// next start: 1 s, then twice as long each time, at most 60 s. `None` when it has failed too often.
    #[must_use]
    pub fn failed(&mut self, ran: Duration) -> Option<Duration> {
        if ran >= WELL {
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures > LIMIT {
            return None;
        }
        Some(FIRST.saturating_mul(1 << (self.failures - 1)).min(CAP))
    }

    /// Somebody asked for the machine: it starts over.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 6.2.
    #[test]
    fn retries_back_off_to_a_cap_and_end() {
        let mut retries = Retries::default();
        let waits: Vec<_> = (0..9).map(|_| retries.failed(Duration::ZERO).map(|d| d.as_secs())).collect();
        let expected = [1, 2, 4, 8, 16, 32, 60, 60].map(Some).into_iter().chain([None]);
        assert_eq!(waits, expected.collect::<Vec<_>>());
    }

    /// Spec 6.2.
    #[test]
    fn a_machine_that_ran_well_starts_over() {
        let mut retries = Retries::default();
        for _ in 0..5 {
            assert!(retries.failed(Duration::from_secs(59)).is_some());
        }
        assert_eq!(retries.failed(Duration::from_secs(60)), Some(FIRST));
    }
}
