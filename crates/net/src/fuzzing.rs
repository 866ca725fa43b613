//! What a guest's bytes go through, one entry for each target of `fuzz/`, so that the corpus is replayed by the ordinary tests
//! too. Each entry checks what must hold of every answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_model::network::{GATEWAY, GATEWAY_MAC, GATEWAY6, GUEST, GUEST_MAC, GUEST6, HOST, HOST6};

use crate::gateway::Counters;
use crate::gateway::ip::IpPacket;
use crate::packet::ethernet::Frame;
use crate::packet::fragments::Fragments;
use crate::packet::icmp::{self, Message, Problem};
use crate::packet::ip::{Datagram, Pair};
use crate::packet::{arp, dhcp, is_ours, ndp, udp};

/// What a target does with bytes.
pub type Entry = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Entry)] = &[
    ("frame", frame),
    ("arp", arp),
    ("ndp", ndp),
    ("dhcp", dhcp),
    ("fragments", fragments),
    ("icmp", icmp),
    ("station", station),
    ("tcp", tcp),
    ("question", question),
    ("reply", reply),
    ("sniff", sniff),
];

/// The protocol's number.
const TCP: u8 = 6;
const PROBLEMS: [Problem; 7] = [
    Problem::Network,
    Problem::Host,
    Problem::Protocol,
    Problem::Port,
    Problem::Prohibited,
    Problem::TooBig(1400),
    Problem::Hops,
];

/// One Ethernet frame, through everything that only looks at bytes.
pub fn frame(bytes: &[u8]) {
    answers_arp(bytes);
    let Some(frame) = Frame::parse(bytes) else { return };
    answers_ndp(frame.payload);
    let Ok(packet) = IpPacket::parse(frame.payload) else { return };
    let Some(pair) = Pair::new(packet.source, packet.destination) else { return };
    if let Some(datagram) = udp::Udp::parse(packet.payload) {
        answers_dhcp(datagram.payload);
    }
    message(pair, packet.payload);
    for problem in PROBLEMS {
        error(packet.bytes, problem);
    }
}

/// An ARP packet behind a header that is right.
pub fn arp(bytes: &[u8]) {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&GUEST_MAC);
    frame.extend_from_slice(&[8, 6]);
    frame.extend_from_slice(bytes);
    answers_arp(&frame);
}

/// An ICMPv6 message with a checksum that is right, between addresses that the first byte chooses.
pub fn ndp(bytes: &[u8]) {
    let Some((choice, message)) = bytes.split_first() else { return };
    let source = match choice & 3 {
        0 => Ipv6Addr::UNSPECIFIED,
        1 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
        _ => GUEST6,
    };
    let destination = match (choice >> 2) & 3 {
        0 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2),
        1 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
        2 => GATEWAY6,
        _ => HOST6,
    };
    let pair = Pair::V6(source, destination);
    let message = summed(pair, message);
    let datagram =
        Datagram { pair, protocol: icmp::PROTOCOL6, hops: 255, identification: 0, message: &message };
    if let Some(packet) = datagram.to_vec() {
        answers_ndp(&packet);
    }
}

/// A DHCP message as it is, and as the options of one that is right before them.
pub fn dhcp(bytes: &[u8]) {
    answers_dhcp(bytes);
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&GUEST_MAC);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(bytes);
    answers_dhcp(&message);
}

/// A series of fragments, five bytes each: family, last and time; which datagram; where; how long.
pub fn fragments(bytes: &[u8]) {
    let counters = Arc::new(Counters::default());
    let mut fragments = Fragments::new(counters);
    let mut now = Instant::now();
    for step in bytes.as_chunks::<5>().0 {
        let [flags, which, high, low, length] = *step;
        let (six, more) = (flags & 1 == 1, flags & 2 == 2);
        now += Duration::from_secs((flags >> 6).into());
        let offset = u16::from_be_bytes([high, low]) & 0xfff8;
        let length = usize::from(length) * if flags & 4 == 4 { 64 } else { 1 };
        let data = vec![which; length];
        let mut packet = Vec::new();
        if six {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&((8 + length) as u16).to_be_bytes());
            packet.extend_from_slice(&[44, 64]);
            packet.extend_from_slice(&GUEST6.octets());
            packet.extend_from_slice(&HOST6.octets());
            packet.extend_from_slice(&[udp::PROTOCOL, 0]);
            packet.extend_from_slice(&(offset | u16::from(more)).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, which]);
        } else {
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&((20 + length) as u16).to_be_bytes());
            packet.extend_from_slice(&[0, which]);
            let field = (offset / 8) | if more { 0x2000 } else { 0 };
            packet.extend_from_slice(&field.to_be_bytes());
            packet.extend_from_slice(&[64, udp::PROTOCOL, 0, 0]);
            packet.extend_from_slice(&GUEST.octets());
            packet.extend_from_slice(&HOST.octets());
        }
        packet.extend_from_slice(&data);
        let Ok(parsed) = IpPacket::parse(&packet) else { continue };
        if !parsed.fragment {
            continue;
        }
        if let Some(whole) = fragments.add(&parsed, now) {
            let whole = IpPacket::parse(&whole);
            assert!(
                whole.is_ok_and(|whole| {
                    !whole.fragment && whole.payload.iter().all(|byte| *byte == which)
                })
            );
        }
        assert!(fragments.held() <= 1 << 20);
    }
}

/// An ICMP message of either family with a checksum that is right; its body is also taken as a packet that failed.
pub fn icmp(bytes: &[u8]) {
    for pair in [Pair::V4(GUEST, GATEWAY), Pair::V6(GUEST6, GATEWAY6)] {
        message(pair, &summed(pair, bytes));
    }
    for problem in PROBLEMS {
        error(bytes, problem);
    }
}

/// Frames to the whole station, each behind its length of 16 bits.
pub fn station(bytes: &[u8]) {
    crate::gateway::fuzz_station(bytes);
}

/// TCP segments to the gateway's own port for names, with checksums that are right. Each is told by six bytes: family and how its
/// sequence number moves, its flags, how long its options are, how much data follows, its window; then come the options' bytes.
pub fn tcp(mut bytes: &[u8]) {
    let mut frames = Vec::new();
    let mut sequence = 1000_u32;
    while let Some(([family, flags, options, data, window, port], rest)) = bytes.split_first_chunk::<6>() {
        // The header's length is told in words of four bytes, 15 at most, five of them its own.
        let (options, rest) = rest.split_at(rest.len().min(usize::from(options % 41) & !3));
        bytes = rest;
        let pair = if family & 1 == 1 { Pair::V6(GUEST6, GATEWAY6) } else { Pair::V4(GUEST, GATEWAY) };
        sequence = sequence.wrapping_add(u32::from(family >> 1));
        let mut segment = (40_000 + u16::from(port & 3)).to_be_bytes().to_vec();
        segment.extend([0, 53]);
        segment.extend(sequence.to_be_bytes());
        segment.extend([0; 4]);
        segment.push(u8::try_from(5 + options.len().div_ceil(4)).unwrap_or(15) << 4);
        segment.extend([*flags, *window, *window, 0, 0, 0, 0]);
        segment.extend_from_slice(options);
        segment.resize(segment.len().next_multiple_of(4), 0);
        segment.resize(segment.len() + usize::from(*data), *data);
        let sum = pair.checksum(TCP, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let datagram = Datagram { pair, protocol: TCP, hops: 64, identification: 0, message: &segment };
        let Some(packet) = datagram.to_vec() else { continue };
        let kind = if family & 1 == 1 { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&GATEWAY_MAC[..], &GUEST_MAC, &kind, &packet].concat();
        frames.extend(u16::try_from(frame.len()).unwrap_or(0).to_be_bytes());
        frames.extend(frame);
    }
    crate::gateway::fuzz_station(&frames);
}

/// What a guest asks of our DNS.
pub fn question(bytes: &[u8]) {
    crate::dns::fuzzing::question(bytes);
}

/// What one of the host's resolvers answers.
pub fn reply(bytes: &[u8]) {
    crate::dns::fuzzing::reply(bytes);
}

/// What a connection says first: the egress policy looks for a name in it.
pub fn sniff(bytes: &[u8]) {
    crate::policy::fuzz_sniff(bytes);
}

/// A message with its checksum put right, if there is room for one.
fn summed(pair: Pair, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if message.len() >= 4 {
        icmp::finish(pair, &mut message);
    }
    message
}

fn answers_arp(frame: &[u8]) {
    if let Some(reply) = arp::answer(frame) {
        let address = Ipv4Addr::new(reply[28], reply[29], reply[30], reply[31]);
        assert!(is_ours(address.into()) && reply[20..22] == [0, 2]);
    }
}

fn answers_ndp(packet: &[u8]) {
    let Some(answer) = ndp::answer(packet) else { return };
    let intact = IpPacket::parse(&answer).is_ok_and(|packet| {
        let pair = Pair::new(packet.source, packet.destination);
        is_ours(packet.source)
            && packet.hop_limit == 255
            && pair.is_some_and(|pair| icmp::intact(pair, packet.payload))
    });
    assert!(intact, "{answer:?}");
}

fn answers_dhcp(message: &[u8]) {
    if let Some(reply) = dhcp::answer(message) {
        assert!(reply.payload.len() >= 300 && reply.payload[0] == 2);
    }
}

fn message(pair: Pair, bytes: &[u8]) {
    match icmp::parse(pair, bytes) {
        Ok(Message::Request(echo)) => assert_eq!(icmp::reply(pair, echo).len(), bytes.len()),
        Ok(Message::Error(quoted)) => {
            if let Some((sender, receiver)) = icmp::quoted_udp(quoted) {
                assert_eq!(sender.is_ipv4(), receiver.is_ipv4());
            }
        }
        _ => {}
    }
}

fn error(about: &[u8], problem: Problem) {
    for from in [IpAddr::V4(GATEWAY), IpAddr::V6(GATEWAY6)] {
        let Some(error) = icmp::error(from, about, problem) else { continue };
        let whole = IpPacket::parse(&error).is_ok_and(|packet| {
            let pair = Pair::new(packet.source, packet.destination);
            packet.bytes.len() == error.len()
                && error.len() <= 1280
                && pair.is_some_and(|pair| matches!(icmp::parse(pair, packet.payload), Ok(Message::Error(_))))
        });
        assert!(whole, "{error:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 3: "a replayed corpus in CI".
    #[test]
    fn the_corpus_does_no_harm() {
        dhow_testkit::corpus::replay(env!("CARGO_MANIFEST_DIR"), TARGETS).unwrap();
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }
    }
}
