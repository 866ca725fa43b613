//! Who holds which binding. Pure: events come in, what is to be said goes out.
//!
//! ```text
//!            bound                     proxy killed with its dockerd
//!  claim ─▶ Asked ──▶ Bound, its proxy lives ───────────────▶ Bound, orphaned
//!             │ refused    │ release, or killed                │      │ claimed again
//!             ▼            ▼ with dockerd alive                │      ▼
//!          (gone)       Closing ◀── dockerd answers again ─────┘    Bound, its new proxy lives
//!                          │ released
//!                          ▼
//!                       (gone)
//! ```
//!
//! What dockerd's own list of running containers does not show is withdrawn: it goes to Closing from wherever it is.
//! The host takes requests in order, so a release that is followed by a bind of the same address needs no wait between.

use std::collections::BTreeMap;

use dhow_model::port::Binding;

use super::words::Told;

/// Bindings at once; a container with a range of ports takes one for each port and address family.
pub const LIMIT: usize = 4096;

/// The agent's number for a binding; never used twice in one boot.
pub type Id = u64;
/// A proxy's connection.
pub type Owner = u64;

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// To the host: listen.
    Bind(Id, Binding),
    /// To the host: listen no more.
    Release(Id),
    /// To the host: listen no more, although nobody has asked for that; why.
    Withdraw(Id, &'static str),
    /// To a proxy.
    Tell(Owner, Told),
}

/// What the host answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It listens.
    Bound,
    /// It does not; why.
    Refused(String),
    /// It listens no more.
    Released,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asked,
    Bound,
    Closing,
}

#[derive(Debug)]
struct Entry {
    binding: Binding,
    /// The process that runs the proxy.
    dockerd: u32,
    /// The proxy, while it lives and waits for our word.
    owner: Option<Owner>,
    state: State,
}

impl Entry {
    /// Bound for a proxy that a living one of this dockerd's may take over.
    fn left_by_other_than(&self, dockerd: u32) -> bool {
        self.state == State::Bound && (self.owner.is_none() || self.dockerd != dockerd)
    }
}

/// All bindings of the guest.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<Id, Entry>,
    last: Id,
}

impl Table {
    /// A proxy of `dockerd` asks for a binding.
    pub fn claim(&mut self, owner: Owner, binding: Binding, dockerd: u32) -> Vec<Say> {
        let left = self.entries.values_mut().find(|e| e.binding == binding && e.left_by_other_than(dockerd));
        if let Some(entry) = left {
            (entry.owner, entry.dockerd) = (Some(owner), dockerd);
            return vec![Say::Tell(owner, Told::Bound)];
        }
        // dockerd gives out its ports itself: where it wants one, what an earlier one left there is over.
        let mut say = self.close(|e| e.left_by_other_than(dockerd) && e.binding.conflicts(&binding));
        if self.entries.len() >= LIMIT {
            let why = format!("{LIMIT} ports are published, and more are not possible");
            say.push(Say::Tell(owner, Told::Refused(why)));
            return say;
        }
        self.last += 1;
        self.entries.insert(self.last, Entry { binding, dockerd, owner: Some(owner), state: State::Asked });
        say.push(Say::Bind(self.last, binding));
        say
    }

    /// A proxy of `dockerd` asks for what no container needs any more: it gets nothing, and what is left of it goes.
    pub fn refuse(&mut self, owner: Owner, binding: Binding, dockerd: u32, why: &'static str) -> Vec<Say> {
        let left = |e: &Entry| e.left_by_other_than(dockerd) && e.binding == binding;
        let mut say: Vec<Say> = self.close(left).into_iter().map(|say| withdrawn(say, why)).collect();
        say.push(Say::Tell(owner, Told::Refused(why.to_owned())));
        say
    }

    /// Nobody needs this binding, whatever its proxy believes. Answers the proxy, which is to be ended.
    pub fn withdraw(&mut self, id: Id, why: &'static str) -> (Option<Owner>, Vec<Say>) {
        let entry = self.entries.get_mut(&id).filter(|entry| entry.state == State::Bound);
        let Some(entry) = entry else { return (None, Vec::new()) };
        entry.state = State::Closing;
        (entry.owner.take(), vec![Say::Withdraw(id, why)])
    }

    /// What the host listens for.
    pub fn bound(&self) -> impl Iterator<Item = (Id, Binding)> {
        self.entries.iter().filter(|(_, e)| e.state == State::Bound).map(|(id, e)| (*id, e.binding))
    }

    /// A proxy asks for its binding to end, and waits until it has.
    pub fn let_go(&mut self, owner: Owner) -> Vec<Say> {
        match self.of(owner) {
            Some((id, entry)) if entry.state != State::Closing => {
                entry.state = State::Closing;
                vec![Say::Release(id)]
            }
            Some(_) => Vec::new(),
            // Another took it over, so there is nothing of this one's.
            None => vec![Say::Tell(owner, Told::Released)],
        }
    }

    /// A proxy is gone without a word; its dockerd lives or does not.
    pub fn gone(&mut self, owner: Owner, dockerd_lives: bool) -> Vec<Say> {
        let Some((id, entry)) = self.of(owner) else { return Vec::new() };
        entry.owner = None;
        match entry.state {
            State::Bound if !dockerd_lives => Vec::new(),
            State::Asked | State::Bound => {
                entry.state = State::Closing;
                vec![Say::Release(id)]
            }
            State::Closing => Vec::new(),
        }
    }

    /// The host answered.
    pub fn answered(&mut self, id: Id, answer: Answer) -> Vec<Say> {
        let Some(entry) = self.entries.get_mut(&id) else { return Vec::new() };
        let owner = entry.owner;
        let told = match (entry.state, answer) {
            (State::Asked, Answer::Bound) => {
                entry.state = State::Bound;
                Told::Bound
            }
            (State::Asked, Answer::Refused(why)) => {
                self.entries.remove(&id);
                Told::Refused(why)
            }
            (State::Closing, Answer::Released) => {
                self.entries.remove(&id);
                Told::Released
            }
            // Answers to what was asked before it was taken back, or again after the host was away.
            _ => return Vec::new(),
        };
        owner.map(|owner| Say::Tell(owner, told)).into_iter().collect()
    }

    /// This dockerd answers: it has claimed all that it still wants of what others left.
    pub fn engine_answers(&mut self, dockerd: u32) -> Vec<Say> {
        self.close(|e| e.state == State::Bound && e.dockerd != dockerd)
    }

    /// The host is there again: everything that must be bound, and what is to be said after that.
    #[must_use]
    pub fn connected(&self) -> (Vec<(Id, Binding)>, Vec<Say>) {
        let of = |state| self.entries.iter().filter(move |(_, e)| e.state == state);
        let held = self.bound().collect();
        let releases = of(State::Closing).map(|(id, _)| Say::Release(*id));
        let binds = of(State::Asked).map(|(id, e)| Say::Bind(*id, e.binding));
        (held, releases.chain(binds).collect())
    }

    /// How many bindings there are, whatever their state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn of(&mut self, owner: Owner) -> Option<(Id, &mut Entry)> {
        self.entries.iter_mut().find(|(_, e)| e.owner == Some(owner)).map(|(id, e)| (*id, e))
    }

    fn close(&mut self, which: impl Fn(&Entry) -> bool) -> Vec<Say> {
        let closing = self.entries.iter_mut().filter(|(_, e)| which(e));
        closing
            .map(|(id, entry)| {
                (entry.state, entry.owner) = (State::Closing, None);
                Say::Release(*id)
            })
            .collect()
    }
}

fn withdrawn(say: Say, why: &'static str) -> Say {
    match say {
        Say::Release(id) => Say::Withdraw(id, why),
        say => say,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
