//! The guest's virtio-serial port.
//!
//! Facts from the kernel's `drivers/char/virtio_console.c`: only one process can have the port open, and closing it
//! drops what has arrived, so it stays open between sessions. While no host is connected, reading gives 0 and polling
//! says `POLLHUP` at every look, which an event loop would report without end: that state is left to a timer.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dhow_model::channel::SERIAL_PORT_NAME;
use rustix::event::{PollFd, PollFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::accept::Pipes;
use crate::{Error, Result};

/// How often to look for a host, at first and later. A look is one system call.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// After how many looks "later" is.
const SOON: u32 = 1000;

/// Finds the channel's port among the guest's virtio-serial ports.
///
/// # Errors
/// When there is none, or the list cannot be read.
pub fn serial_device() -> Result<PathBuf> {
    find(Path::new("/sys/class/virtio-ports"))
}

fn find(class: &Path) -> Result<PathBuf> {
    let missing = Error::NoSerialPort { name: SERIAL_PORT_NAME };
    let entries = match std::fs::read_dir(class) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing),
        Err(source) => return Err(Error::Device { path: class.to_owned(), source }),
    };
    for entry in entries.flatten() {
        let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == SERIAL_PORT_NAME {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(missing)
}

/// The port, open.
#[derive(Debug)]
pub(super) struct Device {
    file: Arc<File>,
}

impl Device {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let mut options = File::options();
        options.read(true).write(true).custom_flags(flags.bits().cast_signed());
        match options.open(&path) {
            Ok(file) => Ok(Self { file: Arc::new(file) }),
            Err(source) => Err(Error::Device { path, source }),
        }
    }

    fn has_host(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.file, PollFlags::IN | PollFlags::OUT)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now))?;
        Ok(!polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }
}

impl Pipes for Device {
    type Pipe = SerialPort;

    async fn next(&mut self) -> Option<SerialPort> {
        let mut looks = 0;
        loop {
            match self.has_host() {
                Ok(true) => match crate::sys::watch(Arc::clone(&self.file)) {
                    Ok(file) => return Some(SerialPort { file }),
                    Err(error) => tracing::warn!(%error, "the serial channel's device cannot be watched"),
                },
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the serial channel's device cannot be polled"),
            }
            tokio::time::sleep(if looks < SOON { LOOK.0 } else { LOOK.1 }).await;
            looks = looks.saturating_add(1);
        }
    }
}

/// The port as long as one host is connected. Made anew for each, since an event loop that has seen it hang up believes
/// so for ever.
#[derive(Debug)]
pub(super) struct SerialPort {
    file: AsyncFd<Arc<File>>,
}

impl AsyncRead for SerialPort {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.file.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            match guard.try_io(|file| (&**file.get_ref()).read(room)) {
                Ok(Ok(read)) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for SerialPort {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.file.poll_write_ready(cx))?;
            match guard.try_io(|file| (&**file.get_ref()).write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 8.1.
    #[test]
    fn the_channel_is_found_by_its_name_among_other_ports() {
        let class = tempfile::tempdir().unwrap();
        assert!(matches!(find(&class.path().join("absent")), Err(Error::NoSerialPort { .. })));
        for (port, name) in [("vport1p1", "org.other.0\n"), ("vport1p2", "dhow.channel.0\n")] {
            assert!(matches!(find(class.path()), Err(Error::NoSerialPort { .. })));
            std::fs::create_dir(class.path().join(port)).unwrap();
            let mut file = File::create(class.path().join(port).join("name")).unwrap();
            file.write_all(name.as_bytes()).unwrap();
        }
        assert_eq!(find(class.path()).unwrap(), Path::new("/dev/vport1p2"));
    }
}
