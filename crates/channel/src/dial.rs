//! How the host opens streams to one guest, the same over every transport.

use std::path::PathBuf;
use std::time::Duration;

use dhow_model::{GuestCid, Port};

use crate::gate::Passage;
use crate::mux::Line;
use crate::{Error, Result, Stream, Token};

/// Opens streams to the ports of one guest. Cloning it costs nothing and opens nothing.
#[derive(Debug, Clone)]
pub struct Dialer(Way);

#[derive(Debug, Clone)]
enum Way {
    Vsock { cid: GuestCid, token: Token },
    Hub(PathBuf),
    Mux(Line),
    Gate(Passage),
}

impl Dialer {
    /// Over `AF_VSOCK` (spec 8.1). Every stream begins with `token`, since any user of the host could dial a guest.
    #[must_use]
    pub fn vsock(cid: GuestCid, token: Token) -> Self {
        Self(Way::Vsock { cid, token })
    }

    /// Through another process's [`hub`](crate::hub), at its socket.
    #[must_use]
    pub fn hub(socket: impl Into<PathBuf>) -> Self {
        Self(Way::Hub(socket.into()))
    }

    /// Over this process's own multiplexer.
    pub(crate) fn mux(line: Line) -> Self {
        Self(Way::Mux(line))
    }

    /// Through a gate that may be shut.
    pub(crate) fn gate(passage: Passage) -> Self {
        Self(Way::Gate(passage))
    }

    /// Opens a stream to `port` and waits for the guest's answer, one round trip. When `limit` passes, or the caller
    /// drops the future, nothing of it is left at either end (spec 8.3).
    ///
    /// # Errors
    /// When the limit passes, nobody serves the port, the guest refuses, or the guest cannot be reached.
    pub async fn dial(&self, port: Port, limit: Duration) -> Result<Stream> {
        match &self.0 {
            Way::Gate(passage) => {
                let dialled = tokio::time::timeout(limit, passage.dial(port, limit)).await;
                dialled.unwrap_or(Err(Error::DialTimedOut { port, limit }))
            }
            _ => self.straight(port, limit).await,
        }
    }

    /// The same without a gate on the way.
    pub(crate) async fn straight(&self, port: Port, limit: Duration) -> Result<Stream> {
        let dialling = async {
            match &self.0 {
                Way::Vsock { cid, token } => crate::vsock::dial(*cid, token, port).await,
                Way::Hub(socket) => crate::hub::dial(socket, port).await,
                Way::Mux(line) => line.dial(port).await,
                Way::Gate(_) => Err(Error::Protocol("a gate leads to another gate".to_owned())),
            }
        };
        tokio::time::timeout(limit, dialling).await.unwrap_or(Err(Error::DialTimedOut { port, limit }))
    }
}
