//! How the rest of the process talks to a gateway: messages to its thread.

use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::counters::{Counters, Kind, Metrics};
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
    /// Each is answered, by the drop of its sender, when it is done.
    Freeze(oneshot::Sender<()>),
    Thaw(oneshot::Sender<()>),
    EndFlows(oneshot::Sender<()>),
    /// Whatever might be wrong in the gateway itself.
    #[cfg(test)]
    Panic,
}

/// A gateway, from any thread. A clone is the same gateway; what is asked of one that was stopped does nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) counters: Arc<Counters>,
    pub(super) flows: Arc<Semaphore>,
    /// Whether somebody wants a guest that sleeps.
    pub(super) wanted: Arc<watch::Sender<bool>>,
}

impl Handle {
    /// Flows, bytes, drops: now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.counters.metrics()
    }

    /// Completes when the gateway is no more, because it was stopped or failed: nothing reaches the guest then.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let commands = self.commands.clone();
        async move { commands.closed().await }
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

    /// The guest goes to sleep. From now on, until [`Self::thaw`]: what the guest has open stays open, also when the hypervisor
    /// goes away; nothing is sent to the guest; its time stands still; what its clients send stays where it is, in the host's
    /// kernel. What the guest sent before still goes out. Done when this returns; a gateway that sleeps already goes on so.
    pub async fn freeze(&self) {
        self.ask(Command::Freeze).await;
    }

    /// The guest is awake, and time goes on for it. After the next hypervisor has shaken hands, or, where there is none since it
    /// never went away, at any time: the end of a connection that began before is the end of the guest from now on.
    pub async fn thaw(&self) {
        self.ask(Command::Thaw).await;
    }

    /// Ends every connection and conversation, with a reset towards the host: for a guest that sleeps and will not wake, since
    /// the machine boots anew. Published ports stay; what waited for the guest does not reach the next one.
    pub async fn end_flows(&self) {
        self.ask(Command::EndFlows).await;
    }

    /// Completes when there is something for a guest that sleeps: a client of a published port, bytes, an end or a reset on a
    /// connection, a datagram for a published port. All of it waits, and is served after [`Self::thaw`]. While the guest is
    /// awake it waits for the next sleep.
    pub fn wanted(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut wanted = self.wanted.subscribe();
        async move {
            let ended = wanted.wait_for(|wanted| *wanted).await.is_err();
            if ended {
                // Nobody ever wants a gateway that is gone.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many clients of published ports are connected now, and how many have sent datagrams in the last minutes.
    #[must_use]
    pub fn port_connections(&self) -> u64 {
        self.counters.flows(Kind::TcpIn) + self.counters.flows(Kind::UdpIn)
    }

    async fn ask(&self, question: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, doing) = oneshot::channel();
        self.send(question(done));
        // An error is the good case: the other end was dropped.
        if doing.await.is_ok() {
            tracing::debug!("nothing is ever sent here");
        }
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;
    use crate::gateway::{Gateway, Options};

    const SOON: Duration = Duration::from_secs(10);

    fn start(directory: &std::path::Path) -> Gateway {
        Gateway::start(UnixListener::bind(directory.join("net")).unwrap(), Options::for_test()).unwrap()
    }

    /// Spec 6.3: ready is what is true now, and a machine without its gateway is not.
    #[tokio::test]
    async fn a_gateway_that_fails_or_is_stopped_says_that_it_is_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let gateway = start(directory.path());
        let handle = gateway.handle();
        let early = tokio::time::timeout(Duration::from_millis(50), handle.ended()).await;
        assert!(early.is_err(), "it lives");
        handle.send(Command::Panic);
        tokio::time::timeout(SOON, handle.ended()).await.unwrap();
        gateway.stop().await;

        let directory = tempfile::tempdir().unwrap();
        let gateway = start(directory.path());
        let handle = gateway.handle();
        gateway.stop().await;
        tokio::time::timeout(SOON, handle.ended()).await.unwrap();
    }
}
