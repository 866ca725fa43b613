//! How often something may be done: so many times a second, and so many at once after a pause.

use tokio::time::Instant;

/// A token bucket. Time comes in as a parameter.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Tokens that come back in a second.
    per_second: f64,
    /// Tokens that there are at most.
    most: f64,
    tokens: f64,
    last: Instant,
}

impl Rate {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, most: u32, now: Instant) -> Rate {
        Rate { per_second: per_second.into(), most: most.into(), tokens: most.into(), last: now }
    }

    /// Takes a token; false when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.most);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_at_once_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut rate = Rate::new(10, 20, now);
        assert_eq!((0..100).filter(|_| rate.take(now)).count(), 20);
        assert_eq!((0..100).filter(|_| rate.take(now + Duration::from_secs(1))).count(), 10);
        assert_eq!((0..100).filter(|_| rate.take(now)).count(), 0, "time that goes back gives nothing");
        assert_eq!((0..100).filter(|_| rate.take(now + Duration::from_secs(600))).count(), 20);
    }
}
