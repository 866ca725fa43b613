//! Whose turn it is to talk to the guest: the questions that we ask by ourselves, many at a time, or the way into sleep, alone.
//! So no question is under way when the machine is stopped, and none is asked while it sleeps.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More than ever ask at once.
const QUESTIONS: u32 = 64;

/// Shared by all who ask the guest something by themselves.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

/// A turn, for as long as it lives.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "holds the turn")] Option<OwnedSemaphorePermit>);

impl Turns {
    /// Nobody talks yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(QUESTIONS as usize)))
    }

    /// Waits until a question may be asked: not while the machine sleeps.
    pub async fn question(&self) -> Turn {
        // The semaphore is never closed.
        Turn(Arc::clone(&self.0).acquire_owned().await.ok())
    }

    /// Waits until no question is under way, and holds back all others.
    pub async fn silence(&self) -> Turn {
        Turn(Arc::clone(&self.0).acquire_many_owned(QUESTIONS).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);

    /// Spec 13.1.
    #[tokio::test]
    async fn silence_waits_for_questions_and_questions_wait_for_its_end() {
        let turns = Turns::new();
        let (one, two) = (turns.question().await, turns.question().await);
        drop(one);
        assert!(timeout(SOON, turns.silence()).await.is_err());
        drop(two);
        let silence = timeout(SOON, turns.silence()).await.unwrap();
        assert!(timeout(SOON, turns.question()).await.is_err());
        drop(silence);
        assert!(timeout(SOON, turns.question()).await.is_ok());
    }
}
