//! Which engine a parked connection belongs to, as a pure table of what is known now.
//!
//! ```text
//!                    ┌─ a build names it ──────────────────────────► given to the build's role
//!   a client opens ──┤  (waiting: at most 30 s)
//!   `/session`       ├─ its client goes away ──────────────────────► dropped
//!                    └─ 30 s ──────────────────────────────────────► refused, naming the UUID
//!
//!   a build begins ──► Named: a session that comes now is given to its role at once ──(the build ends)──► forgotten
//! ```
//!
//! The same holds for the second request of a build whose context is uploaded apart (`buildid=upload-request:ID`), which names
//! neither platform nor session: it waits for the build of that ID.

use std::collections::HashMap;

use dhow_model::Role;

/// Most connections that wait at once.
pub(crate) const MAX_WAITING: usize = 256;

/// What a build and the connection that belongs to it have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// `X-Docker-Expose-Session-Uuid`, a build's `session`.
    Session(String),
    /// A build's `buildid`.
    Build(String),
}

/// One connection that waits; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What becomes of a connection that has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It belongs to this role.
    To(Role),
    Wait(Ticket),
    /// A session with this UUID is there already.
    Twice,
    /// Too many wait.
    Crowded,
}

/// What is known. Whoever opens something closes it: every entry belongs to a connection that is there.
#[derive(Debug, Default)]
pub(crate) struct Table {
    next: u64,
    waiting: HashMap<Ticket, Key>,
    /// Sessions that were given to a role and are still connected.
    joined: HashMap<Key, usize>,
    /// Where the builds are that go on and name this key, in the order in which they began.
    named: HashMap<Key, Vec<Role>>,
}

impl Table {
    /// A connection has come for `key`.
    pub(crate) fn arrive(&mut self, key: &Key) -> Arrival {
        let twin = self.joined.contains_key(key) || self.waiting.values().any(|other| other == key);
        if twin && matches!(key, Key::Session(_)) {
            return Arrival::Twice;
        }
        if let Some(role) = self.known(key) {
            self.join(key.clone());
            return Arrival::To(role);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Arrival::Crowded;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, key.clone());
        Arrival::Wait(ticket)
    }

    /// A waiting connection's time is over, or its client has gone. False if it was given to a role before.
    pub(crate) fn give_up(&mut self, ticket: Ticket) -> bool {
        self.waiting.remove(&ticket).is_some()
    }

    /// A connection that was given to a role has ended.
    pub(crate) fn leave(&mut self, key: &Key) {
        if let Some(count) = self.joined.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.joined.remove(key);
            }
        }
    }

    /// A build begins that names these keys; returns who need wait no longer. Of builds that share a key the oldest decides.
    pub(crate) fn build(&mut self, keys: &[Key], role: Role) -> Vec<(Ticket, Role)> {
        for key in keys {
            self.named.entry(key.clone()).or_default().push(role);
        }
        self.release()
    }

    /// A build has ended.
    pub(crate) fn build_over(&mut self, keys: &[Key], role: Role) {
        for key in keys {
            if let Some(roles) = self.named.get_mut(key) {
                if let Some(at) = roles.iter().position(|other| *other == role) {
                    roles.remove(at);
                }
                if roles.is_empty() {
                    self.named.remove(key);
                }
            }
        }
    }

    /// The role of the build with this ID, while it goes on.
    pub(crate) fn builder(&self, id: &str) -> Option<Role> {
        self.known(&Key::Build(id.to_owned()))
    }

    /// Nothing is known of anybody.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.joined.is_empty() && self.named.is_empty()
    }

    fn known(&self, key: &Key) -> Option<Role> {
        self.named.get(key)?.first().copied()
    }

    fn join(&mut self, key: Key) {
        *self.joined.entry(key).or_insert(0) += 1;
    }

    fn release(&mut self) -> Vec<(Ticket, Role)> {
        let waiting = self.waiting.iter();
        let mut released: Vec<(Ticket, Role)> =
            waiting.filter_map(|(ticket, key)| Some((*ticket, self.known(key)?))).collect();
        released.sort_unstable();
        for (ticket, _) in &released {
            if let Some(key) = self.waiting.remove(ticket) {
                self.join(key);
            }
        }
        released
    }
}

#[cfg(test)]
#[path = "session_table_tests.rs"]
mod tests;
