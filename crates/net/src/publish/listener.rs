//! A port that is published: a task that accepts, or a socket that the gateway reads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dhow_model::port::{Binding, Protocol};
use socket2::Socket;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::short_of;
use super::forward::{Datagrams, Forward};

/// After the kernel had no descriptor or memory for a client. Who waits in its queue is accepted then.
const SHORT_OF: Duration = Duration::from_millis(50);

/// A published port.
pub(super) enum Listener {
    Accepting { cancel: CancellationToken, task: JoinHandle<()>, accepted: Arc<AtomicU64> },
    Reading(Box<dyn Datagrams>),
}

impl Listener {
    /// Serves `socket`, which was taken for `binding`. On a runtime.
    pub(super) fn start(socket: Socket, binding: &Binding, forward: &Arc<dyn Forward>) -> io::Result<Self> {
        if binding.protocol == Protocol::Udp {
            return Ok(Self::Reading(forward.udp(socket.into(), binding.container)));
        }
        let listener = TcpListener::from_std(socket.into())?;
        let (cancel, accepted) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let accepting =
            accept(listener, *binding, Arc::clone(forward), Arc::clone(&accepted), cancel.clone());
        Ok(Self::Accepting { cancel, task: tokio::spawn(accepting), accepted })
    }

    /// Clients accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        match self {
            Self::Accepting { accepted, .. } => accepted.load(Ordering::Relaxed),
            Self::Reading(_) => 0,
        }
    }

    /// Ends it. When this is done the address is free.
    pub(super) async fn close(self) {
        match self {
            Self::Accepting { cancel, task, .. } => {
                cancel.cancel();
                // Also after a panic the socket is closed.
                task.await.unwrap_or_else(|error| tracing::error!(%error, "a published port's task broke"));
            }
            Self::Reading(datagrams) => datagrams.close().await,
        }
    }
}

async fn accept(
    listener: TcpListener,
    binding: Binding,
    forward: Arc<dyn Forward>,
    accepted: Arc<AtomicU64>,
    cancel: CancellationToken,
) {
    let serve = async {
        let mut short = false;
        loop {
            let client = listener.accept().await.and_then(|(client, from)| Ok((client.into_std()?, from)));
            match client {
                Ok((client, from)) => {
                    short = false;
                    accepted.fetch_add(1, Ordering::Relaxed);
                    // While the gateway is full the kernel keeps the next clients waiting.
                    forward.tcp(client, plain(from), binding.container).await;
                }
                Err(error) if short_of(&error) => {
                    if !std::mem::replace(&mut short, true) {
                        tracing::warn!(%binding, %error, "clients of a published port have to wait");
                    }
                    tokio::time::sleep(SHORT_OF).await;
                }
                // A client that gave up while it waited.
                Err(error) => tracing::debug!(%binding, %error, "a client of a published port was lost"),
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = cancel.cancelled() => {}
    }
}

/// An address without what the kernel adds to it for its own use.
fn plain(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip(), from.port())
}
