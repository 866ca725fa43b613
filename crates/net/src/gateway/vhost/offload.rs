//! The header that stands before each frame on a ring (virtio 1.2, 5.1.6), and checksums that nobody computes: a packet
//! that never left this host cannot be damaged, so its checksum is only said to be missing, in the way that a network card
//! with offloads has it. The guest's kernel completes it if the packet leaves over something that needs it.

use crate::packet::checksum;

/// Length of the header, bytes.
pub(super) const HEADER: usize = 12;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The header for a frame to the guest. With `partial` the guest has said that it takes missing checksums: the field then
/// holds the sum of the pseudo-header only. Otherwise the whole checksum is put in.
pub(super) fn header(frame: &mut [u8], partial: bool) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    // One buffer.
    header[10] = 1;
    let Some(transport) = Transport::find(frame) else { return header };
    let field = transport.start + transport.offset;
    let pseudo = transport.pseudo;
    if partial {
        frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&(transport.start as u16).to_le_bytes());
        header[8..10].copy_from_slice(&(transport.offset as u16).to_le_bytes());
    } else {
        frame[field..field + 2].fill(0);
        let sum = checksum::combine(&[pseudo, checksum::sum(&frame[transport.start..transport.end])]);
        // Zero means "none" to UDP; its complement says the same number.
        let sum = if sum == 0xffff { sum } else { !sum };
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    header
}

/// Where a frame's TCP segment or UDP datagram stands.
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
    fn find(frame: &[u8]) -> Option<Transport> {
        let packet = frame.get(ETHERNET..)?;
        let (protocol, addresses, header, total) = match packet.first()? >> 4 {
            4 if packet.len() >= 20 && frame[12..ETHERNET] == [0x08, 0] => {
                // More fragments, or an offset.
                if u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0 {
                    return None;
                }
                let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                (packet[9], &packet[12..20], usize::from(packet[0] & 0xf) * 4, total)
            }
            6 if packet.len() >= 40 && frame[12..ETHERNET] == [0x86, 0xdd] => {
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
        let length = total.checked_sub(header)?;
        if header < 20 || length < least || total > packet.len() {
            return None;
        }
        let length = u16::try_from(length).ok()?;
        let pseudo = checksum::combine(&[checksum::sum(addresses), u16::from(protocol), length]);
        Some(Transport { start: ETHERNET + header, end: ETHERNET + total, offset, pseudo })
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
