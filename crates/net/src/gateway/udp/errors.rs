//! Linux's queue of errors on a UDP socket (ip(7), `IP_RECVERR`): every ICMP error, and every datagram that was too large for
//! its path, with whereto it was sent and how it began.

use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::sockopt::{set_ip_mtu_discover, set_ipv6_mtu_discover};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::socket::{Trouble, address};
use crate::packet::icmp::Problem;

/// Errors taken in one go, so that one flow does not keep the others waiting.
const AT_ONCE: usize = 32;
/// As much of a datagram as is quoted back to the guest.
const BEGIN: usize = 512;

/// Asks for errors.
pub(in crate::gateway) fn ask(socket: &impl AsFd, six: bool) -> io::Result<()> {
    if six {
        setsockopt(socket, Ipv6RecvErr, &true)?;
    } else {
        setsockopt(socket, Ipv4RecvErr, &true)?;
    }
    Ok(())
}

/// Whether datagrams must travel whole; else the host cuts them as their path needs it.
pub(in crate::gateway) fn set_whole(socket: &impl AsFd, six: bool, whole: bool) -> io::Result<()> {
    match (six, whole) {
        (false, true) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO)?,
        (false, false) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT)?,
        (true, true) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO)?,
        (true, false) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::WANT)?,
    }
    Ok(())
}

/// Takes what is in the queue, and notes when it is empty.
pub(in crate::gateway) fn take(socket: &UdpSocket) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for _ in 0..AT_ONCE {
        match socket.try_io(Interest::ERROR, || Ok(next(socket.as_raw_fd())?)) {
            Ok(trouble) => troubles.extend(trouble),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    troubles
}

/// Why a datagram did not fit that was just refused: the MTU of its path. The entry stands in the queue already, though the
/// runtime does not know of it yet. What else is there is answered, too.
pub(in crate::gateway) fn take_fit(socket: &UdpSocket) -> (Option<u32>, Vec<Trouble>) {
    let (mut fit, mut others) = (None, Vec::new());
    for _ in 0..AT_ONCE {
        match next(socket.as_raw_fd()) {
            // The host's own refusals name no port on a socket without a peer.
            Ok(Some(Trouble { problem: Problem::TooBig(mtu), to, .. })) if to.port() == 0 => fit = Some(mtu),
            Ok(trouble) => others.extend(trouble),
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    (fit, others)
}

/// The queue's next entry; `None` inside when it says nothing that the guest can use.
fn next(socket: RawFd) -> nix::Result<Option<Trouble>> {
    let mut begin = [0; BEGIN];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let mut parts = [IoSliceMut::new(&mut begin)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut control), flags)?;
    let to = message.address.as_ref().and_then(address);
    let length = message.bytes.min(BEGIN);
    let mut found = None;
    for control in message.cmsgs()? {
        found = match control {
            ControlMessageOwned::Ipv4RecvErr(error, offender) => {
                let offender = offender.map(|offender| u32::from_be(offender.sin_addr.s_addr));
                let offender =
                    offender.filter(|address| *address != 0).map(|address| IpAddr::V4(address.into()));
                problem(&error).map(|problem| (problem, offender))
            }
            ControlMessageOwned::Ipv6RecvErr(error, offender) => {
                let offender = offender.map(|offender| IpAddr::V6(offender.sin6_addr.s6_addr.into()));
                problem(&error).map(|problem| (problem, offender.filter(|address| !address.is_unspecified())))
            }
            _ => found,
        };
    }
    let (Some(to), Some((problem, offender))) = (to, found) else { return Ok(None) };
    Ok(Some(Trouble { to, problem, offender, begin: begin[..length].to_vec() }))
}

/// What an entry says. The kernel has read type and code already and says its own error number.
fn problem(error: &libc::sock_extended_err) -> Option<Problem> {
    let hops = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP => (error.ee_type, error.ee_code) == (11, 0),
        libc::SO_EE_ORIGIN_ICMP6 => (error.ee_type, error.ee_code) == (3, 0),
        _ => false,
    };
    if hops {
        return Some(Problem::Hops);
    }
    match i32::try_from(error.ee_errno).ok()? {
        libc::ECONNREFUSED => Some(Problem::Port),
        libc::EMSGSIZE => Some(Problem::TooBig(error.ee_info)),
        libc::ENETUNREACH => Some(Problem::Network),
        libc::EHOSTUNREACH => Some(Problem::Host),
        libc::ENOPROTOOPT => Some(Problem::Protocol),
        libc::EACCES | libc::EPERM => Some(Problem::Prohibited),
        _ => None,
    }
}
