//! The ways between host and container that are measured beside each other.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use dhow_testkit::{Error, Result};

/// What a guest listens on, in the container and in the guest itself.
#[derive(Clone, Copy)]
pub enum Service {
    /// `iperf3 -s`, in the container.
    Throughput,
    /// Sends back what it is sent, in the container.
    Echo,
    /// nginx, in the container.
    Web,
    /// `iperf3 -s`, in the guest's own network.
    GuestThroughput,
    /// Sends back what it is sent, in the guest's own network.
    GuestEcho,
    /// sshd, in the guest's own network.
    Shell,
}

impl Service {
    /// What is reached in the container.
    pub const INNER: [Self; 3] = [Self::Throughput, Self::Echo, Self::Web];
    /// What is reached in the guest's own network.
    pub const OUTER: [Self; 3] = [Self::GuestThroughput, Self::GuestEcho, Self::Shell];

    /// The port in the guest.
    pub fn port(self) -> u16 {
        match self {
            Self::Throughput => 5201,
            Self::Echo => 5007,
            Self::Web => 8080,
            Self::GuestThroughput => 5301,
            Self::GuestEcho => 5107,
            Self::Shell => 2222,
        }
    }
}

/// One way, as the host and the container see it.
pub struct Way {
    /// What the figures call it.
    pub name: &'static str,
    /// Ports on the host's loopback, in the order of [`Service`].
    ports: [Option<u16>; 6],
    /// The address that stands for the host's loopback in a container; a forward has none.
    pub outward: Option<Ipv4Addr>,
    /// The process that carries the bytes, beside QEMU's own thread.
    pub carrier: Cell<Option<u32>>,
}

impl Way {
    /// A way with a free port of the host for each of `services`.
    pub fn new(name: &'static str, outward: Option<Ipv4Addr>, services: &[Service]) -> Result<Self> {
        let mut ports = [None; 6];
        // Held together, so that no two are the same.
        let mut held = Vec::new();
        for service in services {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listener = TcpListener::bind(at).map_err(Error::io("listen on", at.to_string()))?;
            let address = listener.local_addr().map_err(Error::io("ask for", at.to_string()))?;
            ports[*service as usize] = Some(address.port());
            held.push(listener);
        }
        Ok(Self { name, ports, outward, carrier: Cell::new(None) })
    }

    /// Where a service is reached from the host, if this way leads there.
    pub fn to(&self, service: Service) -> Option<SocketAddr> {
        self.ports[service as usize].map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// All forwards: the host's port and the guest's.
    pub fn forwards(&self) -> impl Iterator<Item = (u16, u16)> {
        Service::INNER
            .into_iter()
            .chain(Service::OUTER)
            .filter_map(|service| self.ports[service as usize].map(|port| (port, service.port())))
    }
}
