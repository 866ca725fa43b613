//! ICMP for both families (RFC 792, RFC 4443): the errors that the gateway reports to its guest, echo messages, and the
//! errors that a guest reports about what it was sent.

use std::net::{IpAddr, SocketAddr};

use super::ip::{Datagram, HOPS, Pair};
use super::{checksum, take, udp, word};
use crate::gateway::Reason;

/// ICMP's number in an IPv4 header.
pub(crate) const PROTOCOL: u8 = 1;
/// ICMPv6's number in an IPv6 header.
pub(crate) const PROTOCOL6: u8 = 58;
/// TCP's number.
const TCP: u8 = 6;

/// Why a packet did not reach its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// No route there.
    Network,
    /// The last router cannot reach the host.
    Host,
    /// The host does not speak the transport.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux tells of it"))]
    Protocol,
    /// Nobody listens on the port.
    Port,
    /// A policy forbids it.
    Prohibited,
    /// Larger than the path carries: its MTU in bytes.
    TooBig(u32),
    /// Too many hops.
    Hops,
}

impl Problem {
    /// Type, code and the field behind the checksum.
    fn wire(self, pair: Pair) -> (u8, u8, u32) {
        match (pair, self) {
            (Pair::V4(..), Problem::Network) => (3, 0, 0),
            (Pair::V4(..), Problem::Host) => (3, 1, 0),
            (Pair::V4(..), Problem::Protocol) => (3, 2, 0),
            (Pair::V4(..), Problem::Port) => (3, 3, 0),
            (Pair::V4(..), Problem::TooBig(mtu)) => (3, 4, mtu.min(0xffff)),
            (Pair::V4(..), Problem::Prohibited) => (3, 13, 0),
            (Pair::V4(..), Problem::Hops) => (11, 0, 0),
            (Pair::V6(..), Problem::Network) => (1, 0, 0),
            (Pair::V6(..), Problem::Prohibited) => (1, 1, 0),
            (Pair::V6(..), Problem::Host) => (1, 3, 0),
            (Pair::V6(..), Problem::Port) => (1, 4, 0),
            (Pair::V6(..), Problem::TooBig(mtu)) => (2, 0, mtu),
            (Pair::V6(..), Problem::Hops) => (3, 0, 0),
            (Pair::V6(..), Problem::Protocol) => (4, 1, 40),
        }
    }
}

/// An IP packet's addresses, its transport and where the transport's header stands. `None` for later fragments, which have
/// none, and for IPv6 with extension headers.
fn dissect(packet: &[u8]) -> Option<(Pair, u8, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let pair = Pair::V4(take::<4>(packet, 12)?.into(), take::<4>(packet, 16)?.into());
            let whole = word(packet, 6)? & 0x1fff == 0 && header >= 20;
            Some((pair, *packet.get(9)?, packet.get(header..)?)).filter(|_| whole)
        }
        6 => {
            let pair = Pair::V6(take::<16>(packet, 8)?.into(), take::<16>(packet, 24)?.into());
            Some((pair, *packet.get(6)?, packet.get(40..)?))
        }
        _ => None,
    }
}

/// The packet that tells a sender about a packet of its own, from an address of the same family. `None` where RFC 1122 (3.2.2)
/// and RFC 4443 (2.4) forbid it: about an error, a later fragment, or what went to or came from a group or nobody.
pub(crate) fn error(from: IpAddr, about: &[u8], problem: Problem) -> Option<Vec<u8>> {
    let (pair, protocol, message) = dissect(about)?;
    let (source, destination, quoted) = match pair {
        Pair::V4(source, destination) => {
            let silent = source.is_unspecified()
                || source.is_multicast()
                || source.is_broadcast()
                || source.is_loopback()
                || destination.is_multicast()
                || destination.is_broadcast();
            let about_error =
                protocol == PROTOCOL && matches!(message.first(), Some(3 | 4 | 5 | 11 | 12) | None);
            (!silent && !about_error).then_some((IpAddr::V4(source), IpAddr::V4(destination), 576 - 28))?
        }
        Pair::V6(source, destination) => {
            let group = destination.is_multicast() && !matches!(problem, Problem::TooBig(_));
            let silent = source.is_unspecified() || source.is_multicast() || source.is_loopback() || group;
            let about_error = protocol == PROTOCOL6 && message.first().is_none_or(|kind| *kind < 128);
            (!silent && !about_error).then_some((IpAddr::V6(source), IpAddr::V6(destination), 1280 - 48))?
        }
    };
    let pair = Pair::new(from, source).filter(|_| from != source && !destination.is_unspecified())?;
    let (kind, code, rest) = problem.wire(pair);
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&rest.to_be_bytes());
    message.extend_from_slice(&about[..about.len().min(quoted)]);
    finish(pair, &mut message);
    datagram(pair, 0, &message).to_vec()
}

/// The same about a UDP datagram that is not at hand any more: its addresses, the length of its payload, and how that began.
pub(crate) fn udp_error(
    from: IpAddr,
    sent: (SocketAddr, SocketAddr),
    length: usize,
    begin: &[u8],
    problem: Problem,
) -> Option<Vec<u8>> {
    let pair = Pair::new(sent.0.ip(), sent.1.ip())?;
    let mut message = vec![0; udp::HEADER];
    message.extend_from_slice(&begin[..begin.len().min(length).min(512)]);
    let about = udp::write(sent.0, sent.1, &mut message, false).then(|| Datagram {
        pair,
        protocol: udp::PROTOCOL,
        hops: HOPS,
        identification: 0,
        message: &message,
    })?;
    let mut about = about.to_vec()?;
    // The quoted packet says how long it was, though only its beginning is quoted; its checksum is of no use to anybody.
    let whole = u16::try_from(udp::HEADER + length).ok()?;
    let header = pair.header();
    let total = if matches!(pair, Pair::V4(..)) { whole.saturating_add(20) } else { whole };
    let field = if matches!(pair, Pair::V4(..)) { 2 } else { 4 };
    about[field..field + 2].copy_from_slice(&total.to_be_bytes());
    about[header + 4..header + 6].copy_from_slice(&whole.to_be_bytes());
    if matches!(pair, Pair::V4(..)) {
        about[10..12].fill(0);
        let sum = !checksum::sum(&about[..20]);
        about[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    error(from, &about, problem)
}

/// An echo request or reply: everything behind the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo<'a> {
    /// Chosen by who asks, one for each of its conversations.
    pub(crate) identifier: u16,
    /// Counts its requests.
    pub(crate) sequence: u16,
    /// Comes back as it was.
    pub(crate) data: &'a [u8],
}

/// What a guest says by ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// "Are you there?"
    Request(Echo<'a>),
    /// "I am."
    Reply(Echo<'a>),
    /// A packet that it was sent went nowhere; as much of that packet as it quotes.
    Error(&'a [u8]),
    /// Anything else, neighbour discovery included.
    Other(u8),
}

/// Whether a message is whole: its checksum is right.
pub(crate) fn intact(pair: Pair, message: &[u8]) -> bool {
    match pair {
        Pair::V4(..) => checksum::sum(message) == 0xffff,
        Pair::V6(..) => pair.checksum(PROTOCOL6, message) == 0,
    }
}

/// Reads a message, checksum included.
pub(crate) fn parse(pair: Pair, message: &[u8]) -> Result<Message<'_>, Reason> {
    let (Some(&kind), Some(identifier), Some(sequence), Some(rest)) =
        (message.first(), word(message, 4), word(message, 6), message.get(8..))
    else {
        return Err(Reason::Malformed);
    };
    if !intact(pair, message) {
        return Err(Reason::BadChecksum);
    }
    let echo = Echo { identifier, sequence, data: rest };
    Ok(match (pair, kind) {
        (Pair::V4(..), 8) | (Pair::V6(..), 128) => Message::Request(echo),
        (Pair::V4(..), 0) | (Pair::V6(..), 129) => Message::Reply(echo),
        (Pair::V4(..), 3 | 4 | 5 | 11 | 12) | (Pair::V6(..), 0..=127) => Message::Error(rest),
        _ => Message::Other(kind),
    })
}

/// The reply to an echo request between two addresses, as a message from the second to the first.
pub(crate) fn reply(pair: Pair, echo: Echo<'_>) -> Vec<u8> {
    let kind = if matches!(pair, Pair::V4(..)) { 0 } else { 129 };
    write_echo(pair, kind, echo)
}

/// An echo request as the host's ping sockets want it: they put their own identifier and checksum.
pub(crate) fn request(pair: Pair, echo: Echo<'_>) -> Vec<u8> {
    let kind = if matches!(pair, Pair::V4(..)) { 8 } else { 128 };
    write_echo(pair, kind, echo)
}

fn write_echo(pair: Pair, kind: u8, echo: Echo<'_>) -> Vec<u8> {
    let mut message = Vec::with_capacity(8 + echo.data.len());
    message.extend_from_slice(&[kind, 0, 0, 0]);
    message.extend_from_slice(&echo.identifier.to_be_bytes());
    message.extend_from_slice(&echo.sequence.to_be_bytes());
    message.extend_from_slice(echo.data);
    finish(pair, &mut message);
    message
}

/// Puts the checksum into a message of four bytes or more.
pub(crate) fn finish(pair: Pair, message: &mut [u8]) {
    message[2..4].fill(0);
    let sum = match pair {
        Pair::V4(..) => !checksum::sum(message),
        Pair::V6(..) => pair.checksum(PROTOCOL6, message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// A message of ours as a datagram.
pub(crate) fn datagram(pair: Pair, identification: u32, message: &[u8]) -> Datagram<'_> {
    let protocol = if matches!(pair, Pair::V4(..)) { PROTOCOL } else { PROTOCOL6 };
    Datagram { pair, protocol, hops: HOPS, identification, message }
}

/// Whether an error says that a packet's receiver cannot be reached, for whatever reason but its size.
pub(crate) fn is_unreachable(pair: Pair, message: &[u8]) -> bool {
    match (pair, message) {
        (Pair::V4(..), [3, code, ..]) => *code != 4,
        (Pair::V6(..), [1, ..]) => true,
        _ => false,
    }
}

/// Who sent what to whom, from an error's quotation of a UDP datagram: its source and destination.
pub(crate) fn quoted_udp(quoted: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    quoted_ports(quoted, udp::PROTOCOL)
}

/// The same of a TCP segment.
pub(crate) fn quoted_tcp(quoted: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    quoted_ports(quoted, TCP)
}

fn quoted_ports(quoted: &[u8], wanted: u8) -> Option<(SocketAddr, SocketAddr)> {
    let (pair, protocol, message) = dissect(quoted)?;
    let ports = (word(message, 0)?, word(message, 2)?);
    let (source, destination): (IpAddr, IpAddr) = match pair {
        Pair::V4(source, destination) => (source.into(), destination.into()),
        Pair::V6(source, destination) => (source.into(), destination.into()),
    };
    (protocol == wanted).then(|| (SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1)))
}
