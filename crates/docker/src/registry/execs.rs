//! The execs of all engines, bounded: those that live, and the latest of those that have ended (spec 2.5).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use dhow_model::Role;

use super::Text;

/// Most execs that are recorded. The oldest give way: execs of an engine that died without a word, as a rule. One that is
/// called nevertheless is asked for.
const MAX: usize = 16_384;
/// How many of the ended ones are still found.
const MAX_ENDED: usize = 256;
/// Longest ID that is recorded; dockerd's have 64 digits.
const MAX_ID: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Execs {
    known: HashMap<Text, Exec>,
    /// The living ones, oldest first.
    in_order: BTreeMap<u64, Text>,
    /// All known ones, by role, container and exec.
    of: BTreeSet<(Role, Text, Text)>,
    /// The ended ones, oldest first, by ID and number; some of them may be gone with their container.
    ended: VecDeque<(Text, u64)>,
    next: u64,
}

#[derive(Debug)]
struct Exec {
    role: Role,
    container: Text,
    number: u64,
}

impl Execs {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn get(&self, exec: &str) -> Option<(Role, Text)> {
        self.known.get_key_value(exec).map(|(id, exec)| (exec.role, id.clone()))
    }

    pub(super) fn create(&mut self, role: Role, exec: &str, container: &str) {
        // The news come twice, from the face and from the engine, in either order, the second perhaps after the end.
        if self.known.contains_key(exec) || exec.len() > MAX_ID || container.len() > MAX_ID {
            return;
        }
        while self.in_order.len() >= MAX
            && let Some((_, oldest)) = self.in_order.pop_first()
        {
            self.drop_one(&oldest);
        }
        let (id, container) = (Text::from(exec), Text::from(container));
        let number = self.next;
        self.next += 1;
        self.in_order.insert(number, id.clone());
        self.of.insert((role, container.clone(), id.clone()));
        self.known.insert(id, Exec { role, container, number });
    }

    /// Ends one, which only its own engine may tell: the other's guest may be hostile.
    pub(super) fn end(&mut self, role: Role, exec: &str) {
        let Some((id, exec)) = self.known.get_key_value(exec).filter(|(_, exec)| exec.role == role) else {
            return;
        };
        let (id, number) = (id.clone(), exec.number);
        if self.in_order.remove(&number).is_none() {
            return;
        }
        self.ended.push_back((id, number));
        if self.ended.len() > MAX_ENDED
            && let Some((id, number)) = self.ended.pop_front()
            && self.known.get(&id).is_some_and(|exec| exec.number == number)
        {
            self.drop_one(&id);
        }
    }

    /// Forgets those of one container.
    pub(super) fn end_of(&mut self, role: Role, container: &str) {
        let container = Text::from(container);
        let from = (role, container.clone(), Text::from(""));
        let theirs = self.of.range(from..).take_while(|(r, c, _)| (*r, c) == (role, &container));
        let theirs: Vec<Text> = theirs.map(|(_, _, exec)| exec.clone()).collect();
        theirs.iter().for_each(|exec| self.drop_one(exec));
    }

    /// Forgets those of one role whose container is not kept.
    pub(super) fn keep(&mut self, role: Role, kept: impl Fn(&str) -> bool) {
        let gone = self.of.iter().filter(|(r, container, _)| *r == role && !kept(container));
        let gone: Vec<Text> = gone.map(|(_, _, exec)| exec.clone()).collect();
        gone.iter().for_each(|exec| self.drop_one(exec));
    }

    fn drop_one(&mut self, id: &Text) {
        if let Some(exec) = self.known.remove(id) {
            self.in_order.remove(&exec.number);
            self.of.remove(&(exec.role, exec.container, id.clone()));
        }
    }
}
