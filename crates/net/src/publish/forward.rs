//! Where the publisher hands clients to. The gateway is one; tests have simpler ones.

use std::future::Future;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::pin::Pin;

use crate::gateway::{Handle, UdpForward};

/// Something that is under way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries clients of published ports into the guest.
pub trait Forward: Send + Sync + 'static {
    /// Takes an accepted client, which comes from `from`, to `target`. Waits while it can take no more. The stream does not
    /// block.
    fn tcp(&self, client: TcpStream, from: SocketAddr, target: SocketAddr) -> Pending<'_, ()>;

    /// Takes a bound socket whose datagrams go to `target`, until it is closed. The socket does not block.
    fn udp(&self, socket: UdpSocket, target: SocketAddr) -> Box<dyn Datagrams>;
}

/// A socket that was handed over.
pub trait Datagrams: Send + Sync {
    /// Closes it; it is closed when this is done, so that the next one can bind its address.
    fn close(self: Box<Self>) -> Pending<'static, ()>;
}

impl Forward for Handle {
    fn tcp(&self, client: TcpStream, from: SocketAddr, target: SocketAddr) -> Pending<'_, ()> {
        Box::pin(Handle::tcp(self, client, from, target))
    }

    fn udp(&self, socket: UdpSocket, target: SocketAddr) -> Box<dyn Datagrams> {
        Box::new(Handle::udp(self, socket, target))
    }
}

impl Datagrams for UdpForward {
    fn close(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(UdpForward::close(*self))
    }
}
