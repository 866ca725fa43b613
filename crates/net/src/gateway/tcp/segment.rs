//! The few facts of a TCP header that decide where a segment goes, and the reset that answers one which belongs nowhere.

use std::net::SocketAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use crate::gateway::ip::IpPacket;
use crate::gateway::outbound::Outbound;

/// One connection by its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    /// The guest's, or that of one of its containers.
    pub(super) guest: SocketAddr,
    /// Whom the guest believes to talk to.
    pub(super) peer: SocketAddr,
}

/// A segment from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) ends: Ends,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) rst: bool,
    /// Sequence numbers that it takes up: its data, SYN and FIN.
    length: u32,
}

impl Segment {
    /// Reads a TCP packet's header. `None` when it is cut short or a port is 0.
    pub(super) fn parse(packet: &IpPacket<'_>) -> Option<Segment> {
        let tcp = TcpPacket::new_checked(packet.payload).ok()?;
        if tcp.src_port() == 0 || tcp.dst_port() == 0 {
            return None;
        }
        Some(Segment {
            ends: Ends {
                guest: SocketAddr::new(packet.source, tcp.src_port()),
                peer: SocketAddr::new(packet.destination, tcp.dst_port()),
            },
            sequence: tcp.seq_number().0 as u32,
            acknowledgement: tcp.ack_number().0 as u32,
            syn: tcp.syn(),
            ack: tcp.ack(),
            rst: tcp.rst(),
            // Both are far below 2^32.
            length: tcp.segment_len() as u32,
        })
    }

    /// Whether it asks for a new connection.
    pub(super) fn opens(&self) -> bool {
        self.syn && !self.ack && !self.rst
    }

    /// Answers with a reset (RFC 9293, 3.10.7.1). Never to a reset.
    pub(super) fn refuse(&self, outbound: &Outbound) {
        if self.rst {
            return;
        }
        let (source, destination) =
            (IpAddress::from(self.ends.peer.ip()), IpAddress::from(self.ends.guest.ip()));
        let reset = TcpRepr {
            src_port: self.ends.peer.port(),
            dst_port: self.ends.guest.port(),
            control: TcpControl::Rst,
            seq_number: TcpSeqNumber(if self.ack { self.acknowledgement as i32 } else { 0 }),
            ack_number: (!self.ack).then(|| TcpSeqNumber(self.sequence.wrapping_add(self.length) as i32)),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ip = IpRepr::new(source, destination, IpProtocol::Tcp, reset.buffer_len(), 64);
        let checksums = ChecksumCapabilities::default();
        outbound.packet(ip.buffer_len(), |packet| {
            ip.emit(&mut *packet, &checksums);
            let mut tcp = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
            reset.emit(&mut tcp, &source, &destination, &checksums);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, data: &[u8]) -> Segment {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 198, 19, 68, 2, 203, 0, 113, 1];
        packet
            .extend_from_slice(&[0x9c, 0x40, 0, 80, 0, 0, 0, 100, 0, 0, 1, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(data);
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        Segment::parse(&IpPacket::parse(&packet).unwrap()).unwrap()
    }

    /// RFC 9293, 3.10.7.1: a reset acknowledges what did not acknowledge, and otherwise bears the number acknowledged.
    #[test]
    fn a_refusal_is_one_that_the_sender_believes() {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        const RST: u8 = 0x04;
        for (flags, data, expected) in [
            (SYN, &b""[..], Some((0, Some(101)))),
            (SYN, b"data", Some((0, Some(105)))),
            (ACK, b"data", Some((256, None))),
            (RST, b"", None),
            (RST | ACK, b"", None),
        ] {
            let (outbound, _) = Outbound::for_test();
            segment(flags, data).refuse(&outbound);
            let answers: Vec<_> = outbound
                .frames()
                .iter()
                .map(|frame| {
                    let packet = IpPacket::parse(&frame[14..]).unwrap();
                    let tcp = TcpPacket::new_checked(packet.payload).unwrap();
                    assert!(tcp.rst() && tcp.dst_port() == 40_000 && tcp.src_port() == 80);
                    let acknowledged = tcp.ack().then(|| tcp.ack_number().0);
                    (tcp.seq_number().0, acknowledged)
                })
                .collect();
            assert_eq!(answers.first().copied(), expected, "flags {flags:#x}");
        }
    }
}
