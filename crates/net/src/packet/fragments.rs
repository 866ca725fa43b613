//! Reassembly of datagrams that the guest sent in fragments (RFC 791, RFC 8200 4.5). Bounded by what a hostile guest could
//! leave unfinished: so many datagrams, so many bytes, so long. A fragment that overlaps another gives its whole datagram
//! away (RFC 5722), in both families: no honest sender makes one, and what two readers of it would see differs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{checksum, take, word};
use crate::gateway::ip::{IpPacket, protocol};
use crate::gateway::{Counters, Reason};

/// Datagrams that may be unfinished at once.
const DATAGRAMS: usize = 16;
/// Bytes that unfinished datagrams may hold together.
const BYTES: usize = 1 << 20;
/// Longest wait for the rest of a datagram.
const PATIENCE: Duration = Duration::from_secs(15);
/// Separate stretches that one datagram may consist of while it is unfinished. The smallest that IPv6 senders make are
/// 1,232 bytes long, so that 54 of them are a whole datagram in the worst order.
const STRETCHES: usize = 128;
/// Longest message: what the length fields of both families can say. IPv4's counts its header too.
const LONGEST: usize = 65_535;

/// How a reassembled IPv6 packet begins: a flow label that says so, since nothing else in it does. Whoever sends it on may cut
/// it again, which is forbidden for a packet that came whole (RFC 8200, 4.5). IPv4 says this by its "don't fragment".
pub(crate) const REASSEMBLED: [u8; 4] = [0x60, 0x0d, 0xf0, 0x0d];

/// What tells one datagram's fragments from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    /// For IPv4 only; an IPv6 sender's identifications are unique without it.
    protocol: u8,
    identification: u32,
}

/// One fragment, taken apart.
struct Fragment<'a> {
    key: Key,
    /// The transport, as this fragment says.
    protocol: u8,
    offset: usize,
    last: bool,
    data: &'a [u8],
}

struct Datagram {
    key: Key,
    begun: Instant,
    /// The transport, as the first fragment says.
    protocol: Option<u8>,
    hop_limit: u8,
    /// The message as far as it reaches now; holes are zero.
    message: Vec<u8>,
    /// What is there of it: sorted, apart from each other.
    stretches: Vec<(usize, usize)>,
    /// Its whole length, once the last fragment is there.
    whole: Option<usize>,
}

/// Every datagram of one guest that is not yet whole.
pub(crate) struct Fragments {
    counters: Arc<Counters>,
    /// Oldest first.
    unfinished: Vec<Datagram>,
}

impl Fragments {
    /// None yet.
    pub(crate) fn new(counters: Arc<Counters>) -> Fragments {
        Fragments { counters, unfinished: Vec::new() }
    }

    /// Takes a fragment (a packet whose `fragment` is set); the whole packet when it was the one that was missing. What is
    /// refused is counted.
    pub(crate) fn add(&mut self, packet: &IpPacket<'_>, now: Instant) -> Option<Vec<u8>> {
        self.expire(now);
        match dissect(packet).and_then(|fragment| self.place(packet, &fragment, now)) {
            Ok(whole) => whole,
            Err(reason) => {
                self.counters.count(reason);
                None
            }
        }
    }

    /// Forgets what has waited too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        let counters = &self.counters;
        self.unfinished.retain(|datagram| {
            let young = now.saturating_duration_since(datagram.begun) < PATIENCE;
            if !young {
                counters.count(Reason::FragmentTimeout);
            }
            young
        });
    }

    /// Bytes that unfinished datagrams hold.
    pub(crate) fn held(&self) -> usize {
        self.unfinished.iter().map(|datagram| datagram.message.len()).sum()
    }

    fn place(
        &mut self,
        packet: &IpPacket<'_>,
        fragment: &Fragment<'_>,
        now: Instant,
    ) -> Result<Option<Vec<u8>>, Reason> {
        // One that is first and last is a whole datagram, whatever else bears its identification (RFC 6946).
        if fragment.offset == 0 && fragment.last {
            return Ok(Some(assemble(&fragment.key, fragment.protocol, packet.hop_limit, fragment.data)));
        }
        let index = match self.unfinished.iter().position(|datagram| datagram.key == fragment.key) {
            Some(index) => index,
            None => {
                self.make_room(1, 0, None);
                self.unfinished.push(Datagram {
                    key: fragment.key,
                    begun: now,
                    protocol: None,
                    hop_limit: packet.hop_limit,
                    message: Vec::new(),
                    stretches: Vec::new(),
                    whole: None,
                });
                self.unfinished.len() - 1
            }
        };
        let end = fragment.offset + fragment.data.len();
        let growth = end.saturating_sub(self.unfinished[index].message.len());
        let index = self.make_room(0, growth, Some(index));
        match self.unfinished[index].put(fragment) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let done = self.unfinished.remove(index);
                let protocol = done.protocol.ok_or(Reason::Malformed)?;
                Ok(Some(assemble(&done.key, protocol, done.hop_limit, &done.message)))
            }
            Err(reason) => {
                self.unfinished.remove(index);
                Err(reason)
            }
        }
    }

    /// Gives the oldest datagrams away, but not the one at `keep`, until so many more and so many more bytes have room. Answers
    /// where the kept one stands then.
    fn make_room(&mut self, datagrams: usize, bytes: usize, keep: Option<usize>) -> usize {
        let mut keep = keep;
        loop {
            if self.unfinished.len() + datagrams <= DATAGRAMS && self.held() + bytes <= BYTES {
                return keep.unwrap_or_default();
            }
            let oldest = usize::from(keep == Some(0));
            if oldest >= self.unfinished.len() {
                return keep.unwrap_or_default();
            }
            self.unfinished.remove(oldest);
            self.counters.count(Reason::FragmentLimit);
            keep = keep.map(|index| if index > oldest { index - 1 } else { index });
        }
    }
}

impl Datagram {
    /// Puts a fragment in its place; true when the datagram is whole.
    fn put(&mut self, fragment: &Fragment<'_>) -> Result<bool, Reason> {
        let (start, end) = (fragment.offset, fragment.offset + fragment.data.len());
        let after = self.stretches.partition_point(|stretch| stretch.1 <= start);
        if let Some(&(from, to)) = self.stretches.get(after)
            && from < end
        {
            // The same fragment once more is no harm; the network may double packets.
            let same = from <= start && end <= to && self.message[start..end] == *fragment.data;
            let agrees = !fragment.last || self.whole == Some(end);
            return if same && agrees { Ok(false) } else { Err(Reason::FragmentOverlap) };
        }
        match self.whole {
            Some(whole) if fragment.last || end > whole => return Err(Reason::FragmentOverlap),
            None if fragment.last && self.message.len() > end => return Err(Reason::FragmentOverlap),
            _ => {}
        }
        if fragment.last {
            self.whole = Some(end);
        }
        if start == 0 {
            self.protocol = Some(fragment.protocol);
        }
        if self.message.len() < end {
            self.message.resize(end, 0);
        }
        self.message[start..end].copy_from_slice(fragment.data);
        let joins_before = after > 0 && self.stretches[after - 1].1 == start;
        let joins_after = self.stretches.get(after).is_some_and(|stretch| stretch.0 == end);
        match (joins_before, joins_after) {
            (true, true) => {
                self.stretches[after - 1].1 = self.stretches[after].1;
                self.stretches.remove(after);
            }
            (true, false) => self.stretches[after - 1].1 = end,
            (false, true) => self.stretches[after].0 = start,
            (false, false) => self.stretches.insert(after, (start, end)),
        }
        if self.stretches.len() > STRETCHES {
            return Err(Reason::FragmentLimit);
        }
        Ok(self.whole.is_some_and(|whole| self.stretches == [(0, whole)]))
    }
}

/// Takes a fragment apart and judges its length.
fn dissect<'a>(packet: &IpPacket<'a>) -> Result<Fragment<'a>, Reason> {
    let (source, destination) = (packet.source, packet.destination);
    let (key, next, offset, more, data) = if source.is_ipv4() {
        let identification = word(packet.bytes, 4).ok_or(Reason::Malformed)?;
        let flags = word(packet.bytes, 6).ok_or(Reason::Malformed)?;
        let key =
            Key { source, destination, protocol: packet.protocol, identification: identification.into() };
        (key, packet.protocol, usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0, packet.payload)
    } else {
        let header: [u8; 8] = take(packet.payload, 0).ok_or(Reason::Malformed)?;
        let field = u16::from_be_bytes([header[2], header[3]]);
        let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let key = Key { source, destination, protocol: 0, identification };
        let data = packet.payload.get(8..).unwrap_or_default();
        (key, header[0], usize::from(field & 0xfff8), field & 1 == 1, data)
    };
    let longest = if source.is_ipv4() { LONGEST - 20 } else { LONGEST };
    if offset + data.len() > longest {
        return Err(Reason::TooBig);
    }
    // Only the last may have an odd length, none may be empty, and a fragment of fragments does not exist.
    if (more && !data.len().is_multiple_of(8))
        || data.is_empty()
        || next == protocol::FRAGMENT && source.is_ipv6()
    {
        return Err(Reason::Malformed);
    }
    Ok(Fragment { key, protocol: next, offset, last: !more, data })
}

/// The whole packet, with a plain header: options and extension headers of the fragments are left out.
fn assemble(key: &Key, protocol: u8, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    match (key.source, key.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = vec![0; 20 + message.len()];
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&((20 + message.len()) as u16).to_be_bytes());
            packet[4..6].copy_from_slice(&(key.identification as u16).to_be_bytes());
            packet[8] = hop_limit;
            packet[9] = protocol;
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            let sum = !checksum::sum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet[20..].copy_from_slice(message);
            packet
        }
        (source, destination) => {
            let mut packet = REASSEMBLED.to_vec();
            packet.extend_from_slice(&(message.len() as u16).to_be_bytes());
            packet.extend_from_slice(&[protocol, hop_limit]);
            for address in [source, destination] {
                if let IpAddr::V6(address) = address {
                    packet.extend_from_slice(&address.octets());
                }
            }
            packet.extend_from_slice(message);
            packet
        }
    }
}
