//! One host socket of a guest's UDP flow: not connected, so that answers may come from other peers than the one that was asked
//! (STUN, RFC 4787 REQ-1), and yet told of ICMP errors, as Linux does for sockets that ask for it (`IP_RECVERR`).

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::packet::icmp::Problem;
use crate::packet::ip::HOPS;

/// What became of a datagram that was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Whereto it was sent.
    pub(crate) to: SocketAddr,
    /// What happened.
    pub(crate) problem: Problem,
    /// Which station said so.
    pub(crate) offender: Option<IpAddr>,
    /// How it began, as far as that came back.
    pub(crate) begin: Vec<u8>,
}

/// A socket of the host.
#[derive(Debug)]
pub(super) struct HostSocket {
    pub(super) inner: UdpSocket,
    six: bool,
    whole: Cell<bool>,
    hops: Cell<u8>,
    wide: Cell<bool>,
}

/// How much the host may keep of what arrives, bytes, for a socket on which much arrives; cut to what the system allows.
pub(super) const WIDE: usize = 1 << 20;

impl HostSocket {
    /// Opens one on a free port of a local address; the unspecified one reaches every address of its family.
    pub(super) fn open(local: IpAddr) -> io::Result<HostSocket> {
        let six = local.is_ipv6();
        let domain = if six { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if six {
            socket.set_only_v6(true)?;
        }
        #[cfg(target_os = "linux")]
        super::errors::ask(&socket, six)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        let inner = UdpSocket::from_std(socket.into())?;
        Ok(HostSocket { inner, six, whole: Cell::new(false), hops: Cell::new(HOPS), wide: Cell::new(false) })
    }

    /// Sends a datagram: `whole`, or else cut where the path needs it; with so many hops left, where that is so few that
    /// somebody counts them.
    pub(super) fn send(&self, payload: &[u8], to: SocketAddr, whole: bool, hops: u8) -> io::Result<()> {
        let hops = if hops < HOPS / 2 { hops } else { HOPS };
        let socket = SockRef::from(&self.inner);
        if self.hops.replace(hops) != hops {
            if self.six {
                socket.set_unicast_hops_v6(hops.into())?;
            } else {
                socket.set_ttl_v4(hops.into())?;
            }
        }
        #[cfg(target_os = "linux")]
        if self.whole.replace(whole) != whole {
            super::errors::set_whole(&self.inner, self.six, whole)?;
        }
        #[cfg(not(target_os = "linux"))]
        self.whole.set(whole);
        // Straight to the kernel: whether there is room is seen there. An error of a datagram before this one may stand in the
        // way once; the queue tells of it, too.
        let to = to.into();
        match socket.send_to(payload, &to) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => socket.send_to(payload, &to).map(|_| ()),
        }
    }

    /// Says that much arrives here, so that the host keeps more of it. Not from the start: many small buffers are less than
    /// many large ones for a guest that does not read.
    pub(super) fn widen(&self) {
        if !self.wide.replace(true)
            && let Err(error) = SockRef::from(&self.inner).set_recv_buffer_size(WIDE)
        {
            tracing::debug!(%error, "a larger buffer for a udp socket");
        }
    }

    /// Waits for a datagram, or for news of one that was sent.
    pub(super) async fn ready(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        let interest = Interest::READABLE | Interest::ERROR;
        #[cfg(not(target_os = "linux"))]
        let interest = Interest::READABLE;
        self.inner.ready(interest).await.map(|_| ())
    }

    /// What the host has to say about datagrams that were sent.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        #[cfg(target_os = "linux")]
        return super::errors::take(&self.inner);
        #[cfg(not(target_os = "linux"))]
        Vec::new()
    }

    /// The MTU of the path that a datagram did not fit which was just refused, and what else there is to say.
    pub(super) fn fit(&self) -> (Option<u32>, Vec<Trouble>) {
        #[cfg(target_os = "linux")]
        return super::errors::take_fit(&self.inner);
        // Others do not tell it. Every path carries this much (RFC 8200, 5).
        #[cfg(not(target_os = "linux"))]
        (Some(1280), Vec::new())
    }
}

/// A socket address of nix as one of the standard library.
pub(super) fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|v4| SocketAddr::new(v4.ip().into(), v4.port())),
        AddressFamily::Inet6 => address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

/// What an error of sending means to the sender, where it is about the datagram and not about the host.
pub(in crate::gateway) fn problem(error: &io::Error) -> Option<Problem> {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable => Some(Problem::Network),
        io::ErrorKind::HostUnreachable => Some(Problem::Host),
        io::ErrorKind::ConnectionRefused => Some(Problem::Port),
        io::ErrorKind::PermissionDenied => Some(Problem::Prohibited),
        _ => None,
    }
}
