//! Takes the host's streams from the channel and gives each to the service of its port.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dhow_channel::guest::{self, Incoming};
use dhow_channel::{Stream, Token};
use dhow_model::{BootConfig, ChannelKind, Port};
use dhow_proto::MESSAGE_LIMIT;
use dhow_proto::agent::agent_server::AgentServer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::guest::Guest;
use crate::rpc::Rpc;
use crate::{Error, Result, console, docker};

/// Docker streams at once; what comes beyond waits its turn.
const DOCKER_STREAMS: usize = 4096;

/// Opens the channel that the configuration names. To be called on a runtime.
pub fn open(config: &BootConfig) -> Result<(Incoming, String)> {
    let refused = |error: dhow_channel::Error| Error::Channel(error.to_string());
    match config.channel {
        ChannelKind::Serial => {
            let device = guest::serial_device().map_err(refused)?;
            let detail = format!("virtio-serial, {}", device.display());
            Ok((Incoming::serial(device).map_err(refused)?, detail))
        }
        ChannelKind::Vsock => {
            let token =
                config.token.as_deref().ok_or_else(|| Error::Channel("vsock without a token".to_owned()))?;
            let token = Token::from_hex(token).map_err(|error| Error::Channel(error.to_string()))?;
            Ok((Incoming::vsock(&Port::ALL, token).map_err(refused)?, "vsock".to_owned()))
        }
    }
}

/// Serves until the channel is gone for good.
pub async fn serve(guest: Arc<Guest>, mut incoming: Incoming) {
    let steps = Arc::clone(&guest.steps);
    let (agents, accepted) = mpsc::channel(16);
    let service = AgentServer::new(Rpc(guest))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(accepted));
    let server = tokio::spawn(server);
    let places = Arc::new(Semaphore::new(DOCKER_STREAMS));
    while let Some((port, stream)) = incoming.next().await {
        match port {
            Port::AGENT => {
                if agents.send(Ok::<_, io::Error>(Accepted(stream))).await.is_err() {
                    break;
                }
            }
            Port::DOCKER => {
                let (places, steps) = (Arc::clone(&places), Arc::clone(&steps));
                tokio::spawn(async move {
                    let Ok(_place) = places.acquire().await else { return };
                    // After a failed boot there is nothing to wait for: the stream ends, and the host asks why.
                    tokio::select! {
                        carried = docker::carry(stream) => if let Err(error) = carried { report(&error) },
                        () = steps.failed() => {}
                    }
                });
            }
            Port::ECHO => {
                tokio::spawn(echo(stream));
            }
            Port::DISCARD => {
                tokio::spawn(discard(stream));
            }
            other => console::line(format!("dhow: the host asked for port {other}, which nobody serves")),
        }
    }
    server.abort();
    console::line("dhow: the channel to the host is gone");
}

/// A client that goes away in the middle is everyday life; anything else is worth a line.
fn report(error: &io::Error) {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    if !matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof) {
        console::line(format!("dhow: a Docker stream ended: {error}"));
    }
}

async fn echo(stream: Stream) {
    let (mut from, mut to) = tokio::io::split(stream);
    // A peer that goes away ends the copy, and that is all there is to do about it.
    if tokio::io::copy(&mut from, &mut to).await.is_ok() {
        to.shutdown().await.unwrap_or_default();
    }
}

async fn discard(mut stream: Stream) {
    if tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.is_ok() {
        stream.shutdown().await.unwrap_or_default();
    }
}

/// A stream as tonic wants it.
struct Accepted(Stream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
