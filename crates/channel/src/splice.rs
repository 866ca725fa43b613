//! Joining a stream of the channel to a Unix socket, with half-close and without leaving anything behind.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use crate::Stream;

/// Bytes copied at a time, each way.
const BUFFER: usize = 128 * 1024;

/// Copies both ways until both halves have ended or one fails. A half that ends is closed on the other side, and the
/// other half goes on; but a side that is gone altogether, and not just done with sending, ends both as soon as what it
/// had sent is passed on, even if nothing ever flows towards it again.
///
/// # Errors
/// When either side is reset or fails.
pub async fn splice(mut unix: UnixStream, stream: Stream) -> io::Result<()> {
    let unix_watch = Watch::of(unix.as_fd())?;
    let stream = Shared::new(stream)?;
    let (from_unix, to_unix) = unix.split();
    let (sent, received) = (CancellationToken::new(), CancellationToken::new());
    let up = async {
        up(from_unix, &stream).await?;
        sent.cancel();
        Ok(())
    };
    let down = async {
        down(&stream, to_unix).await?;
        received.cancel();
        Ok(())
    };
    tokio::select! {
        copied = async { tokio::try_join!(up, down) } => copied.map(|_| ()),
        gone = async { sent.cancelled().await; unix_watch.hung_up().await } => gone,
        gone = async { received.cancelled().await; stream.hung_up().await } => gone,
    }
}

/// Waits until the process at the other end has closed its socket, or shut down both halves of it. A half-closed peer
/// still waits for an answer and does not count; reading alone cannot tell the two apart.
///
/// # Errors
/// When the socket cannot be watched.
pub async fn hung_up(socket: &UnixStream) -> io::Result<()> {
    Watch::of(socket.as_fd())?.hung_up().await
}

async fn up(mut from: ReadHalf<'_>, to: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn down(from: &Shared, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// The stream, used by both directions in one task: nobody ever waits for the lock.
struct Shared {
    stream: Mutex<Stream>,
    watch: Option<Watch>,
}

impl Shared {
    fn new(stream: Stream) -> io::Result<Self> {
        let watch = match &stream {
            Stream::Mux(_) => None,
            Stream::Unix(unix) => Some(Watch::of(unix.as_fd())?),
            #[cfg(target_os = "linux")]
            Stream::Vsock(vsock) => Some(Watch::of(vsock.as_fd())?),
        };
        Ok(Self { stream: Mutex::new(stream), watch })
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut room = ReadBuf::new(buffer);
        poll_fn(|cx| Pin::new(&mut *self.lock()).poll_read(cx, &mut room)).await?;
        Ok(room.filled().len())
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| Pin::new(&mut *self.lock()).poll_write(cx, bytes)).await?;
            bytes = &bytes[written..];
        }
        poll_fn(|cx| Pin::new(&mut *self.lock()).poll_flush(cx)).await
    }

    async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.lock()).poll_shutdown(cx)).await
    }

    /// Waits until the other end has let go of the stream, after it has ended its half.
    async fn hung_up(&self) -> io::Result<()> {
        match &self.watch {
            Some(watch) => watch.hung_up().await,
            None => {
                poll_fn(|cx| match &mut *self.lock() {
                    Stream::Mux(stream) => stream.poll_dropped(cx),
                    _ => std::task::Poll::Pending,
                })
                .await;
                Ok(())
            }
        }
    }
}

/// Watches a socket through a descriptor of its own: clearing readiness on the shared one would stop its writers.
struct Watch(AsyncFd<Arc<File>>);

impl Watch {
    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(socket.try_clone_to_owned()?);
        Ok(Self(crate::sys::watch(Arc::new(file))?))
    }

    /// Of use while this side's half is still open.
    async fn hung_up(&self) -> io::Result<()> {
        loop {
            let mut guard = self.0.writable().await?;
            if guard.ready().is_write_closed() || refuses(self.0.get_ref().as_fd()) {
                return Ok(());
            }
            // Room to write is no news; wait for the next change.
            guard.clear_ready();
        }
    }
}

/// Whether a socket takes no more bytes, found out without sending one. A vsock whose peer has closed it says so only
/// here (`vsock_connectible_sendmsg`); a Unix socket says it when it is polled.
fn refuses(socket: BorrowedFd<'_>) -> bool {
    use rustix::io::Errno;
    use rustix::net::{SendFlags, send};
    !matches!(send(socket, &[], SendFlags::empty()), Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS))
}
