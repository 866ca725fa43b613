//! How long a service that ended waits for its next start.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer.
const CAP: Duration = Duration::from_secs(10);
/// A run at least this long forgives everything before it.
const GOOD_RUN: Duration = Duration::from_secs(30);

/// Waits that double with each bad run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    bad_runs: u32,
}

impl Backoff {
    /// What to wait after a run that lasted `ran`, and the state for the next time.
    #[must_use]
    pub fn after(self, ran: Duration) -> (Duration, Self) {
        let bad_runs = if ran >= GOOD_RUN { 0 } else { self.bad_runs };
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(bad_runs)).min(CAP);
        (wait, Self { bad_runs: bad_runs.saturating_add(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 6.2, 7.5.
    #[test]
    fn waits_double_up_to_a_cap_and_a_good_run_forgives() {
        let table: [(u64, u64); 11] = [
            (0, 100),
            (1, 200),
            (29, 400),
            (0, 800),
            (0, 1600),
            (0, 3200),
            (0, 6400),
            (0, 10_000),
            (0, 10_000),
            (30, 100),
            (0, 200),
        ];
        let mut backoff = Backoff::default();
        for (row, (ran_s, wait_ms)) in table.into_iter().enumerate() {
            let (wait, next) = backoff.after(Duration::from_secs(ran_s));
            assert_eq!(wait, Duration::from_millis(wait_ms), "row {row}");
            backoff = next;
        }
    }

    #[test]
    fn no_number_of_bad_runs_overflows() {
        let backoff = Backoff { bad_runs: u32::MAX };
        assert_eq!(backoff.after(Duration::ZERO).0, CAP);
    }
}
