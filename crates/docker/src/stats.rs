//! Counters, for `dhow status` and for the decision to sleep.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the face has done and is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests so far.
    pub requests: u64,
    /// Requests and upgraded streams that are going on now.
    pub in_flight: u64,
    /// Of those, streams that are no longer HTTP.
    pub upgraded: u64,
    /// Idle connections to the engine.
    pub pooled: u64,
    /// Bytes of requests and answers that were forwarded, both ways together; counted when an exchange ends.
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) upgraded: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, pooled: usize) -> Stats {
        Stats {
            requests: self.requests.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            upgraded: self.upgraded.load(Ordering::Relaxed),
            pooled: pooled as u64,
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Counts one while it lives.
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    pub(crate) fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
