//! The guest's side: listen on the channel, and hand out what the host opens.

mod accept;
mod serial;
#[cfg(target_os = "linux")]
mod vsock;

use std::path::PathBuf;

use dhow_model::Port;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub use serial::serial_device;

use crate::{Result, Stream, Token};

/// Streams that are accepted and not yet taken from [`Incoming::next`]. Past this a dial waits for its answer.
const WAITING: usize = 64;

/// Streams that the host opens, over whichever channel. Dropping it stops listening and ends the session; over vsock
/// the streams that were handed out go on.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<(Port, Stream)>,
    task: AbortHandle,
}

impl Incoming {
    /// Listens on a virtio-serial port, as found by [`serial_device`], for every port of the agent. It survives that the
    /// host's end closes and opens again, and bytes that are not a session.
    ///
    /// # Errors
    /// When the device cannot be opened.
    pub fn serial(device: PathBuf) -> Result<Self> {
        Ok(Self::start(serial::Device::open(device)?, &Port::ALL))
    }

    /// Listens on pipes that are there already, one session after the other: for a transport of another kind, and for
    /// tests. It ends when `pipes` does.
    #[must_use]
    pub fn over<P>(pipes: mpsc::Receiver<P>, ports: &[Port]) -> Self
    where
        P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::start(pipes, ports)
    }

    /// Listens on `AF_VSOCK` ports, and hangs up on a stream that does not begin with `token` (spec 16.5).
    ///
    /// # Errors
    /// When a port cannot be listened on, or the platform has no vsock.
    pub fn vsock(ports: &[Port], token: Token) -> Result<Self> {
        #[cfg(target_os = "linux")]
        return vsock::listen(ports, token);
        #[cfg(not(target_os = "linux"))]
        {
            drop((ports, token));
            Err(crate::Error::Unsupported("listening on vsock in a guest"))
        }
    }

    /// The next stream and the port that it was opened to; `None` when the channel is gone for good. Cancelling it
    /// loses nothing.
    pub async fn next(&mut self) -> Option<(Port, Stream)> {
        self.streams.recv().await
    }

    fn start(pipes: impl accept::Pipes, ports: &[Port]) -> Self {
        let (found, streams) = mpsc::channel(WAITING);
        let ports = ports.to_vec();
        let task = tokio::spawn(accept::sessions(pipes, ports, found)).abort_handle();
        Self { streams, task }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}
