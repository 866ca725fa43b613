//! The few requests that bring an interface up, over `NETLINK_ROUTE` (`linux/rtnetlink.h`). Building a request is apart
//! from sending it, so that its bytes can be tested.

use std::net::IpAddr;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, netlink::SocketAddrNetlink, sockopt::Timeout,
};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
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

/// Sends a request and waits for the kernel's answer.
pub fn ask(request: &Request) -> std::io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        Timeout::Recv,
        Some(std::time::Duration::from_secs(5)),
    )?;
    rustix::net::sendto(&socket, &request.0, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
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
