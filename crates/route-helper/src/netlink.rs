//! The few requests about one device and its routes, over `NETLINK_ROUTE` (`linux/rtnetlink.h`), and the host's routes as it
//! lists them. Building and reading messages is apart from sending them.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, sockopt,
};

use crate::Network;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
const RTMSG: usize = 12;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTM_F_CLONED: u32 = 0x200;
const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
/// Marks our routes (`ip route` shows `proto 100`); no routing daemon has this number.
pub const PROTOCOL: u8 = 100;
/// A host's own route to the same network, whenever it comes, is preferred to ours.
const METRIC: u32 = 10_000;

/// A message to the kernel, ready but for its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// Sets a device's largest packet, bytes, and switches it on.
    pub fn up(index: u32, mtu: u32) -> Self {
        Self::link(RTM_NEWLINK, index, IFF_UP).attribute(IFLA_MTU, &mtu.to_ne_bytes()).done()
    }

    /// Deletes a device.
    pub fn delete(index: u32) -> Self {
        Self::link(RTM_DELLINK, index, 0).done()
    }

    /// Gives a device an address, with one peer.
    pub fn address(index: u32, local: IpAddr, peer: IpAddr) -> Self {
        let length = octets(local).len() * 8;
        // struct ifaddrmsg: family, prefix, flags, scope, index.
        Self::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .bytes(&[family(local), u8::try_from(length).unwrap_or(0), IFA_F_NODAD, RT_SCOPE_UNIVERSE])
            .bytes(&index.to_ne_bytes())
            .attribute(IFA_LOCAL, &octets(local))
            .attribute(IFA_ADDRESS, &octets(peer))
            .done()
    }

    /// Adds or removes our route to a network.
    pub fn route(add: bool, index: u32, network: &Network, source: IpAddr) -> Self {
        let (kind, flags) = if add { (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL) } else { (RTM_DELROUTE, 0) };
        let to = network.address();
        let scope = if to.is_ipv4() { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
        // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
        Self::new(kind, flags | NLM_F_ACK)
            .bytes(&[family(to), network.prefix(), 0, 0, RT_TABLE_MAIN, PROTOCOL, scope, RTN_UNICAST])
            .bytes(&[0; 4])
            .attribute(RTA_DST, &octets(to))
            .attribute(RTA_OIF, &index.to_ne_bytes())
            .attribute(RTA_PRIORITY, &METRIC.to_ne_bytes())
            .attribute(RTA_PREFSRC, &octets(source))
            .done()
    }

    /// Asks for every route of a family, in all tables.
    fn routes(ipv4: bool) -> Self {
        let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let mut body = [0; RTMSG];
        body[0] = u8::try_from(family.as_raw()).unwrap_or(0);
        Self::new(RTM_GETROUTE, NLM_F_DUMP).bytes(&body).done()
    }

    /// struct ifinfomsg: family, padding, type, index, flags, mask of the flags to change.
    fn link(kind: u16, index: u32, flags: u32) -> Self {
        let words = [0, index, flags, flags].map(u32::to_ne_bytes);
        Self::new(kind, NLM_F_ACK).bytes(words.as_flattened())
    }

    /// struct nlmsghdr: length (filled in at the end), type, flags, sequence (filled in when sent), port.
    fn new(kind: u16, flags: u16) -> Self {
        let head = [0, 0, kind, flags | NLM_F_REQUEST].map(u16::to_ne_bytes);
        Self(head.as_flattened().to_vec()).bytes(&[0; 8])
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// All our values are multiples of four bytes, so none needs padding.
    fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(4);
        self.bytes(&length.to_ne_bytes()).bytes(&kind.to_ne_bytes()).bytes(value)
    }

    fn done(mut self) -> Self {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// A route of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub network: Network,
    /// Through which interface; several, or none (a route that discards), is `None`.
    pub index: Option<u32>,
    /// Who set it (`RTPROT_*`).
    pub protocol: u8,
}

/// A connection with the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Opens one. Its answers have a time limit of 5 s.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(5)))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and waits for the kernel's consent.
    pub fn ask(&mut self, message: Message) -> io::Result<()> {
        self.send(message)?;
        let mut answer = vec![0; 8192];
        loop {
            let length = self.receive(&mut answer)?;
            for part in parts(&answer[..length]).filter(|part| part.sequence == self.sequence) {
                if part.kind == NLMSG_ERROR {
                    return verdict(part.body);
                }
            }
        }
    }

    /// All routes of the host, of both families and in all tables.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for ipv4 in [true, false] {
            // A list that changed while it was read is read again.
            let mut complete = false;
            for _ in 0..5 {
                let mut found = Vec::new();
                complete = self.list(ipv4, &mut found)?;
                if complete {
                    routes.append(&mut found);
                    break;
                }
            }
            if !complete {
                return Err(io::Error::other("the host's routes change all the time"));
            }
        }
        Ok(routes)
    }

    fn list(&mut self, ipv4: bool, routes: &mut Vec<Route>) -> io::Result<bool> {
        self.send(Message::routes(ipv4))?;
        let mut answer = vec![0; 64 << 10];
        let mut complete = true;
        loop {
            let length = self.receive(&mut answer)?;
            for part in parts(&answer[..length]).filter(|part| part.sequence == self.sequence) {
                complete &= part.flags & NLM_F_DUMP_INTR == 0;
                match part.kind {
                    NLMSG_DONE => return Ok(complete),
                    NLMSG_ERROR => return verdict(part.body).map(|()| complete),
                    RTM_NEWROUTE => routes.extend(route(part.body)),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, mut message: Message) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        message.0[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &message.0, SendFlags::empty(), &kernel)?;
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.socket, buffer, RecvFlags::empty())?.0)
    }
}

struct Part<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of one datagram.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEADER>()?;
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = word(0) as usize;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Part { kind: half(4), flags: half(6), sequence: word(8), body })
    })
}

/// An `NLMSG_ERROR` whose number is 0 is the kernel's consent.
fn verdict(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().copied().map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(number.wrapping_neg())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that is none")),
    }
}

fn route(body: &[u8]) -> Option<Route> {
    let head = body.first_chunk::<RTMSG>()?;
    let ipv4 = u16::from(head[0]) == AddressFamily::INET.as_raw();
    if u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) & RTM_F_CLONED != 0 {
        return None;
    }
    let mut address: IpAddr =
        if ipv4 { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let mut index = None;
    let mut rest = &body[RTMSG..];
    while let Some(&[low, high, kind_low, kind_high]) = rest.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = rest.get(4..length)?;
        match u16::from_ne_bytes([kind_low, kind_high]) {
            RTA_DST if ipv4 => address = IpAddr::from(*value.first_chunk::<4>()?),
            RTA_DST => address = IpAddr::from(*value.first_chunk::<16>()?),
            RTA_OIF => index = Some(u32::from_ne_bytes(*value.first_chunk()?)),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Route { network: Network::around(address, head[1])?, index, protocol: head[5] })
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    u8::try_from(family.as_raw()).unwrap_or(0)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_have_the_lengths_that_the_kernel_expects() {
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let v6: IpAddr = "fd00::1".parse().unwrap();
        let net: Network = "10.1.0.0/16".parse().unwrap();
        let table = [
            (Message::up(2, 1500), 40, RTM_NEWLINK),
            (Message::delete(2), 32, RTM_DELLINK),
            (Message::address(2, v4, v4), 40, RTM_NEWADDR),
            (Message::address(2, v6, v6), 64, RTM_NEWADDR),
            (Message::route(true, 2, &net, v4), 60, RTM_NEWROUTE),
            (Message::route(false, 2, &net, v4), 60, RTM_DELROUTE),
            (Message::routes(true), 28, RTM_GETROUTE),
        ];
        for (message, length, kind) in table {
            assert_eq!(message.0.len(), length);
            assert_eq!(message.0[..4], u32::try_from(length).unwrap().to_ne_bytes());
            assert_eq!(message.0[4..6], kind.to_ne_bytes());
        }
    }

    #[test]
    fn the_hosts_own_routes_can_be_read() {
        let routes = Netlink::open().unwrap().routes().unwrap();
        let loopback: Network = "127.0.0.0/8".parse().unwrap();
        assert!(routes.iter().any(|route| loopback.covers(&route.network)), "{routes:?}");
    }

    #[test]
    fn a_route_is_read_as_it_is_written() {
        let net: Network = "10.1.0.0/16".parse().unwrap();
        let message = Message::route(true, 7, &net, "10.0.0.1".parse().unwrap());
        let read = parts(&message.0).next().and_then(|part| route(part.body));
        assert_eq!(read, Some(Route { network: net, index: Some(7), protocol: PROTOCOL }));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            for part in parts(&bytes) {
                route(part.body);
                verdict(part.body).ok();
            }
            route(&bytes);
        }
    }
}
