//! The unsafe calls of this crate.
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

/// Bytes, or more, that were written to a socket and that its other end has not read; 0 when it has read everything.
#[cfg(target_os = "linux")]
pub(crate) fn unread(socket: impl std::os::fd::AsFd) -> io::Result<usize> {
    /// `SIOCOUTQ` of the kernel's `linux/sockios.h`, the same number on all architectures that Dhow runs on. A Unix socket
    /// answers with the memory that unread data holds (`unix_outq_len`).
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: the kernel writes one `int`, which is the type named here.
    let question = unsafe { rustix::ioctl::Getter::<SIOCOUTQ, std::ffi::c_int>::new() };
    // SAFETY: the descriptor is open as long as it is borrowed, and reading the number changes nothing.
    let held = unsafe { rustix::ioctl::ioctl(socket, question) }?;
    usize::try_from(held).map_err(io::Error::other)
}

/// Asked of Linux only: nowhere else does a machine's memory outlive its hypervisor.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unread(_: impl std::os::fd::AsFd) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
