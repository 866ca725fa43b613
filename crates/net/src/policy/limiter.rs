//! Which denials are written to the log: a program that is denied tries again, and a hostile one without end.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The same denial is written again after this long.
const AGAIN: Duration = Duration::from_secs(60);
/// Lines at once, and then one each [`REFILL`].
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(1);
/// Different denials that are told apart.
const KEYS: usize = 1024;

/// What to do with a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Write it. So many like it were skipped since the last one.
    Write {
        /// Denials that were not written since the last line.
        skipped: u64,
    },
    /// Count it only.
    Skip,
}

/// Decides for each denial. Bounded in memory; time is a parameter.
#[derive(Debug)]
pub struct Limiter<K> {
    seen: HashMap<K, Instant>,
    tokens: u32,
    refilled: Option<Instant>,
    skipped: u64,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self { seen: HashMap::new(), tokens: BURST, refilled: None, skipped: 0 }
    }
}

impl<K: Hash + Eq> Limiter<K> {
    /// Whether the denial with this key is written now.
    pub fn line(&mut self, key: K, now: Instant) -> Line {
        self.refill(now);
        let fresh = self.seen.get(&key).is_none_or(|last| now.saturating_duration_since(*last) >= AGAIN);
        if !fresh || self.tokens == 0 {
            self.skipped += 1;
            return Line::Skip;
        }
        if self.seen.len() >= KEYS {
            self.seen.retain(|_, last| now.saturating_duration_since(*last) < AGAIN);
        }
        if self.seen.len() >= KEYS {
            self.seen.clear();
        }
        self.seen.insert(key, now);
        self.tokens -= 1;
        Line::Write { skipped: std::mem::take(&mut self.skipped) }
    }

    fn refill(&mut self, now: Instant) {
        let last = *self.refilled.get_or_insert(now);
        let due = now.saturating_duration_since(last).as_secs() / REFILL.as_secs();
        if due > 0 {
            self.tokens = BURST.min(self.tokens.saturating_add(u32::try_from(due).unwrap_or(u32::MAX)));
            self.refilled = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Spec 12.4: a denial is logged; the log is not a way to fill the host's disk.
    #[test]
    fn the_same_denial_is_written_once_a_minute_with_what_was_skipped() {
        let (start, mut limiter) = (Instant::now(), Limiter::default());
        assert_eq!(limiter.line("a", start), Line::Write { skipped: 0 });
        for _ in 0..100 {
            assert_eq!(limiter.line("a", start + seconds(59)), Line::Skip);
        }
        assert_eq!(limiter.line("a", start + seconds(60)), Line::Write { skipped: 100 });
    }

    #[test]
    fn different_denials_share_a_budget_that_comes_back() {
        let (start, mut limiter) = (Instant::now(), Limiter::default());
        let written = |limiter: &mut Limiter<u32>, from: u32, now| {
            (from..from + 1000).filter(|key| limiter.line(*key, now) != Line::Skip).count()
        };
        assert_eq!(written(&mut limiter, 0, start), 20);
        assert_eq!(written(&mut limiter, 1000, start + seconds(5)), 5);
        assert_eq!(written(&mut limiter, 2000, start + seconds(500)), 20);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (start, mut limiter) = (Instant::now(), Limiter::default());
        for key in 0..20_000_u64 {
            limiter.line(key, start + Duration::from_millis(key * 20));
            assert!(limiter.seen.len() <= KEYS);
        }
    }
}
