//! Memory for TCP flows: how large the rings of a new one may be, and endpoints kept for the next short connection.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::stack::Stack;
use crate::gateway::clock::Clock;

/// Rings of the first flows: enough for a window of several packets of full size on a link that is only a copy away.
const LARGE: usize = 512 << 10;
/// Rings when a quarter of the memory is given away.
const MEDIUM: usize = 128 << 10;
/// Rings when half of the memory is given away.
const SMALL: usize = 16 << 10;
/// Endpoints that are kept for reuse.
const KEPT: usize = 16;

/// Every endpoint of one machine comes from here and returns when its [`Lease`] is dropped.
pub(super) struct Pool {
    limit: usize,
    link_sums: bool,
    clock: Clock,
    used: Cell<usize>,
    kept: RefCell<Vec<Stack>>,
    random: RandomState,
    made: Cell<u64>,
}

impl Pool {
    /// A pool of at most `limit` bytes. With `link_sums` the link sees to checksums.
    pub(super) fn new(limit: usize, link_sums: bool, clock: Clock) -> Rc<Pool> {
        Rc::new(Pool {
            limit,
            link_sums,
            clock,
            used: Cell::new(0),
            kept: RefCell::new(Vec::new()),
            random: RandomState::new(),
            made: Cell::new(0),
        })
    }

    /// An endpoint, or `None` when all memory is given away.
    pub(super) fn take(self: &Rc<Self>) -> Option<Lease> {
        let ring = self.ring();
        let kept = {
            let mut kept = self.kept.borrow_mut();
            let found = kept.iter().rposition(|stack| stack.ring() == ring);
            found.map(|index| kept.swap_remove(index))
        };
        let stack = match kept {
            Some(stack) => stack,
            None => {
                if self.used.get() + 2 * ring > self.limit {
                    self.shrink();
                }
                if self.used.get() + 2 * ring > self.limit {
                    return None;
                }
                self.used.set(self.used.get() + 2 * ring);
                self.made.set(self.made.get() + 1);
                Stack::new(ring, self.random.hash_one(self.made.get()), self.link_sums, self.clock.now())
            }
        };
        Some(Lease { pool: self.clone(), stack: Some(stack) })
    }

    /// Bytes of a new flow's rings: the fuller, the smaller, so that many idle connections fit and few busy ones are fast.
    fn ring(&self) -> usize {
        let kept: usize = self.kept.borrow().iter().map(Stack::memory).sum();
        let used = self.used.get() - kept;
        match used {
            used if used < self.limit / 4 => LARGE,
            used if used < self.limit / 2 => MEDIUM,
            _ => SMALL,
        }
    }

    /// Gives back the memory of endpoints that are not in use.
    pub(super) fn shrink(&self) {
        self.kept.borrow_mut().drain(..).for_each(|stack| self.free(&stack));
    }

    fn free(&self, stack: &Stack) {
        self.used.set(self.used.get() - stack.memory());
    }
}

/// An endpoint in use.
pub(super) struct Lease {
    pool: Rc<Pool>,
    /// Always there until the drop.
    stack: Option<Stack>,
}

impl Deref for Lease {
    type Target = Stack;

    fn deref(&self) -> &Stack {
        match &self.stack {
            Some(stack) => stack,
            None => unreachable!("a lease holds its stack until it is dropped"),
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Stack {
        match &mut self.stack {
            Some(stack) => stack,
            None => unreachable!("a lease holds its stack until it is dropped"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(stack) = self.stack.take() else { return };
        let mut kept = self.pool.kept.borrow_mut();
        if kept.len() < KEPT {
            kept.push(stack);
        } else {
            self.pool.free(&stack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 3: "bounded memory and descriptors per guest".
    #[test]
    fn rings_shrink_as_memory_fills_and_end_at_the_limit() {
        let pool = Pool::new(64 << 20, false, Clock::for_test());
        let mut leases = Vec::new();
        while let Some(lease) = pool.take() {
            leases.push(lease);
        }
        let rings: Vec<usize> = leases.iter().map(|lease| lease.ring()).collect();
        assert_eq!((rings[0], *rings.last().unwrap()), (LARGE, SMALL));
        assert!(rings.is_sorted_by(|a, b| a >= b) && rings.contains(&MEDIUM));
        assert_eq!(rings.iter().sum::<usize>() * 2, 64 << 20);
        drop(leases);
        assert!(pool.used.get() <= KEPT * 2 * LARGE);
    }

    #[test]
    fn a_short_connection_leaves_its_endpoint_to_the_next() {
        let pool = Pool::new(64 << 20, false, Clock::for_test());
        drop(pool.take());
        drop(pool.take());
        assert_eq!(pool.made.get(), 1);
    }
}
