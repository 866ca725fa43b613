//! Counters, for `dhow status` and for the decision to sleep.

use std::sync::atomic::{AtomicU64, Ordering};

use dhow_model::Role;

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

/// What clients want of one engine. The face's own questions, and the events that it follows, do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests and streams that are going on now.
    pub in_flight: u64,
    /// Requests that have begun so far.
    pub begun: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    native: Engine,
    foreign: Engine,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) upgraded: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// One engine's.
#[derive(Debug, Default)]
struct Engine {
    in_flight: AtomicU64,
    begun: AtomicU64,
}

impl Counters {
    /// What clients want of this role's engine.
    pub(crate) fn usage(&self, role: Role) -> Usage {
        let engine = self.engine(role);
        // In this order: whoever sees that nothing goes on sees everything that has begun.
        let in_flight = engine.in_flight.load(Ordering::Acquire);
        Usage { in_flight, begun: engine.begun.load(Ordering::Acquire) }
    }

    fn engine(&self, role: Role) -> &Engine {
        match role {
            Role::Native => &self.native,
            Role::Foreign => &self.foreign,
        }
    }

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

/// Counts one request of each of some engines while it lives.
pub(crate) struct InUse<'a> {
    counters: &'a Counters,
    roles: [Option<Role>; 2],
}

impl<'a> InUse<'a> {
    /// A request that concerns no engine yet.
    pub(crate) const fn none(counters: &'a Counters) -> Self {
        Self { counters, roles: [None, None] }
    }

    /// It concerns this engine too from now on.
    pub(crate) fn of(&mut self, role: Role) {
        let place = &mut self.roles[usize::from(role == Role::Foreign)];
        if place.replace(role).is_none() {
            let engine = self.counters.engine(role);
            engine.begun.fetch_add(1, Ordering::AcqRel);
            engine.in_flight.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It concerns every engine from now on.
    pub(crate) fn of_all(&mut self) {
        Role::ALL.into_iter().for_each(|role| self.of(role));
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        for role in self.roles.into_iter().flatten() {
            self.counters.engine(role).in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 13.1: what goes on is counted once for each engine that it concerns, and what has ended is still known to have been.
    #[test]
    fn a_request_counts_for_the_engines_that_it_concerns_until_it_ends() {
        let counters = Counters::default();
        let counts =
            || Role::ALL.map(|role| counters.usage(role)).map(|usage| (usage.in_flight, usage.begun));
        let mut one = InUse::none(&counters);
        assert_eq!(counts(), [(0, 0), (0, 0)]);
        one.of(Role::Foreign);
        one.of(Role::Foreign);
        assert_eq!(counts(), [(0, 0), (1, 1)]);
        let mut two = InUse::none(&counters);
        two.of_all();
        assert_eq!(counts(), [(1, 1), (2, 2)]);
        drop(one);
        drop(two);
        assert_eq!(counts(), [(0, 1), (0, 2)]);
    }
}
