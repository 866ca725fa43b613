//! The trait that every hypervisor implements, and what it says when a guest has ended.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::{Hardware, Output, Result};

/// A way to run guests. [`start`](Self::start) may be called from any task; the guest lives until it ends by itself or
/// its [`Running`] is told to end it or dropped.
#[async_trait::async_trait]
pub trait Hypervisor: Send + Sync {
    /// Its name and version, for people: `QEMU 10.0.2`.
    fn name(&self) -> &str;

    /// Starts a guest and returns once the hypervisor answers on its control socket; the guest is then executing.
    ///
    /// `inherit` are descriptors that the hypervisor keeps open and does not use: a lock on them holds as long as it
    /// lives, even when this process is killed.
    ///
    /// # Errors
    /// [`CidTaken`](crate::Error::CidTaken) and [`DiskInUse`](crate::Error::DiskInUse) where the hypervisor said so,
    /// [`EndedEarly`](crate::Error::EndedEarly) with its last words otherwise. Nothing is left running or on disk.
    async fn start(
        &self,
        hardware: &Hardware,
        output: Output,
        inherit: Vec<OwnedFd>,
    ) -> Result<Box<dyn Running>>;
}

/// A running guest. It is killed when this is dropped, and when this process dies.
#[async_trait::async_trait]
pub trait Running: Send + Sync {
    /// Process ID of the hypervisor.
    fn pid(&self) -> u32;

    /// Stops the guest's processors; memory and devices stay.
    async fn pause(&mut self) -> Result<()>;

    /// Lets the processors go on after [`pause`](Self::pause). A guest starts running; it needs no call to begin.
    async fn resume(&mut self) -> Result<()>;

    /// Waits until the hypervisor has ended and all it said is in the logs. May be dropped and called again at any
    /// time; afterwards it answers at once.
    async fn wait(&mut self) -> Exit;

    /// Presses the machine's power button: a request that the guest may ignore.
    async fn power_button(&mut self) -> Result<()>;

    /// Ends the hypervisor without asking the guest, in order (what the guest wrote is flushed), and kills it when it
    /// has not ended within the limit.
    async fn quit(&mut self, limit: Duration) -> Result<()>;

    /// Kills the hypervisor (SIGKILL) and waits until it is gone.
    async fn kill(&mut self) -> Result<()>;

    /// Connects to the channel's virtio-serial port. One connection at a time reaches the guest.
    ///
    /// # Errors
    /// [`Unsupported`](crate::Error::Unsupported) for a machine whose channel is a vsock.
    async fn serial(&self) -> Result<UnixStream>;
}

/// How a hypervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Status or signal.
    pub how: How,
    /// Why the guest stopped, in the hypervisor's word, if it said one: `guest-shutdown`, `guest-reset`,
    /// `guest-panic`, `host-qmp-quit` (QMP's `ShutdownCause`).
    pub cause: Option<String>,
    /// The last lines of the hypervisor's standard error.
    pub said: Vec<String>,
    /// The last lines of the guest's console.
    pub console: Vec<String>,
}

/// The way in which a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It returned this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether the guest powered itself off or the hypervisor was told to quit, without an error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.how == How::Code(0) && self.cause.as_deref() != Some("guest-panic")
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Code(code) => write!(f, "ended with status {code}")?,
            How::Signal(signal) => write!(f, "was killed by signal {signal}")?,
        }
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        if self.said.is_empty() { Ok(()) } else { write!(f, ": {}", self.said.join("; ")) }
    }
}
