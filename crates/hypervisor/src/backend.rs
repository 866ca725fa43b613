//! The trait that every hypervisor implements, and what it says when a guest has ended.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::{Dumped, Hardware, Memory, Output, Result};

/// A way to run guests. [`start`](Self::start) may be called from any task; the guest lives until it ends by itself or
/// its [`Running`] is told to end it or dropped.
#[async_trait::async_trait]
pub trait Hypervisor: Send + Sync {
    /// Its name and version, for people: `QEMU 10.0.2`.
    fn name(&self) -> &str;

    /// Starts a guest and returns once the hypervisor answers on its control socket. A guest that boots is then executing;
    /// one that was saved is loaded and paused, and [`resume`](Running::resume) lets it go on.
    ///
    /// `memory` is the guest's RAM, as large as the hardware says; a machine that shall be saved needs one. Without it the
    /// hypervisor makes its own. For a saved guest it is new, and filled here while the hypervisor starts, or it is the one that
    /// the guest had.
    ///
    /// `inherit` are descriptors that the hypervisor keeps open and does not use: a lock on them holds as long as it
    /// lives, even when this process is killed.
    ///
    /// # Errors
    /// [`CidTaken`](crate::Error::CidTaken) and [`DiskInUse`](crate::Error::DiskInUse) where the hypervisor said so,
    /// [`EndedEarly`](crate::Error::EndedEarly) with its last words otherwise. For a saved guest
    /// [`Damaged`](crate::Error::Damaged) when a file is not what was written, and [`NotRestored`](crate::Error::NotRestored)
    /// when the hypervisor refuses it: boot instead. Nothing is left running or on disk.
    async fn start(
        &self,
        hardware: &Hardware,
        output: Output,
        inherit: Vec<OwnedFd>,
        memory: Option<&Memory>,
        origin: Origin<'_>,
    ) -> Result<Box<dyn Running>>;
}

/// Where a guest begins.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// At its kernel's first instruction.
    Boot,
    /// Where it was saved, on the same hardware and the same version of the hypervisor.
    Saved(Saved<'a>),
}

/// A guest as it was saved: its devices by [`Running::save`], and then its memory by [`Memory::dump`].
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// File of the processors' and devices' state.
    pub devices: &'a Path,
    /// What was written to it.
    pub devices_written: Dumped,
    /// File of the memory, and what was written to it; none when the [`Memory`] that is handed over holds the guest's still.
    pub memory: Option<(&'a Path, Dumped)>,
}

/// A running guest. It is killed when this is dropped, and when this process dies.
#[async_trait::async_trait]
pub trait Running: Send + Sync {
    /// Process ID of the hypervisor.
    fn pid(&self) -> u32;

    /// Stops the guest's processors; memory and devices stay.
    async fn pause(&mut self) -> Result<()>;

    /// Lets the processors go on after [`pause`](Self::pause), or begin after they were loaded. A guest that boots runs at
    /// once; it needs no call to begin.
    async fn resume(&mut self) -> Result<()>;

    /// Writes the state of processors and devices to a file, whole and synced, and ends the hypervisor. The guest was
    /// [paused](Self::pause) before. Its memory is then still, and stays with whoever holds the [`Memory`].
    ///
    /// # Errors
    /// [`NotSaved`](crate::Error::NotSaved): the guest is paused as before and can be resumed.
    /// [`EndedWhileSaving`](crate::Error::EndedWhileSaving) and everything else: the hypervisor is gone or is to be killed, and
    /// what the file holds is of no use. [`Unsupported`](crate::Error::Unsupported) for a machine that was started without a
    /// [`Memory`]: nothing has changed.
    async fn save(&mut self, devices: &Path) -> Result<Dumped>;

    /// Waits until the hypervisor has ended and all it said is in the logs. May be dropped and called again at any
    /// time; afterwards it answers at once.
    async fn wait(&mut self) -> Exit;

    /// Whether the guest stands still because the host's disk has no room for what it writes. [`resume`](Self::resume) has it try
    /// again; nothing of it is lost meanwhile.
    fn waits_for_room(&self) -> bool;

    /// Makes the disk with this serial larger; the guest sees it at once.
    ///
    /// # Errors
    /// When there is no such disk, or the hypervisor refuses.
    async fn resize_disk(&mut self, serial: &str, bytes: u64) -> Result<()>;

    /// Lets the guest use so many bytes of its memory, at most all of it. Answers at once; the guest gives back what it can, and the
    /// rest as it gets free.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    async fn limit_memory(&mut self, bytes: u64) -> Result<()>;

    /// Presses the machine's power button: a request that the guest may ignore.
    async fn power_button(&mut self) -> Result<()>;

    /// Ends the hypervisor without asking the guest, in order (what the guest wrote is flushed), and kills it when it
    /// has not ended within the limit.
    async fn quit(&mut self, limit: Duration) -> Result<()>;

    /// Kills the hypervisor (SIGKILL) and waits until it is gone.
    async fn kill(&mut self) -> Result<()>;

    /// Connects to the channel's virtio-serial port. One connection at a time reaches the guest. For a guest that was loaded
    /// the first call hands out the connection that was made before: take it before [`resume`](Self::resume), so that the
    /// guest does not see the port close.
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
