//! IP headers before what the gateway sends, and its cutting into fragments where a datagram is larger than the link's MTU.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dhow_model::network::MTU;

use super::checksum;

/// Hops that a packet of ours may make: the guest forwards it once to a container.
pub(crate) const HOPS: u8 = 64;

/// Two addresses of one family: who sends, and who is to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pair {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    /// `None` when the families differ.
    pub(crate) fn new(source: IpAddr, destination: IpAddr) -> Option<Pair> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Pair::V4(source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Pair::V6(source, destination)),
            _ => None,
        }
    }

    /// Length of the IP header, bytes.
    pub(crate) fn header(self) -> usize {
        match self {
            Pair::V4(..) => 20,
            Pair::V6(..) => 40,
        }
    }

    /// The checksum of a UDP or ICMPv6 message whose own checksum field is zero (RFC 768, RFC 4443); the same over a whole
    /// received message is zero.
    pub(crate) fn checksum(self, protocol: u8, message: &[u8]) -> u16 {
        // The pseudo-header: both addresses, the length, the transport.
        let length = message.len();
        let addresses = match self {
            Pair::V4(source, destination) => {
                [checksum::sum(&source.octets()), checksum::sum(&destination.octets())]
            }
            Pair::V6(source, destination) => {
                [checksum::sum(&source.octets()), checksum::sum(&destination.octets())]
            }
        };
        let rest = [(length >> 16) as u16, length as u16, u16::from(protocol)];
        let pseudo = checksum::combine(&[checksum::combine(&addresses), checksum::combine(&rest)]);
        !checksum::combine(&[pseudo, checksum::sum(message)])
    }
}

/// What is to be sent: a transport's message between two addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    /// From whom, to whom.
    pub(crate) pair: Pair,
    /// The transport's number.
    pub(crate) protocol: u8,
    /// Hops that it may make.
    pub(crate) hops: u8,
    /// Tells its fragments from those of others, if it has to be cut.
    pub(crate) identification: u32,
    /// The transport's header and payload.
    pub(crate) message: &'a [u8],
}

impl Datagram<'_> {
    /// Hands the packet, or each fragment of it, to `packet` as its length and a function that writes it. Stops and is false
    /// where one was not taken, or where the message is longer than IP can carry.
    pub(crate) fn emit(&self, mut packet: impl FnMut(usize, &dyn Fn(&mut [u8])) -> bool) -> bool {
        let header = self.pair.header();
        let whole = self.message.len();
        let longest = match self.pair {
            Pair::V4(..) => 65_535 - 20,
            Pair::V6(..) => 65_535,
        };
        if whole > longest {
            return false;
        }
        let mtu = MTU as usize;
        if header + whole <= mtu {
            return packet(header + whole, &|buffer| {
                self.header(buffer, whole, None);
                buffer[header..].copy_from_slice(self.message);
            });
        }
        let header = header + if matches!(self.pair, Pair::V6(..)) { 8 } else { 0 };
        let step = (mtu - header) / 8 * 8;
        for (index, piece) in self.message.chunks(step).enumerate() {
            let offset = index * step;
            let more = offset + piece.len() < whole;
            let taken = packet(header + piece.len(), &|buffer| {
                self.header(buffer, piece.len(), Some((offset, more)));
                buffer[header..].copy_from_slice(piece);
            });
            if !taken {
                return false;
            }
        }
        true
    }

    /// Writes the header for `length` bytes of message, the whole or the fragment that begins at an offset.
    fn header(&self, buffer: &mut [u8], length: usize, fragment: Option<(usize, bool)>) {
        match self.pair {
            Pair::V4(source, destination) => {
                let (offset, more) = fragment.unwrap_or((0, false));
                let flags = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
                buffer[0] = 0x45;
                buffer[1] = 0;
                buffer[2..4].copy_from_slice(&((20 + length) as u16).to_be_bytes());
                buffer[4..6].copy_from_slice(&(self.identification as u16).to_be_bytes());
                buffer[6..8].copy_from_slice(&flags.to_be_bytes());
                buffer[8] = self.hops;
                buffer[9] = self.protocol;
                buffer[10..12].fill(0);
                buffer[12..16].copy_from_slice(&source.octets());
                buffer[16..20].copy_from_slice(&destination.octets());
                let sum = !checksum::sum(&buffer[..20]);
                buffer[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Pair::V6(source, destination) => {
                let extra = if fragment.is_some() { 8 } else { 0 };
                buffer[..4].copy_from_slice(&[0x60, 0, 0, 0]);
                buffer[4..6].copy_from_slice(&((length + extra) as u16).to_be_bytes());
                buffer[6] = if fragment.is_some() { 44 } else { self.protocol };
                buffer[7] = self.hops;
                buffer[8..24].copy_from_slice(&source.octets());
                buffer[24..40].copy_from_slice(&destination.octets());
                if let Some((offset, more)) = fragment {
                    buffer[40] = self.protocol;
                    buffer[41] = 0;
                    buffer[42..44].copy_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
                    buffer[44..48].copy_from_slice(&self.identification.to_be_bytes());
                }
            }
        }
    }

    /// The packet as one vector, for what is known to be small.
    pub(crate) fn to_vec(self) -> Option<Vec<u8>> {
        let mut whole = None;
        let sent = self.emit(|length, write| {
            if whole.is_some() {
                return false;
            }
            let mut buffer = vec![0; length];
            write(&mut buffer);
            whole = Some(buffer);
            true
        });
        whole.filter(|_| sent)
    }
}
