//! Work that goes on while a test does something else, in threads of their own. The first thing that fails ends all of it, and the test.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use dhow_testkit::{Error, Result};

/// What all of it shares.
#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    failed: Mutex<Option<String>>,
}

/// Work that goes on.
#[derive(Default)]
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<(&'static str, Arc<AtomicU64>, JoinHandle<()>)>,
}

impl Load {
    /// Repeats `piece` until the end. It is told how often it was done before.
    pub fn repeat(&mut self, name: &'static str, mut piece: impl FnMut(u64) -> Result<()> + Send + 'static) {
        let (shared, done) = (Arc::clone(&self.shared), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&done);
        let worker = std::thread::spawn(move || {
            while !shared.ends.load(Ordering::Relaxed) {
                if let Err(error) = piece(count.load(Ordering::Relaxed)) {
                    let mut failed = shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert_with(|| format!("{name}: {error}"));
                    shared.ends.store(true, Ordering::Relaxed);
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        self.workers.push((name, done, worker));
    }

    /// What has failed, if anything has.
    pub fn check(&self) -> Result<()> {
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed.as_ref() {
            None => Ok(()),
            Some(said) => Err(Error::Unexpected { what: "the load".to_owned(), said: said.clone() }),
        }
    }

    /// How often each was done.
    pub fn done(&self) -> String {
        let each =
            |(name, done, _): &(&str, Arc<AtomicU64>, _)| format!("{} {name}", done.load(Ordering::Relaxed));
        self.workers.iter().map(each).collect::<Vec<_>>().join(", ")
    }

    /// Lets each finish what it does, and answers how often each was done.
    pub fn end(mut self) -> Result<String> {
        self.shared.ends.store(true, Ordering::Relaxed);
        let done = self.done();
        for (name, _, worker) in self.workers.drain(..) {
            worker.join().map_err(|_| Error::Unexpected {
                what: format!("the load's {name}"),
                said: "it panicked".to_owned(),
            })?;
        }
        self.check().map(|()| done)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}
