//! A list that only grows, and that any number of readers follow from its beginning.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// What happened so far.
#[derive(Debug)]
pub struct History<T> {
    items: Mutex<Vec<T>>,
    /// How many there are; a change wakes the readers.
    count: watch::Sender<usize>,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl<T: Clone> History<T> {
    /// Adds an item, unless `unless` holds for the one before it.
    pub fn push(&self, item: T, unless: impl FnOnce(&T) -> bool) {
        let mut items = self.lock();
        if items.last().is_some_and(unless) {
            return;
        }
        items.push(item);
        let count = items.len();
        drop(items);
        self.count.send_replace(count);
    }

    /// The items from number `from` on.
    #[must_use]
    pub fn since(&self, from: usize) -> Vec<T> {
        self.lock().get(from..).unwrap_or_default().to_vec()
    }

    /// Wakes when there is more.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every item from the first on, then each further one, up to and with the first for which `last` holds. The task that
/// feeds the stream ends with it.
pub fn follow<T: Clone + Send + Sync + 'static>(
    history: Arc<History<T>>,
    last: impl Fn(&T) -> bool + Send + 'static,
) -> ReceiverStream<Result<T, tonic::Status>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut changes = history.watch();
        let mut seen = 0;
        loop {
            changes.borrow_and_update();
            for item in history.since(seen) {
                seen += 1;
                let ends = last(&item);
                if sender.send(Ok(item)).await.is_err() || ends {
                    return;
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    ReceiverStream::new(receiver)
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_reader_sees_everything_once_whenever_it_comes() {
        let history = Arc::new(History::default());
        history.push(1, |_| false);
        let early = follow(Arc::clone(&history), |item| *item == 3);
        history.push(2, |_| false);
        history.push(3, |_| false);
        history.push(4, |before| *before == 3);
        let late = follow(Arc::clone(&history), |item| *item == 3);
        for stream in [early, late] {
            let seen: Vec<i32> = stream.map(Result::unwrap).collect().await;
            assert_eq!(seen, [1, 2, 3]);
        }
    }
}
