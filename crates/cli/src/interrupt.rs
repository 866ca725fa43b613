//! Ctrl-C, from a known moment on: one that is pressed between two waits is not lost and does not kill the command.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// Presses of Ctrl-C.
#[derive(Debug)]
pub struct Interrupts(Signal);

impl Interrupts {
    /// From now on, Ctrl-C does not end the process but is told by [`Interrupts::pressed`].
    ///
    /// # Errors
    /// When the host does not let us.
    pub fn from_now_on() -> Result<Self> {
        signal(SignalKind::interrupt())
            .map(Self)
            .map_err(|source| Error::Surroundings { what: "Ctrl-C cannot be waited for", source })
    }

    /// Waits for the next one.
    pub async fn pressed(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
