//! The host's bound socket of a published UDP port. Bound to an unspecified address it has many addresses, and a client must be
//! answered from the one that it asked (`IP_PKTINFO`, `IPV6_PKTINFO`): it, or the NAT before it, takes an answer from no other.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::socket::{WIDE, address};

/// The address of the host that a datagram came to, where the socket has more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Local {
    address: IpAddr,
    /// The interface, where an address alone does not tell it (link-local ones).
    interface: u32,
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) inner: UdpSocket,
    /// The port that clients ask.
    pub(super) port: u16,
    /// Whether the host's address has to be told with each datagram.
    many: bool,
}

impl Bound {
    /// Takes a bound socket over.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Bound> {
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_recv_buffer_size(WIDE)?;
        let local = socket.local_addr()?;
        let many = local.ip().is_unspecified();
        if many && local.is_ipv4() {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
        } else if many {
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Bound { inner: UdpSocket::from_std(socket)?, port: local.port(), many })
    }

    /// A datagram: its length, who sent it, and to which address.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Local>)> {
        if !self.many {
            return self.inner.try_recv_from(buffer).map(|(length, client)| (length, client, None));
        }
        self.inner.try_io(Interest::READABLE, || Ok(self.receive_told(buffer)?))
    }

    fn receive_told(&self, buffer: &mut [u8]) -> nix::Result<(usize, SocketAddr, Option<Local>)> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.inner.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let client = message.address.as_ref().and_then(address).ok_or(Errno::EAFNOSUPPORT)?;
        let mut local = None;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    // `ipi_spec_dst` is the address of ours, also where the datagram went to everyone; it is missing
                    // for one that came before it was asked for.
                    let ours = [info.ipi_spec_dst, info.ipi_addr].map(|address| u32::from_be(address.s_addr));
                    let ours = ours.into_iter().find(|address| *address != 0);
                    local =
                        ours.map(|address| Local { address: Ipv4Addr::from(address).into(), interface: 0 });
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    // Its type differs between systems.
                    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
                    let interface =
                        if address.is_unicast_link_local() { info.ipi6_ifindex as u32 } else { 0 };
                    // Groups are not answered from.
                    local = (!address.is_multicast()).then_some(Local { address: address.into(), interface });
                }
                _ => {}
            }
        }
        Ok((message.bytes, client, local))
    }

    /// Sends a datagram to a client, from the address that it asked.
    pub(super) fn send(&self, payload: &[u8], client: SocketAddr, local: Option<Local>) -> io::Result<()> {
        let Some(local) = local else {
            return SockRef::from(&self.inner).send_to(payload, &client.into()).map(|_| ());
        };
        let to = SockaddrStorage::from(client);
        let parts = [IoSlice::new(payload)];
        let send = |control: ControlMessage<'_>| {
            sendmsg(self.inner.as_raw_fd(), &parts, &[control], MsgFlags::empty(), Some(&to))
        };
        match local.address {
            IpAddr::V4(address) => send(ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            })),
            IpAddr::V6(address) => send(ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                #[allow(clippy::useless_conversion)]
                ipi6_ifindex: local.interface.try_into().unwrap_or_default(),
            })),
        }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(to: SocketAddr) -> std::net::UdpSocket {
        let client = std::net::UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.connect(to).unwrap();
        client
    }

    /// 4.1: each client hears from the address that it asked, or its connected socket would not take the answer.
    #[tokio::test]
    async fn a_client_is_answered_from_the_address_that_it_asked() {
        for (any, asked) in [("0.0.0.0:0", ["127.0.0.1", "127.0.0.9"]), ("[::]:0", ["::1", "127.0.0.7"])] {
            let socket = std::net::UdpSocket::bind(any).unwrap();
            let port = socket.local_addr().unwrap().port();
            let bound = Bound::new(socket).unwrap();
            for asked in asked {
                let client = client(SocketAddr::new(asked.parse().unwrap(), port));
                client.send(b"question").unwrap();
                bound.inner.readable().await.unwrap();
                let mut buffer = [0; 100];
                let (length, from, local) = bound.receive(&mut buffer).unwrap();
                assert_eq!(
                    (&buffer[..length], from.port()),
                    (&b"question"[..], client.local_addr().unwrap().port())
                );
                bound.send(b"answer", from, local).unwrap();
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], b"answer", "{any} {asked}");
            }
        }
    }

    /// A client that was quicker than the gateway is the same client afterwards.
    #[tokio::test]
    async fn a_datagram_from_before_the_takeover_has_its_address_too() {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let client = client(SocketAddr::from(([127, 0, 0, 9], socket.local_addr().unwrap().port())));
        client.send(b"early").unwrap();
        let bound = Bound::new(socket).unwrap();
        client.send(b"late").unwrap();
        let mut locals = Vec::new();
        while locals.len() < 2 {
            bound.inner.readable().await.unwrap();
            locals.extend(bound.receive(&mut [0; 100]).map(|(_, _, local)| local));
        }
        assert!(locals[0].is_some() && locals[0] == locals[1], "{locals:?}");
    }
}
