//! One IP packet from the guest, taken apart once: addresses, protocol and payload for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::counters::Reason;

/// IP protocol numbers (IANA).
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const ICMP6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
}

/// Extension headers that one packet may carry; Linux accepts eight of the kinds that are skipped here.
const EXTENSIONS: usize = 8;

/// A packet whose headers are all there. Checksums are not looked at: the link has no way to damage bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpPacket<'a> {
    /// The whole packet, from its first header byte, cut to the length that it states.
    pub(crate) bytes: &'a [u8],
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// What the payload is (see [`protocol`]); for a fragment, `FRAGMENT` (IPv6) or the datagram's protocol (IPv4).
    pub(crate) protocol: u8,
    /// Time to live or hop limit.
    pub(crate) hop_limit: u8,
    /// What follows the IP header and the extension headers that were skipped.
    pub(crate) payload: &'a [u8],
    /// A part of a datagram: to be reassembled before anything else is done with it. An IPv6 fragment's payload begins
    /// with its fragment header.
    pub(crate) fragment: bool,
}

impl<'a> IpPacket<'a> {
    /// Takes a packet apart.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<IpPacket<'a>, Reason> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => parse4(bytes),
            Some(6) => parse6(bytes),
            _ => Err(Reason::Malformed),
        }
    }

    /// The length of everything before the payload, bytes.
    pub(crate) fn header_length(&self) -> usize {
        self.bytes.len() - self.payload.len()
    }
}

fn parse4(bytes: &[u8]) -> Result<IpPacket<'_>, Reason> {
    let header = bytes.first_chunk::<20>().ok_or(Reason::Malformed)?;
    let header_length = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_length < 20 || total < header_length || total > bytes.len() {
        return Err(Reason::Malformed);
    }
    let fragment_field = u16::from_be_bytes([header[6], header[7]]);
    Ok(IpPacket {
        bytes: &bytes[..total],
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol: header[9],
        hop_limit: header[8],
        payload: &bytes[header_length..total],
        // More fragments, or an offset.
        fragment: fragment_field & 0x3fff != 0,
    })
}

fn parse6(bytes: &[u8]) -> Result<IpPacket<'_>, Reason> {
    let header = bytes.first_chunk::<40>().ok_or(Reason::Malformed)?;
    let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if total > bytes.len() {
        return Err(Reason::Malformed);
    }
    let bytes = &bytes[..total];
    let (protocol, payload) = skip_extensions(header[6], &bytes[40..])?;
    Ok(IpPacket {
        bytes,
        source: address6(&header[8..24]),
        destination: address6(&header[24..40]),
        protocol,
        hop_limit: header[7],
        payload,
        fragment: protocol == protocol::FRAGMENT,
    })
}

/// Walks over the extension headers that ask nothing of a host that is the destination (RFC 8200, 4.1 to 4.6).
fn skip_extensions(mut next: u8, mut rest: &[u8]) -> Result<(u8, &[u8]), Reason> {
    for _ in 0..=EXTENSIONS {
        let skipped = match next {
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS | protocol::ROUTING => {
                let head = rest.first_chunk::<8>().ok_or(Reason::Malformed)?;
                // A route that still has stations to visit is source routing (RFC 5095).
                if next == protocol::ROUTING && head[3] != 0 {
                    return Err(Reason::Unsupported);
                }
                next = head[0];
                8 + usize::from(head[1]) * 8
            }
            _ => return Ok((next, rest)),
        };
        rest = rest.get(skipped..).ok_or(Reason::Malformed)?;
    }
    Err(Reason::Unsupported)
}

fn address6(bytes: &[u8]) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    Ipv6Addr::from(octets).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 198, 19, 68, 2, 192, 0, 2, 1];
        bytes.extend_from_slice(payload);
        let length = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    fn packet6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        bytes.extend_from_slice(&"fd64:686f:7700::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend_from_slice(payload);
        let length = u16::try_from(payload.len()).unwrap();
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    #[test]
    fn padding_after_the_stated_length_is_cut() {
        let mut bytes = packet4(protocol::UDP, b"12345678");
        bytes.extend_from_slice(&[0; 18]);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.payload, packet.bytes.len(), packet.header_length()), (&b"12345678"[..], 28, 20));
        assert_eq!(packet.destination, "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn benign_extension_headers_are_skipped() {
        let options =
            [protocol::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0, protocol::TCP, 0, 1, 4, 0, 0, 0, 0];
        let bytes = packet6(protocol::HOP_BY_HOP, &[&options[..], b"segment"].concat());
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.protocol, packet.payload), (protocol::TCP, &b"segment"[..]));
        assert_eq!(packet.header_length(), 56);
    }

    #[test]
    fn source_routes_are_refused() {
        let bytes = packet6(protocol::ROUTING, &[protocol::TCP, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(IpPacket::parse(&bytes), Err(Reason::Unsupported));
    }

    #[test]
    fn fragments_are_marked() {
        let mut first = packet4(protocol::UDP, b"12345678");
        first[6] = 0x20;
        assert!(IpPacket::parse(&first).unwrap().fragment);
        let mut unfragmented = packet4(protocol::UDP, b"12345678");
        unfragmented[6] = 0x40;
        assert!(!IpPacket::parse(&unfragmented).unwrap().fragment, "do not fragment is no fragment");
        assert!(IpPacket::parse(&packet6(protocol::FRAGMENT, &[17, 0, 0, 1, 0, 0, 0, 1])).unwrap().fragment);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_panic(mut bytes: Vec<u8>, six: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = if six { 0x60 } else { 0x45 };
            }
            if let Ok(packet) = IpPacket::parse(&bytes) {
                proptest::prop_assert!(packet.header_length() >= 20);
            }
        }
    }
}
