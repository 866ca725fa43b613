//! The foreign machine's start for a request: one at a time, however many wait for it (spec 6.5).
//!
//! Whoever needs the machine joins the start that is under way, or begins one. Its end, good or bad, is told to all who
//! joined; whoever comes after a failure begins anew. While the engine is being stopped none begins.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dhow_model::Failure;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How a start ended; `None` while it goes on.
type End = Option<Result<(), Failure>>;

/// The start that is under way, if any.
#[derive(Debug, Default)]
pub(crate) struct Waking {
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// How many are stopping the engine now.
    holders: u32,
    start: Option<Start>,
}

#[derive(Debug)]
struct Start {
    end: watch::Receiver<End>,
    cancel: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Waking {
    /// Joins the start that is under way, or begins `work`, and waits for its end. The work goes on when the caller goes
    /// away.
    ///
    /// # Errors
    /// Why the start failed, or that the engine is being stopped.
    pub(crate) async fn join<F>(&self, work: impl FnOnce() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut end = self.begin(work)?;
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| end.clone()).unwrap_or_else(|| Err(stopped()))
    }

    fn begin<F>(&self, work: impl FnOnce() -> F) -> Result<watch::Receiver<End>, Failure>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut slot = self.slot();
        if slot.holders > 0 {
            return Err(stopped());
        }
        if let Some(start) = slot.start.as_ref().filter(|start| start.end.borrow().is_none()) {
            return Ok(start.end.clone());
        }
        let (told, end) = watch::channel(None);
        let cancel = CancellationToken::new();
        let (cancelled, work) = (cancel.clone(), work());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let ended = tokio::select! {
                ended = work => ended,
                () = cancelled.cancelled() => Err(stopped()),
            };
            told.send_replace(Some(ended));
        }));
        slot.start = Some(Start { end: end.clone(), cancel, _task: task });
        Ok(end)
    }

    /// Ends the start that is under way and lets none begin until the answer is dropped.
    pub(crate) async fn hold(&self) -> Hold<'_> {
        let start = {
            let mut slot = self.slot();
            slot.holders += 1;
            slot.start.take()
        };
        let hold = Hold(self);
        if let Some(mut start) = start {
            start.cancel.cancel();
            if start.end.wait_for(Option::is_some).await.is_err() {
                tracing::debug!("the start had ended");
            }
        }
        hold
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No start begins while this lives.
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a Waking);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.slot().holders -= 1;
    }
}

fn stopped() -> Failure {
    Failure::new("stopped", "the engine is being stopped", "dhow up")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    fn failure() -> Failure {
        Failure::new("boot", "it cannot", "dhow status")
    }

    /// Spec 6.5: many callers, one start, one answer for all; the next call tries again.
    #[tokio::test]
    async fn many_callers_share_one_start_and_its_failure_and_the_next_one_tries_again() {
        let waking = Arc::new(Waking::default());
        let (starts, go_on) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let call = || {
            let (waking, starts, go_on) = (Arc::clone(&waking), Arc::clone(&starts), Arc::clone(&go_on));
            let work = || async move {
                let nth = starts.fetch_add(1, Ordering::SeqCst);
                go_on.notified().await;
                if nth == 0 { Err(failure()) } else { Ok(()) }
            };
            tokio::spawn(async move { waking.join(work).await })
        };
        let callers: Vec<_> = (0..20).map(|_| call()).collect();
        tokio::task::yield_now().await;
        go_on.notify_one();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Err(failure()));
        }
        assert_eq!(starts.load(Ordering::SeqCst), 1);
        go_on.notify_one();
        assert_eq!(call().await.unwrap(), Ok(()));
        assert_eq!(starts.load(Ordering::SeqCst), 2);
    }

    /// Spec 6.6: a stop ends the start that is under way, and none begins until it is over.
    #[tokio::test]
    async fn a_stop_ends_the_start_and_lets_none_begin() {
        let waking = Arc::new(Waking::default());
        let other = Arc::clone(&waking);
        let caller = tokio::spawn(async move { other.join(std::future::pending).await });
        tokio::task::yield_now().await;
        let hold = waking.hold().await;
        assert_eq!(caller.await.unwrap().unwrap_err().code, "stopped");
        assert_eq!(waking.join(|| async { Ok(()) }).await.unwrap_err().code, "stopped");
        drop(hold);
        assert_eq!(waking.join(|| async { Ok(()) }).await, Ok(()));
    }

    /// Spec 6.5: the start belongs to nobody in particular.
    #[tokio::test]
    async fn the_start_goes_on_when_its_first_caller_goes_away() {
        let waking = Waking::default();
        let go_on = Arc::new(Notify::new());
        let held = Arc::clone(&go_on);
        let work = || async move {
            held.notified().await;
            Ok(())
        };
        assert!(tokio::time::timeout(Duration::from_millis(1), waking.join(work)).await.is_err());
        go_on.notify_one();
        assert_eq!(waking.join(|| async { Err(failure()) }).await, Ok(()));
    }
}
