//! Our own connections to the BuildKits: one for each machine, opened when it is needed.

use bytes::Bytes;
use dhow_model::Role;
use h2::client::SendRequest;
use tokio::sync::{Mutex, watch};
use tokio_util::task::AbortOnDropHandle;

use super::refusal::Refusal;
use super::{Builder, WINDOW, WINDOW_OF_ALL};
use crate::engines::ByteStream;

/// The connections behind one client's.
pub(super) struct Channels<'a, B> {
    builder: &'a B,
    native: Channel,
    foreign: Mutex<Option<Channel>>,
    /// The native one has ended, and with it what the client talks to.
    ended: watch::Receiver<bool>,
}

struct Channel {
    send: SendRequest<Bytes>,
    _driver: AbortOnDropHandle<()>,
}

impl<'a, B: Builder> Channels<'a, B> {
    /// Speaks to the BuildKit of the native machine over `native`, which is upgraded already.
    pub(super) async fn new(builder: &'a B, native: impl ByteStream) -> Result<Self, h2::Error> {
        let (end, ended) = watch::channel(false);
        let native = Channel::over(native, move || {
            end.send_replace(true);
        })
        .await?;
        Ok(Self { builder, native, foreign: Mutex::new(None), ended })
    }

    /// A connection to this machine's BuildKit that takes another call.
    pub(super) async fn of(&self, role: Role) -> Result<SendRequest<Bytes>, Refusal> {
        let send = match role {
            Role::Native => self.native.send.clone(),
            Role::Foreign => {
                let mut foreign = self.foreign.lock().await;
                match &*foreign {
                    Some(channel) => channel.send.clone(),
                    None => {
                        let stream = self.builder.open(role).await?;
                        let channel = Channel::over(stream, || ()).await.map_err(Refusal::unavailable)?;
                        foreign.insert(channel).send.clone()
                    }
                }
            }
        };
        send.ready().await.map_err(Refusal::unavailable)
    }

    /// Waits until the native machine's BuildKit has closed the connection.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error is the same news: whoever would tell is gone.
        let _told = ended.wait_for(|ended| *ended).await;
    }
}

impl Channel {
    async fn over(stream: impl ByteStream, ended: impl FnOnce() + Send + 'static) -> Result<Self, h2::Error> {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW_OF_ALL).enable_push(false);
        let (send, connection) = builder.handshake(stream).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to BuildKit ended");
            }
            ended();
        });
        Ok(Self { send, _driver: AbortOnDropHandle::new(driver) })
    }
}
