//! Equal questions are asked once: who comes while one is under way waits for its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::answer::Answer;
use super::cache::Key;

/// The most different questions under way; each holds a socket.
const UNDER_WAY: usize = 256;
/// The most that wait for them.
const WAITING: usize = 1024;

/// An answer, or none.
type Outcome = OnceCell<Option<Arc<Answer>>>;

/// Questions under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    flights: HashMap<Key, Arc<Outcome>>,
    waiting: usize,
}

/// A place among those who wait for one question. It is left by dropping it.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    flights: &'a Flights,
    key: Key,
    outcome: Arc<Outcome>,
}

impl Flights {
    /// Joins those who wait for an answer; `None` when too much is under way.
    pub(crate) fn join(&self, key: &Key) -> Option<Seat<'_>> {
        let mut state = self.lock();
        if state.waiting >= WAITING || (state.flights.len() >= UNDER_WAY && !state.flights.contains_key(key))
        {
            return None;
        }
        state.waiting += 1;
        let outcome = Arc::clone(state.flights.entry(key.clone()).or_default());
        Some(Seat { flights: self, key: key.clone(), outcome })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// The answer: the first to wait asks, and when that one goes away the next takes over.
    pub(crate) async fn wait(&self, ask: impl Future<Output = Option<Arc<Answer>>>) -> Option<Arc<Answer>> {
        self.outcome.get_or_init(|| ask).await.clone()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.flights.lock();
        state.waiting -= 1;
        let ours = state.flights.get(&self.key).is_some_and(|o| Arc::ptr_eq(o, &self.outcome));
        // Ours and the table's: nobody else waits. Once it is answered, whoever comes asks anew.
        if ours && (self.outcome.initialized() || Arc::strong_count(&self.outcome) <= 2) {
            state.flights.remove(&self.key);
        }
    }
}
