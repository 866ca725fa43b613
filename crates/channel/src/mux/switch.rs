//! The host's serial port as it can be parked: while the machine sleeps its hypervisor is gone, and with it the socket that
//! the port is, and another one takes its place when the machine wakes. The guest sees one stream of bytes.
//!
//! ```text
//!         hold()              park()            replace(next)
//!  Open ─────────▶ Held ──────────────▶ Parked ──────────────▶ Open: writes to next,
//!    ▲  reads,      │ release()  neither   │ release()           reads what the old one still had,
//!    └── does not ◀─┘  reads nor writes ◀──┘                     and then next
//!         write
//! ```
//!
//! Nothing is lost towards the guest, because Parked begins when the hypervisor has read all that was written, and it takes
//! no more than the guest has room for. Nothing is lost or doubled towards the host, because the hypervisor saves how far
//! it got with what the guest wrote; for that to be true nothing is read between the moment the guest is stopped and the
//! hypervisor's end: a hypervisor that can write goes on with it after it has noted how far it got.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::frames::Frames;

/// The host's end of a serial port.
pub trait HostPort: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Bytes that were written and that the hypervisor has not read; a port that cannot tell cannot be parked.
    ///
    /// # Errors
    /// When the system does not say.
    fn unread(&self) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl HostPort for UnixStream {
    fn unread(&self) -> io::Result<usize> {
        crate::sys::unread(self)
    }
}

impl HostPort for tokio::io::DuplexStream {}

/// The port of a session that is over.
struct Nowhere;

impl HostPort for Nowhere {}

impl AsyncRead for Nowhere {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Nowhere {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Held,
    Parked,
}

struct Parts {
    port: Box<dyn HostPort>,
    /// What comes after `port` has ended.
    next: Option<Box<dyn HostPort>>,
    flow: Flow,
    /// Where the session's frames have got to; none before it begins.
    sent: Option<Frames>,
    /// The task that reads and writes.
    driver: Option<Waker>,
}

/// The port, shared by the driver and whoever parks it. The lock is never held while somebody waits.
#[derive(Clone)]
pub(super) struct Switch(Arc<Shared>);

struct Shared {
    parts: Mutex<Parts>,
    /// Whether something waits to be sent that is no mere housekeeping.
    wants: watch::Sender<bool>,
    /// How many ports have followed the first.
    followed: watch::Sender<u64>,
}

impl Switch {
    pub(super) fn new(port: impl HostPort) -> Self {
        let port = Box::new(port);
        let parts = Parts { port, next: None, flow: Flow::Open, sent: None, driver: None };
        let (wants, followed) = (watch::Sender::new(false), watch::Sender::new(0));
        Self(Arc::new(Shared { parts: Mutex::new(parts), wants, followed }))
    }

    /// From now on what is written are frames.
    pub(super) fn begin(&self) {
        self.lock().sent = Some(Frames::default());
    }

    /// Stops writing. `false` when somebody has done so before.
    pub(super) fn hold(&self) -> bool {
        let mut parts = self.lock();
        let open = parts.flow == Flow::Open;
        if open {
            parts.flow = Flow::Held;
            self.0.wants.send_replace(false);
            // It shows what it has to send.
            parts.wake();
        }
        open
    }

    /// Bytes that the hypervisor has still to read.
    pub(super) fn unread(&self) -> io::Result<usize> {
        self.lock().port.unread()
    }

    /// Lets go of the port, so that its other end sees the session's end.
    pub(super) fn close(&self) {
        let mut parts = self.lock();
        parts.port = Box::new(Nowhere);
        parts.next = None;
    }

    /// Stops reading too.
    pub(super) fn park(&self) {
        self.lock().flow = Flow::Parked;
    }

    /// Goes on over the same port.
    pub(super) fn release(&self) {
        let mut parts = self.lock();
        parts.flow = Flow::Open;
        parts.wake();
    }

    /// Goes on over another port, and returns what becomes greater than it is now when the old one has ended.
    pub(super) fn replace(&self, port: impl HostPort) -> watch::Receiver<u64> {
        let followed = self.0.followed.subscribe();
        let mut parts = self.lock();
        parts.next = Some(Box::new(port));
        parts.flow = Flow::Open;
        parts.wake();
        followed
    }

    /// Whether something waits to be sent since the last [`hold`](Self::hold).
    pub(super) fn wants(&self) -> watch::Receiver<bool> {
        self.0.wants.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    fn wake(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    /// Remembers the driver at each of its calls: whoever holds or parks the port wakes it.
    fn note(&mut self, cx: &Context<'_>) {
        if self.driver.as_ref().is_none_or(|driver| !driver.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
    }

    fn writer(&mut self) -> Pin<&mut dyn HostPort> {
        Pin::new(&mut **self.next.as_mut().unwrap_or(&mut self.port))
    }
}

impl AsyncRead for Switch {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut parts = self.lock();
        parts.note(cx);
        if parts.flow == Flow::Parked {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        loop {
            let read = ready!(Pin::new(&mut *parts.port).poll_read(cx, buf));
            let ended = match &read {
                Ok(()) => buf.filled().len() == before && buf.remaining() > 0,
                Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
            };
            match parts.next.take() {
                Some(next) if ended => {
                    parts.port = next;
                    self.0.followed.send_modify(|count| *count += 1);
                }
                next => {
                    parts.next = next;
                    return Poll::Ready(read);
                }
            }
        }
    }
}

impl AsyncWrite for Switch {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut parts = self.lock();
        parts.note(cx);
        if parts.flow != Flow::Open {
            if parts.sent.clone().is_some_and(|mut sent| sent.pass(bytes)) {
                self.0.wants.send_if_modified(|wants| !std::mem::replace(wants, true));
            }
            return Poll::Pending;
        }
        let written = ready!(parts.writer().poll_write(cx, bytes))?;
        if let Some(sent) = &mut parts.sent {
            sent.pass(bytes.get(..written).unwrap_or_default());
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut parts = self.lock();
        if parts.flow == Flow::Open { parts.writer().poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().writer().poll_shutdown(cx)
    }
}
