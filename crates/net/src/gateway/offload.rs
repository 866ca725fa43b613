//! Checksums that nobody computes: a packet that never left this host cannot be damaged, so its checksum is only said to be
//! missing, in the header that stands before each frame on a virtio ring (virtio 1.2, 5.1.6), in the way that a network card
//! with offloads has it. Whoever sends such a packet on to where it matters completes it: the guest's kernel, or we.

use super::outbound::ETHERNET;
use crate::packet::checksum;

/// Length of the header, bytes.
pub(super) const HEADER: usize = 12;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The header for a frame to the guest. With `partial` the guest has said that it takes missing checksums: the field then
/// holds the sum of the pseudo-header only. Otherwise the whole checksum is put in.
pub(super) fn header(frame: &mut [u8], partial: bool) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    // One buffer.
    header[10] = 1;
    let is_ip = matches!(frame.get(ETHERNET - 2..ETHERNET), Some([0x08, 0x00] | [0x86, 0xdd]));
    let Some(packet) = frame.get_mut(ETHERNET..).filter(|_| is_ip) else { return header };
    if !partial {
        complete(packet);
        return header;
    }
    let Some(transport) = Transport::find(packet) else { return header };
    transport.put(packet, transport.pseudo);
    header[0] = NEEDS_CHECKSUM;
    header[6..8].copy_from_slice(&((ETHERNET + transport.start) as u16).to_le_bytes());
    header[8..10].copy_from_slice(&(transport.offset as u16).to_le_bytes());
    header
}

/// Puts the whole checksum into an IP packet that may have none.
pub(super) fn complete(packet: &mut [u8]) {
    let Some(transport) = Transport::find(packet) else { return };
    transport.put(packet, 0);
    let sum = checksum::combine(&[transport.pseudo, checksum::sum(&packet[transport.start..transport.end])]);
    // Zero means "none" to UDP; its complement says the same number.
    transport.put(packet, if sum == 0xffff { sum } else { !sum });
}

/// Where a packet's TCP segment or UDP datagram stands.
#[derive(Debug, PartialEq, Eq)]
struct Transport {
    start: usize,
    end: usize,
    /// Of the checksum, from `start`.
    offset: usize,
    /// Sum of the pseudo-header.
    pseudo: u16,
}

impl Transport {
    /// `None` for fragments, packets with extension headers and everything else whose checksum is left as it is.
    fn find(packet: &[u8]) -> Option<Transport> {
        let (protocol, addresses, start, end) = match packet.first()? >> 4 {
            4 if packet.len() >= 20 => {
                // More fragments, or an offset.
                if u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0 {
                    return None;
                }
                let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                (packet[9], &packet[12..20], usize::from(packet[0] & 0xf) * 4, total)
            }
            6 if packet.len() >= 40 => {
                let total = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                (packet[6], &packet[8..40], 40, total)
            }
            _ => return None,
        };
        let (offset, least) = match protocol {
            TCP => (16, 20),
            UDP => (6, 8),
            _ => return None,
        };
        let length = u16::try_from(end.checked_sub(start)?).ok()?;
        if start < 20 || usize::from(length) < least || end > packet.len() {
            return None;
        }
        let pseudo = checksum::combine(&[checksum::sum(addresses), u16::from(protocol), length]);
        Some(Transport { start, end, offset, pseudo })
    }

    fn put(&self, packet: &mut [u8], sum: u16) {
        let field = self.start + self.offset;
        packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, UdpPacket, UdpRepr};

    use super::*;

    fn datagram(source: IpAddress, destination: IpAddress) -> Vec<u8> {
        let udp = UdpRepr { src_port: 53, dst_port: 4000 };
        let ip = IpRepr::new(source, destination, IpProtocol::Udp, udp.header_len() + 5, 64);
        let mut frame = vec![0; ETHERNET + ip.buffer_len()];
        frame[12..ETHERNET].copy_from_slice(if source.version() == smoltcp::wire::IpVersion::Ipv6 {
            &[0x86, 0xdd]
        } else {
            &[0x08, 0]
        });
        ip.emit(&mut frame[ETHERNET..], &ChecksumCapabilities::default());
        let mut packet = UdpPacket::new_unchecked(&mut frame[ETHERNET + ip.header_len()..]);
        udp.emit(
            &mut packet,
            &source,
            &destination,
            5,
            |payload| payload.copy_from_slice(b"hello"),
            &ChecksumCapabilities::default(),
        );
        frame
    }

    fn pairs() -> [(IpAddress, IpAddress); 2] {
        [
            (IpAddress::v4(198, 19, 68, 1), IpAddress::v4(198, 19, 68, 2)),
            (IpAddress::v6(0xfd64, 0, 0, 0, 0, 0, 0, 1), IpAddress::v6(0xfd64, 0, 0, 0, 0, 0, 0, 2)),
        ]
    }

    #[test]
    fn a_whole_checksum_is_what_the_sender_would_have_computed() {
        for (source, destination) in pairs() {
            let right = datagram(source, destination);
            let mut frame = right.clone();
            let field = frame.len() - 13 + 6;
            frame[field..field + 2].fill(0);
            assert_eq!(header(&mut frame, false)[0], 0);
            assert_eq!(frame, right);
        }
    }

    /// What a network card does with the header gives the right checksum.
    #[test]
    fn a_missing_checksum_can_be_completed() {
        for (source, destination) in pairs() {
            let right = datagram(source, destination);
            let mut frame = right.clone();
            let header = header(&mut frame, true);
            assert_eq!(header[0], NEEDS_CHECKSUM);
            let start = usize::from(u16::from_le_bytes([header[6], header[7]]));
            let field = start + usize::from(u16::from_le_bytes([header[8], header[9]]));
            let sum = !checksum::sum(&frame[start..]);
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(frame, right);
        }
    }

    #[test]
    fn fragments_and_what_is_neither_tcp_nor_udp_stay_as_they_are() {
        let (source, destination) = pairs()[0];
        let whole = datagram(source, destination);
        let mut fragment = whole.clone();
        fragment[ETHERNET + 6] = 0x20;
        let mut echo = whole.clone();
        echo[ETHERNET + 9] = 1;
        let mut arp = whole.clone();
        arp[12..14].copy_from_slice(&[8, 6]);
        let cut = whole[..40].to_vec();
        for before in [fragment, echo, arp, cut] {
            let mut frame = before.clone();
            assert_eq!((header(&mut frame, true)[0], frame), (0, before));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_frame_is_a_panic(mut frame: Vec<u8>, partial: bool, six: bool) {
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(if six { &[0x86, 0xdd] } else { &[8, 0] });
                frame[14] = if six { 0x60 } else { 0x45 };
            }
            header(&mut frame, partial);
        }
    }
}
