//! The few requests that bring an interface up, and those about neighbours, over `NETLINK_ROUTE` (`linux/rtnetlink.h`). Building a request is apart
//! from sending it, so that its bytes can be tested.

use std::net::IpAddr;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, netlink::SocketAddrNetlink, sockopt::Timeout,
};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NDA_DST: u16 = 1;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The address counts at once: nobody else is on the machine's own network to have the same.
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// A request of the kernel, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request(Vec<u8>);

impl Request {
    /// Switches an interface on, with its largest packet where one is given.
    #[must_use]
    pub fn link_up(index: u32, mtu: Option<u32>) -> Self {
        let mut request = Self::new(RTM_NEWLINK, 0);
        // struct ifinfomsg: family, padding, type, index, flags, mask of the flags to change.
        request.0.extend_from_slice(&[0; 4]);
        request.word(index).word(IFF_UP).word(IFF_UP);
        if let Some(mtu) = mtu {
            request.attribute(IFLA_MTU, &mtu.to_ne_bytes());
        }
        request.done()
    }

    /// Gives an interface an address.
    #[must_use]
    pub fn address(index: u32, address: IpAddr, prefix: u8) -> Self {
        let mut request = Self::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
        let (family, flags) = match address {
            IpAddr::V4(_) => (AF_INET, 0),
            IpAddr::V6(_) => (AF_INET6, IFA_F_NODAD),
        };
        // struct ifaddrmsg: family, prefix, flags, scope, index.
        request.0.extend_from_slice(&[family, prefix, flags, 0]);
        request.word(index).ip(IFA_LOCAL, address).ip(IFA_ADDRESS, address).done()
    }

    /// Sends everything else through a gateway.
    #[must_use]
    pub fn default_route(index: u32, gateway: IpAddr) -> Self {
        let mut request = Self::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
        // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
        let family = if gateway.is_ipv4() { AF_INET } else { AF_INET6 };
        request.0.extend_from_slice(&[family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST]);
        request.word(0).ip(RTA_GATEWAY, gateway).attribute(RTA_OIF, &index.to_ne_bytes()).done()
    }

    /// Forgets a neighbour's hardware address.
    #[must_use]
    pub fn forget(neighbour: &Neighbour) -> Self {
        let mut request = Self::new(RTM_DELNEIGH, 0);
        let family = if neighbour.address.is_ipv4() { AF_INET } else { AF_INET6 };
        // struct ndmsg: family, padding, interface, state, flags, type.
        request.0.extend_from_slice(&[family, 0, 0, 0]);
        request.word(neighbour.interface).word(0).ip(NDA_DST, neighbour.address).done()
    }

    /// Lists all neighbours.
    fn list_neighbours() -> Self {
        let mut request = Self::new(RTM_GETNEIGH, NLM_F_DUMP);
        request.word(0).word(0).word(0).done()
    }

    /// struct nlmsghdr: length (filled in at the end), type, flags, sequence, port.
    fn new(kind: u16, flags: u16) -> Self {
        let mut request = Self(vec![0; 4]);
        request.0.extend_from_slice(&kind.to_ne_bytes());
        request.0.extend_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        request.word(1).word(0);
        request
    }

    fn word(&mut self, word: u32) -> &mut Self {
        self.0.extend_from_slice(&word.to_ne_bytes());
        self
    }

    fn ip(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// All our attributes are a multiple of four bytes long, so none needs padding.
    fn attribute<const N: usize>(&mut self, kind: u16, value: &[u8; N]) -> &mut Self {
        const { assert!(N.is_multiple_of(4) && N < 256) };
        self.0.extend_from_slice(&(N as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self
    }

    fn done(&mut self) -> Self {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        Self(std::mem::take(&mut self.0))
    }
}

/// A host that the guest has heard of on a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// The interface's index.
    pub interface: u32,
    /// `NUD_…` of `linux/neighbour.h`.
    pub state: u16,
}

/// Every neighbour that the kernel knows.
pub fn neighbours() -> std::io::Result<Vec<Neighbour>> {
    let socket = send(&Request::list_neighbours())?;
    let mut known = Vec::new();
    let mut answer = vec![0; 32 << 10];
    loop {
        let (length, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        if listed(&answer[..length], &mut known)? {
            return Ok(known);
        }
    }
}

/// Takes neighbours from a part of the kernel's list; true for the last part.
fn listed(mut part: &[u8], known: &mut Vec<Neighbour>) -> std::io::Result<bool> {
    while let Some((head, rest)) = part.split_first_chunk::<16>() {
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return verdict(part).map(|()| true),
            RTM_NEWNEIGH => known.extend(rest.get(..length.saturating_sub(16)).and_then(neighbour)),
            _ => {}
        }
        // Each message begins at a multiple of four.
        part = part.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// One neighbour from a struct ndmsg and its attributes; entries without an IP address are none of ours.
fn neighbour(message: &[u8]) -> Option<Neighbour> {
    let (head, mut attributes) = message.split_first_chunk::<12>()?;
    let interface = u32::from_ne_bytes(head[4..8].try_into().ok()?);
    let state = u16::from_ne_bytes(head[8..10].try_into().ok()?);
    loop {
        let (head, rest) = attributes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == NDA_DST {
            let value = rest.get(..length.checked_sub(4)?)?;
            let four = <[u8; 4]>::try_from(value).map(IpAddr::from).ok();
            let address = four.or_else(|| <[u8; 16]>::try_from(value).map(IpAddr::from).ok())?;
            return Some(Neighbour { address, interface, state });
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn send(request: &Request) -> std::io::Result<std::os::fd::OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        Timeout::Recv,
        Some(std::time::Duration::from_secs(5)),
    )?;
    rustix::net::sendto(&socket, &request.0, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// Sends a request and waits for the kernel's answer.
pub fn ask(request: &Request) -> std::io::Result<()> {
    let socket = send(request)?;
    let mut answer = [0; 4096];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    verdict(&answer[..length])
}

/// What the kernel's answer says: an `NLMSG_ERROR` whose number is 0 is its consent.
fn verdict(answer: &[u8]) -> std::io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let number = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, number) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(number)) => Err(std::io::Error::from_raw_os_error(number.wrapping_neg())),
        _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "an answer that is none")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn requests_have_the_lengths_that_the_kernel_expects() {
        let table = [
            (Request::link_up(2, None), 32, RTM_NEWLINK),
            (Request::link_up(2, Some(1500)), 40, RTM_NEWLINK),
            (Request::address(2, Ipv4Addr::LOCALHOST.into(), 8), 40, RTM_NEWADDR),
            (Request::address(2, Ipv6Addr::LOCALHOST.into(), 128), 64, RTM_NEWADDR),
            (Request::default_route(2, Ipv4Addr::LOCALHOST.into()), 44, RTM_NEWROUTE),
            (Request::default_route(2, Ipv6Addr::LOCALHOST.into()), 56, RTM_NEWROUTE),
        ];
        for (request, length, kind) in table {
            assert_eq!(request.0.len(), length);
            assert_eq!(request.0[..4], u32::try_from(length).unwrap().to_ne_bytes());
            assert_eq!(request.0[4..6], kind.to_ne_bytes());
        }
    }

    /// What the kernel lists is what it is asked to forget: the two messages differ in their kind alone.
    #[test]
    fn neighbours_are_read_from_a_list_that_has_other_things_in_it() {
        let mut part = Vec::new();
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let mut message = Request::forget(&Neighbour { address, interface: 3, state: 0 }).0;
            message[4..6].copy_from_slice(&RTM_NEWNEIGH.to_ne_bytes());
            message[24..26].copy_from_slice(&0x20_u16.to_ne_bytes());
            part.extend(message);
        }
        part.extend(Request::link_up(2, None).0);
        let mut known = Vec::new();
        assert!(!listed(&part, &mut known).unwrap());
        let found: Vec<_> = known.iter().map(|n| (n.address, n.interface, n.state)).collect();
        assert_eq!(found, [(Ipv4Addr::LOCALHOST.into(), 3, 0x20), (Ipv6Addr::LOCALHOST.into(), 3, 0x20)]);
        let mut done = [0; 20];
        done[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        assert!(listed(&done, &mut known).unwrap());
        for length in 0..part.len() {
            listed(&part[..length], &mut Vec::new()).unwrap_or_default();
        }
    }

    #[test]
    fn the_kernels_answer_is_consent_or_an_error_and_never_a_panic() {
        let mut answer = [0; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert!(verdict(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(verdict(&answer).unwrap_err().raw_os_error(), Some(1));
        for length in 0..20 {
            assert!(verdict(&answer[..length]).is_err());
        }
    }
}
