//! How the rest of the process talks to a gateway: messages to its thread.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::counters::{Counters, Metrics};
use crate::route::{Carrier, Device};

/// A message to the gateway's thread.
#[derive(Debug)]
pub(super) enum Command {
    Tcp {
        client: TcpStream,
        from: SocketAddr,
        target: SocketAddr,
        permit: OwnedSemaphorePermit,
    },
    /// `closed` is dropped once the socket is closed.
    Udp {
        socket: UdpSocket,
        target: SocketAddr,
        end: CancellationToken,
        closed: oneshot::Sender<()>,
    },
    GuestNetworks(Vec<(IpAddr, u8)>),
    Device(Option<Arc<Device>>),
}

/// A gateway, from any thread. A clone is the same gateway; what is asked of one that was stopped does nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) counters: Arc<Counters>,
    pub(super) flows: Arc<Semaphore>,
}

impl Handle {
    /// Flows, bytes, drops: now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.counters.metrics()
    }

    /// Connects an accepted client to a service in the guest, under the client's own address where that is possible (4.5).
    /// Waits while the machine has as many connections as it may, and returns once the gateway has taken the client over.
    /// A service that refuses, or does not answer, is told to the client by a reset.
    pub async fn tcp(&self, client: TcpStream, from: SocketAddr, target: SocketAddr) {
        let Ok(permit) = self.flows.clone().acquire_owned().await else { return };
        self.send(Command::Tcp { client, from, target, permit });
    }

    /// Carries the datagrams of a bound socket to a service in the guest, each client's under its own address where that is
    /// possible (4.5), and the answers back. Ends, and closes the socket, when the answer is dropped.
    #[must_use]
    pub fn udp(&self, socket: UdpSocket, target: SocketAddr) -> UdpForward {
        let end = CancellationToken::new();
        let (closed, closing) = oneshot::channel();
        self.send(Command::Udp { socket, target, end: end.clone(), closed });
        UdpForward { end: end.drop_guard(), closing }
    }

    /// Says which networks Docker has in the guest now, each by its address and the length of its prefix. A client whose
    /// address lies in one of them is not shown to a container under that address, since the answer would not come back.
    pub fn guest_networks(&self, networks: Vec<(IpAddr, u8)>) {
        self.send(Command::GuestNetworks(networks));
    }

    fn send(&self, command: Command) {
        // After a stop nobody listens, and what the message owns is closed with it.
        if self.commands.send(command).is_err() {
            tracing::debug!("a message to a gateway that was stopped");
        }
    }
}

/// The gateway carries the packets between containers' own addresses and the host.
impl Carrier for Handle {
    fn carry(&self, device: Option<Arc<Device>>) {
        self.send(Command::Device(device));
    }
}

/// A published UDP port while it is carried. Dropped, it ends.
#[derive(Debug)]
pub struct UdpForward {
    end: DropGuard,
    closing: oneshot::Receiver<()>,
}

impl UdpForward {
    /// Ends it; the host's socket is closed when this is done, so that another can bind its address.
    pub async fn close(self) {
        drop(self.end);
        // An error is the good case: the other end was dropped.
        if self.closing.await.is_ok() {
            tracing::debug!("nothing is ever sent here");
        }
    }
}
