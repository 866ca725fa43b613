//! One process's way to the guest, shared with others of the same user over a Unix socket.
//!
//! ```text
//!  Dialer::hub ── request ──▶ serve ── dial ──▶ guest
//!              ◀── answer ───       ◀─ answer ─
//!              ◀═══════════ bytes, both ways, with half-close ═══════════▶
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dhow_model::Port;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::header::{Answer, Request};
use crate::{Dialer, Error, MAX_STREAMS, Result, Stream, hung_up, splice};

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
            // Those beyond the limit are told so, unless they are too many for that too.
            Ok(_) if connections.len() >= 2 * MAX_STREAMS => {}
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
            splice(client, guest)
                .await
                .map_err(|source| Error::Io { doing: "a stream through the channel hub broke off", source })
        }
        Err(error) => {
            Answer::from_error(&error).write(&mut client).await?;
            Err(error)
        }
    }
}

fn refused(source: io::Error) -> Error {
    Error::Io { doing: "cannot take a connection to the channel hub", source }
}
