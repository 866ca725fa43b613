//! The guest's `AF_VSOCK` listeners.

use std::sync::Arc;
use std::time::Duration;

use dhow_model::Port;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use super::accept::greet;
use super::{Incoming, WAITING};
use crate::{Error, Result, Stream, Token};

/// Streams of one port whose request is being read. Any user of the host can open one, so there is a bound.
const GREETINGS: usize = 256;

/// Pause after an `accept` that failed.
const AGAIN: Duration = Duration::from_millis(100);

pub(super) fn listen(ports: &[Port], token: Token) -> Result<Incoming> {
    let (found, streams) = mpsc::channel(WAITING);
    let mut listeners = Vec::new();
    for port in ports {
        let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port.0))
            .map_err(|source| Error::Listen { port: *port, source })?;
        listeners.push((*port, listener));
    }
    let token = Arc::new(token);
    let task = tokio::spawn(async move {
        let mut tasks = JoinSet::new();
        for (port, listener) in listeners {
            tasks.spawn(accept(listener, port, Arc::clone(&token), found.clone()));
        }
        drop(found);
        while tasks.join_next().await.is_some() {}
    });
    Ok(Incoming { streams, task: task.abort_handle() })
}

async fn accept(listener: VsockListener, port: Port, token: Arc<Token>, found: mpsc::Sender<(Port, Stream)>) {
    let mut greetings = JoinSet::new();
    while !found.is_closed() {
        if greetings.len() >= GREETINGS {
            greetings.join_next().await;
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = greetings.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                greetings.spawn(welcome(stream, port, Arc::clone(&token), found.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, %port, "cannot accept on vsock");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn welcome(
    mut stream: VsockStream,
    port: Port,
    token: Arc<Token>,
    found: mpsc::Sender<(Port, Stream)>,
) {
    match greet(&mut stream, &[port], Some(&token), &found).await {
        Ok((port, place)) => place.send((port, Stream::Vsock(stream))),
        Err(error) => tracing::debug!(%error, "a vsock stream was not accepted"),
    }
}
