//! The one unsafe call of this crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;

/// Registers `file` with the event loop.
pub(crate) fn watch(file: Arc<File>) -> io::Result<AsyncFd<Arc<File>>> {
    // SAFETY: the descriptor must stay open and the same until the registration is gone. A `File` never changes its
    // descriptor and closes it on drop, and the `AsyncFd` holds a share of it, given out by reference only.
    unsafe { AsyncFd::register(file) }.map_err(Into::into)
}
