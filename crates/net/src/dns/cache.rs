//! Answers of upstreams for as long as they say, in bounded memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;

use super::answer::Answer;
use super::message::{Flags, Question};

/// The most answers that are kept.
const ENTRIES: usize = 4096;
/// The most bytes that they take.
const BYTES: usize = 4 << 20;

/// What leads to one answer: two questions of one key may share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    name: String,
    kind: RecordType,
    flags: Flags,
}

impl Key {
    /// The question's.
    pub(crate) fn of(question: &Question) -> Self {
        Self { name: question.key.clone(), kind: question.kind, flags: question.flags }
    }
}

/// Answers, the one that ends first evicted first.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    generation: u64,
    entries: HashMap<Key, Entry>,
    ends: BTreeSet<(Instant, u64)>,
    keys: HashMap<u64, Key>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<Answer>,
    stored: Instant,
    ends: Instant,
    serial: u64,
    cost: usize,
}

impl Cache {
    /// The answer that still holds, and its age.
    pub(crate) fn get(
        &mut self,
        key: &Key,
        generation: u64,
        now: Instant,
    ) -> Option<(Arc<Answer>, Duration)> {
        self.follow(generation);
        let entry = self.entries.get(key)?;
        if entry.ends <= now {
            self.remove(key);
            return None;
        }
        Some((Arc::clone(&entry.answer), now.saturating_duration_since(entry.stored)))
    }

    /// Keeps an answer, if it may be kept and its upstreams are still those of today.
    pub(crate) fn put(&mut self, key: &Key, answer: &Arc<Answer>, generation: u64, now: Instant) {
        self.follow(generation);
        let Some(life) = answer.life().filter(|_| key.flags.recursion && generation == self.generation)
        else {
            return;
        };
        let cost = answer.size() + 2 * (size_of::<Key>() + key.name.len()) + size_of::<Entry>();
        if cost > BYTES / 16 {
            return;
        }
        self.remove(key);
        while self.entries.len() >= ENTRIES || self.bytes + cost > BYTES {
            let Some((_, serial)) = self.ends.first().copied() else { return };
            let Some(first) = self.keys.get(&serial).cloned() else { return };
            self.remove(&first);
        }
        let (ends, serial) = (now + life, self.next);
        self.next += 1;
        self.bytes += cost;
        self.ends.insert((ends, serial));
        self.keys.insert(serial, key.clone());
        self.entries
            .insert(key.clone(), Entry { answer: Arc::clone(answer), stored: now, ends, serial, cost });
    }

    /// Forgets what earlier upstreams said.
    fn follow(&mut self, generation: u64) {
        if generation > self.generation {
            *self = Self { generation, next: self.next, ..Self::default() };
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.ends.remove(&(entry.ends, entry.serial));
            self.keys.remove(&entry.serial);
            self.bytes -= entry.cost;
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
