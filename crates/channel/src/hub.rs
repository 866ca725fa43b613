//! One process's way to the guest, shared with others of the same user over a Unix socket.
//!
//! ```text
//!  Dialer::hub ── request ──▶ serve ── dial ──▶ guest
//!              ◀── answer ───       ◀─ answer ─
//!              ◀═══════════ bytes, both ways, with half-close ═══════════▶
//! ```

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dhow_model::Port;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::header::{Answer, Request};
use crate::{Dialer, Error, MAX_STREAMS, Result, Stream};

/// Bytes copied at a time, each way.
const BUFFER: usize = 128 * 1024;

/// How long a connection may take to say what it wants.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long a dial may take. The dialler's own limit is usually shorter: when it hangs up, the dial is cancelled.
const DIAL_LIMIT: Duration = Duration::from_secs(300);

/// Pause before accepting again when the process has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Passes every connection of `listener` on to the port of the guest that it asks for, until `cancel`. Then all of them
/// are closed, and it returns when nothing of them is left. The caller has given the socket mode 0600; a connection of
/// another user is closed all the same (spec 16.5). At most [`MAX_STREAMS`] are open at once.
///
/// # Errors
/// When the listener itself is broken.
pub async fn serve(listener: UnixListener, dialer: Dialer, cancel: CancellationToken) -> Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_STREAMS));
    let mut connections = JoinSet::new();
    let outcome = loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => break Ok(()),
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, _)) => {
                let slot = Arc::clone(&slots).try_acquire_owned().ok();
                let dialer = dialer.clone();
                connections.spawn(async move {
                    let full = slot.is_none();
                    let served = pass_on(client, &dialer, full).await;
                    drop(slot);
                    served
                });
            }
            Err(error) if passing(&error) => sleep(ACCEPT_AGAIN).await,
            Err(source) => {
                break Err(Error::Io { doing: "the channel hub cannot accept connections", source });
            }
        }
    };
    connections.shutdown().await;
    outcome
}

/// The client's side of [`serve`]. The caller sets the time limit; giving up the future hangs up.
pub(crate) async fn dial(socket: &Path, port: Port) -> Result<Stream> {
    let mut stream =
        UnixStream::connect(socket).await.map_err(|source| Error::Hub { path: socket.to_owned(), source })?;
    match (Request { port, token: None }).ask(&mut stream).await {
        Err(Error::Io { source, .. }) => Err(Error::Hub { path: socket.to_owned(), source }),
        Err(error) => Err(error),
        Ok(()) => Ok(Stream::Unix(stream)),
    }
}

/// Waits until the process at the other end has closed its socket, or shut down both halves of it. A half-closed peer
/// still waits for an answer and does not count; reading alone cannot tell the two apart.
///
/// # Errors
/// When the socket cannot be watched.
pub async fn hung_up(socket: &UnixStream) -> io::Result<()> {
    until_hung_up(&watch(socket)?).await
}

/// A descriptor of its own for watching `socket`: clearing readiness on the shared one would stop its writers.
fn watch(socket: &UnixStream) -> io::Result<UnixStream> {
    UnixStream::from_std(socket.as_fd().try_clone_to_owned()?.into())
}

async fn until_hung_up(watch: &UnixStream) -> io::Result<()> {
    while !watch.ready(Interest::WRITABLE).await?.is_write_closed() {
        // Room to write is no news; wait for the next change.
        drop(watch.try_io::<()>(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into())));
    }
    Ok(())
}

fn report(ended: std::result::Result<Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a stream through the channel hub failed"),
        Err(error) => tracing::warn!(%error, "a task of the channel hub failed"),
    }
}

/// An error of `accept` that concerns one connection, or goes by.
fn passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::PERM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

async fn pass_on(mut client: UnixStream, dialer: &Dialer, full: bool) -> Result<()> {
    let peer = client.peer_cred().map_err(refused)?.uid();
    if peer != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = peer, "another user's connection to the channel hub was closed");
        return Ok(());
    }
    let request = match timeout(REQUEST_LIMIT, Request::read(&mut client)).await {
        Ok(Ok(Ok(request))) => request,
        Ok(Ok(Err(bad))) => {
            if let Some(answer) = bad.answer() {
                answer.write(&mut client).await?;
            }
            return Err(Error::Protocol(bad.to_string()));
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(Error::Protocol("a connection to the channel hub asked for nothing".into())),
    };
    if full {
        return Answer::TooManyStreams.write(&mut client).await;
    }
    let dialled = tokio::select! {
        dialled = dialer.dial(request.port, DIAL_LIMIT) => dialled,
        gone = hung_up(&client) => return gone.map_err(refused),
    };
    match dialled {
        Ok(guest) => {
            Answer::Accepted.write(&mut client).await?;
            copy_both(client, guest).await
        }
        Err(error) => {
            Answer::from_error(&error).write(&mut client).await?;
            Err(error)
        }
    }
}

/// Copies both ways until both halves have ended, or one fails, or the client has hung up and all that it sent is
/// passed on.
async fn copy_both(mut client: UnixStream, guest: Stream) -> Result<()> {
    let watch = watch(&client).map_err(refused)?;
    let (from_client, to_client) = client.split();
    let (from_guest, to_guest) = tokio::io::split(guest);
    let sent = CancellationToken::new();
    let up = async {
        copy(from_client, to_guest).await?;
        sent.cancel();
        Ok(())
    };
    let down = copy(from_guest, to_client);
    let copied = tokio::select! {
        copied = async { tokio::try_join!(up, down) } => copied.map(|_| ()),
        gone = async { sent.cancelled().await; until_hung_up(&watch).await } => gone,
    };
    copied.map_err(|source| Error::Io { doing: "a stream through the channel hub broke off", source })
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

fn refused(source: io::Error) -> Error {
    Error::Io { doing: "cannot take a connection to the channel hub", source }
}
