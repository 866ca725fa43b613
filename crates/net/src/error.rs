//! What can go wrong before a network runs. Once it runs, nothing of a guest's is an error: it is dropped and counted.

use std::io;

/// Why a machine's network could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket on which the hypervisor connects cannot be used.
    #[error("the network's socket for the hypervisor cannot be used")]
    Listener(#[source] io::Error),
    /// No event loop: the host is out of descriptors or memory.
    #[error("the network's event loop cannot be made; is the limit of open files (ulimit -n) reached?")]
    Runtime(#[source] io::Error),
    /// No thread.
    #[error("the network's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
