//! What the pure parts answer, and that nothing a guest sends makes them panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_model::network::*;
use proptest::prelude::*;

use super::fragments::Fragments;
use super::icmp::{self, Problem};
use super::ip::{Datagram, Pair};
use super::{arp, dhcp, ethernet, ndp, udp};
use crate::gateway::ip::IpPacket;
use crate::gateway::{Counters, Reason};

/// Every packet that a datagram becomes.
fn packets(datagram: Datagram<'_>) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    assert!(datagram.emit(|length, write| {
        let mut buffer = vec![0xaa; length];
        write(&mut buffer);
        packets.push(buffer);
        true
    }));
    packets
}

fn pair(six: bool) -> Pair {
    if six {
        Pair::V6(GUEST6, "2001:db8::9".parse().unwrap())
    } else {
        Pair::V4(GUEST, Ipv4Addr::new(192, 0, 2, 9))
    }
}

fn udp_message(pair: Pair, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) = match pair {
        Pair::V4(source, destination) => (source.into(), destination.into()),
        Pair::V6(source, destination) => (source.into(), destination.into()),
    };
    let mut message = vec![0; 8];
    message.extend_from_slice(payload);
    assert!(udp::write(SocketAddr::new(source, 4000), SocketAddr::new(destination, 53), &mut message));
    message
}

mod arp_answers {
    use super::*;

    fn request(target: Ipv4Addr, sender: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&GUEST_MAC);
        frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend_from_slice(&GUEST_MAC);
        frame.extend_from_slice(&sender.octets());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&target.octets());
        frame.extend_from_slice(&[0; 18]);
        frame
    }

    #[test]
    fn the_gateway_has_its_own_addresses() {
        for address in [GATEWAY, HOST, HOST_INTERFACE] {
            let reply = arp::answer(&request(address, GUEST)).unwrap();
            assert_eq!(reply[..6], GUEST_MAC);
            assert_eq!(reply[6..12], GATEWAY_MAC);
            assert_eq!(reply[20..22], [0, 2]);
            assert_eq!(reply[22..28], GATEWAY_MAC);
            assert_eq!(reply[28..32], address.octets());
            assert_eq!(reply[32..38], GUEST_MAC);
            assert_eq!(reply[38..], GUEST.octets());
        }
    }

    #[test]
    fn nobody_has_the_guests_address_or_a_free_one() {
        for target in [GUEST, Ipv4Addr::new(198, 19, 68, 77), Ipv4Addr::BROADCAST, Ipv4Addr::new(8, 8, 8, 8)]
        {
            assert_eq!(arp::answer(&request(target, Ipv4Addr::UNSPECIFIED)), None);
        }
    }

    #[test]
    fn replies_and_group_senders_are_not_answered() {
        let mut reply = request(GATEWAY, GUEST);
        reply[21] = 2;
        assert_eq!(arp::answer(&reply), None);
        let mut group = request(GATEWAY, GUEST);
        group[6] |= 1;
        assert_eq!(arp::answer(&group), None);
        let mut group = request(GATEWAY, GUEST);
        group[22] |= 1;
        assert_eq!(arp::answer(&group), None);
    }
}

mod ndp_answers {
    use super::*;

    fn message(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8], hops: u8) -> Vec<u8> {
        let pair = Pair::V6(source, destination);
        let mut message = message.to_vec();
        let sum = pair.checksum(58, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Datagram { pair, protocol: 58, hops, identification: 0, message: &message }.to_vec().unwrap()
    }

    fn solicitation(target: Ipv6Addr) -> Vec<u8> {
        let mut bytes = vec![135, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&target.octets());
        bytes.extend_from_slice(&[1, 1]);
        bytes.extend_from_slice(&GUEST_MAC);
        bytes
    }

    fn group(target: Ipv6Addr) -> Ipv6Addr {
        let octets = target.octets();
        let mut group = "ff02::1:ff00:0".parse::<Ipv6Addr>().unwrap().octets();
        group[13..].copy_from_slice(&octets[13..]);
        group.into()
    }

    fn check(answer: &[u8]) -> (IpPacket<'_>, &[u8]) {
        let packet = IpPacket::parse(answer).unwrap();
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else {
            panic!()
        };
        assert!(icmp::intact(Pair::V6(source, destination), packet.payload));
        assert_eq!((packet.hop_limit, packet.bytes.len()), (255, answer.len()));
        (packet, packet.payload)
    }

    #[test]
    fn the_gateway_has_its_own_addresses() {
        for target in [GATEWAY6, HOST6, HOST_INTERFACE6, ndp::LINK_LOCAL] {
            for destination in [group(target), target] {
                let asked = message(GUEST6, destination, &solicitation(target), 255);
                let answer = ndp::answer(&asked).unwrap();
                let (packet, advert) = check(&answer);
                assert_eq!((packet.source, packet.destination), (target.into(), GUEST6.into()));
                assert_eq!((advert[0], advert[4] & 0x60), (136, 0x60));
                assert_eq!(advert[4] & 0x80 != 0, target == GATEWAY6 || target == ndp::LINK_LOCAL);
                assert_eq!(advert[8..24], target.octets());
                assert_eq!(advert[26..32], GATEWAY_MAC);
            }
        }
    }

    #[test]
    fn a_check_for_duplicates_is_answered_to_everyone_for_ours_and_never_for_the_guests() {
        let nobody = Ipv6Addr::UNSPECIFIED;
        let asked = message(nobody, group(GATEWAY6), &solicitation(GATEWAY6), 255);
        let answer = ndp::answer(&asked).unwrap();
        let (packet, advert) = check(&answer);
        assert_eq!((packet.destination, advert[4] & 0x40), ("ff02::1".parse().unwrap(), 0));
        assert_eq!(ndp::answer(&message(nobody, group(GUEST6), &solicitation(GUEST6), 255)), None);
    }

    #[test]
    fn what_came_from_beyond_the_link_or_is_damaged_is_not_answered() {
        let asked = solicitation(GATEWAY6);
        assert_eq!(ndp::answer(&message(GUEST6, GATEWAY6, &asked, 254)), None);
        let mut damaged = message(GUEST6, GATEWAY6, &asked, 255);
        damaged[42] ^= 1;
        assert_eq!(ndp::answer(&damaged), None);
        let mut endless = asked.clone();
        endless[25] = 0;
        assert_eq!(ndp::answer(&message(GUEST6, GATEWAY6, &endless, 255)), None);
    }

    #[test]
    fn a_router_solicitation_learns_of_the_prefix_and_makes_no_address_from_it() {
        let source = "fe80::2".parse().unwrap();
        let asked = message(source, "ff02::2".parse().unwrap(), &[133, 0, 0, 0, 0, 0, 0, 0], 255);
        let answer = ndp::answer(&asked).unwrap();
        let (packet, advert) = check(&answer);
        assert_eq!((packet.source, packet.destination), (ndp::LINK_LOCAL.into(), source.into()));
        // Neither managed addresses nor other configuration, a router for long.
        assert_eq!((advert[0], advert[5], &advert[6..8]), (134, 0, &[0xff, 0xff][..]));
        let mut options = &advert[16..];
        let mut kinds = Vec::new();
        while !options.is_empty() {
            let (option, rest) = options.split_at(usize::from(options[1]) * 8);
            match option[0] {
                3 => {
                    assert_eq!((option[2], option[3]), (64, 0x80), "on link, not autonomous");
                    assert_eq!(option[16..24], GATEWAY6.octets()[..8]);
                }
                5 => assert_eq!(option[4..8], MTU.to_be_bytes()),
                25 => assert_eq!(option[8..24], GATEWAY6.octets()),
                _ => {}
            }
            kinds.push(option[0]);
            options = rest;
        }
        assert_eq!(kinds, [1, 5, 3, 25, 31]);
    }
}

mod dhcp_answers {
    use super::*;

    pub(super) fn request(kind: u8, client: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; 240];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(&[1, 2, 3, 4]);
        message[12..16].copy_from_slice(&client.octets());
        message[28..34].copy_from_slice(&GUEST_MAC);
        message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        message.extend_from_slice(&[53, 1, kind]);
        for (code, value) in options {
            message.extend_from_slice(&[*code, value.len() as u8]);
            message.extend_from_slice(value);
        }
        message.push(255);
        message
    }

    fn option(message: &[u8], code: u8) -> Option<Vec<u8>> {
        let mut options = &message[240..];
        while options[0] != 255 {
            let (head, rest) = options.split_at(2);
            let (value, rest) = rest.split_at(usize::from(head[1]));
            if head[0] == code {
                return Some(value.to_vec());
            }
            options = rest;
        }
        None
    }

    const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    #[test]
    fn a_discovery_is_offered_the_one_lease() {
        let reply = dhcp::answer(&request(1, NOBODY, &[])).unwrap();
        assert_eq!((reply.to, reply.payload.len() >= 300), (GUEST, true));
        assert_eq!(reply.payload[4..8], [1, 2, 3, 4]);
        assert_eq!(reply.payload[16..20], GUEST.octets());
        assert_eq!(reply.payload[28..34], GUEST_MAC);
        for (code, value) in [
            (53, vec![2]),
            (54, GATEWAY.octets().to_vec()),
            (1, vec![255, 255, 255, 0]),
            (3, GATEWAY.octets().to_vec()),
            (6, GATEWAY.octets().to_vec()),
            (15, b"dhow.internal".to_vec()),
            (26, vec![0xff, 0xf0]),
            (28, vec![198, 19, 68, 255]),
            (51, vec![0, 1, 0x51, 0x80]),
        ] {
            assert_eq!(option(&reply.payload, code), Some(value), "option {code}");
        }
    }

    #[test]
    fn a_request_is_acknowledged_or_refused_by_the_address_it_wants() {
        let (ours, theirs) = (GATEWAY.octets(), [10, 0, 0, 1]);
        let guest = GUEST.octets();
        let kind = |message: &[u8]| dhcp::answer(message).map(|reply| option(&reply.payload, 53).unwrap()[0]);
        assert_eq!(kind(&request(3, NOBODY, &[(50, &guest), (54, &ours)])), Some(5));
        assert_eq!(kind(&request(3, GUEST, &[])), Some(5));
        assert_eq!(kind(&request(3, NOBODY, &[(50, &theirs)])), Some(6));
        assert_eq!(kind(&request(3, NOBODY, &[(50, &guest), (54, &theirs)])), None, "another server's");
        assert_eq!(kind(&request(3, NOBODY, &[])), None, "no address at all");
    }

    #[test]
    fn who_cannot_take_packets_yet_is_told_by_broadcast() {
        let mut message = request(1, NOBODY, &[]);
        message[10] = 0x80;
        assert_eq!(dhcp::answer(&message).unwrap().to, Ipv4Addr::BROADCAST);
        assert_eq!(
            dhcp::answer(&request(3, NOBODY, &[(50, &[10, 0, 0, 1])])).unwrap().to,
            Ipv4Addr::BROADCAST
        );
    }

    #[test]
    fn to_inform_gives_options_but_no_lease_and_a_release_no_answer() {
        let reply = dhcp::answer(&request(8, GUEST, &[])).unwrap();
        assert_eq!((&reply.payload[16..20], option(&reply.payload, 51)), (&[0, 0, 0, 0][..], None));
        assert!(option(&reply.payload, 6).is_some());
        assert_eq!(dhcp::answer(&request(7, GUEST, &[])), None);
    }

    #[test]
    fn relays_replies_and_options_cut_short_are_not_answered() {
        let mut relayed = request(1, NOBODY, &[]);
        relayed[24] = 10;
        assert_eq!(dhcp::answer(&relayed), None);
        let mut reply = request(1, NOBODY, &[]);
        reply[0] = 2;
        assert_eq!(dhcp::answer(&reply), None);
        let mut short = request(1, NOBODY, &[(12, b"name")]);
        short.truncate(short.len() - 3);
        assert_eq!(dhcp::answer(&short), None);
    }
}

mod reassembly {
    use super::*;

    fn fragments() -> (Fragments, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Fragments::new(counters.clone()), counters)
    }

    /// A datagram in fragments of a size that the guest chose.
    fn cut(six: bool, identification: u32, message: &[u8], step: usize) -> Vec<Vec<u8>> {
        let count = message.len().div_ceil(step);
        message
            .chunks(step)
            .enumerate()
            .map(|(index, piece)| piece_at(six, identification, index * step, index + 1 < count, piece))
            .collect()
    }

    fn piece_at(six: bool, identification: u32, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        if six {
            message.extend_from_slice(&[17, 0]);
            message.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
            message.extend_from_slice(&identification.to_be_bytes());
        }
        message.extend_from_slice(data);
        let protocol = if six { 44 } else { 17 };
        let pair = pair(six);
        let mut packet =
            Datagram { pair, protocol, hops: 64, identification, message: &message }.to_vec().unwrap();
        if !six {
            let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
            packet[6..8].copy_from_slice(&field.to_be_bytes());
        }
        packet
    }

    fn add(fragments: &mut Fragments, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        let packet = IpPacket::parse(packet).unwrap();
        assert!(packet.fragment);
        fragments.add(&packet, now)
    }

    #[test]
    fn what_is_cut_by_the_gateway_is_whole_again() {
        for six in [false, true] {
            let (mut fragments, counters) = fragments();
            let payload: Vec<u8> = (0..65_507_u32).map(|index| (index * 7) as u8).collect();
            let message = udp_message(pair(six), &payload);
            let datagram =
                Datagram { pair: pair(six), protocol: 17, hops: 64, identification: 7, message: &message };
            let cut = packets(datagram);
            assert!(cut.len() == 2 && cut.iter().all(|packet| packet.len() <= MTU as usize));
            let now = Instant::now();
            assert_eq!(add(&mut fragments, &cut[1], now), None);
            let whole = add(&mut fragments, &cut[0], now).unwrap();
            let packet = IpPacket::parse(&whole).unwrap();
            assert!(!packet.fragment && packet.payload == message);
            assert_eq!(udp::Udp::parse(pair(six), packet.payload).unwrap().payload, payload);
            assert!(counters.metrics().drops.is_empty());
        }
    }

    /// Any order, any size, doubled fragments: the datagram comes once and as it was.
    #[test]
    fn order_and_doubles_do_not_matter() {
        for (six, step) in [(false, 8), (true, 1232), (false, 1480), (true, 24)] {
            let (mut fragments, _) = fragments();
            let message = udp_message(pair(six), &[0x5a; 4000]);
            let mut pieces = cut(six, 9, &message, step);
            pieces.reverse();
            if pieces.len() > 1 {
                pieces.insert(1, pieces[0].clone());
            }
            let now = Instant::now();
            let done: Vec<_> = pieces.iter().filter_map(|piece| add(&mut fragments, piece, now)).collect();
            assert_eq!(done.len(), 1);
            assert_eq!(IpPacket::parse(&done[0]).unwrap().payload, message);
        }
    }

    #[test]
    fn an_overlap_gives_the_datagram_away() {
        for six in [false, true] {
            let (mut fragments, counters) = fragments();
            let now = Instant::now();
            assert_eq!(add(&mut fragments, &piece_at(six, 1, 0, true, &[1; 64]), now), None);
            assert_eq!(add(&mut fragments, &piece_at(six, 1, 56, false, &[2; 64]), now), None);
            assert_eq!(counters.drops(Reason::FragmentOverlap), 1);
            assert_eq!(
                add(&mut fragments, &piece_at(six, 1, 64, false, &[2; 64]), now),
                None,
                "nothing was kept"
            );
            // Two ends.
            assert_eq!(add(&mut fragments, &piece_at(six, 2, 64, false, &[2; 64]), now), None);
            assert_eq!(add(&mut fragments, &piece_at(six, 2, 128, false, &[2; 8]), now), None);
            assert_eq!(counters.drops(Reason::FragmentOverlap), 2);
        }
    }

    #[test]
    fn after_fifteen_seconds_the_rest_is_too_late() {
        let (mut fragments, counters) = fragments();
        let now = Instant::now();
        let pieces = cut(false, 1, &[3; 64], 32);
        assert_eq!(add(&mut fragments, &pieces[0], now), None);
        assert_eq!(add(&mut fragments, &pieces[1], now + Duration::from_secs(15)), None);
        assert_eq!(counters.drops(Reason::FragmentTimeout), 1);
    }

    #[test]
    fn of_many_unfinished_datagrams_the_oldest_go() {
        let (mut fragments, counters) = fragments();
        let now = Instant::now();
        for identification in 0..1000 {
            // The largest offset: each holds nearly 64 KiB.
            assert_eq!(add(&mut fragments, &piece_at(true, identification, 65_528, true, &[]), now), None);
            assert_eq!(
                add(&mut fragments, &piece_at(true, identification, 65_520, false, &[0; 15]), now),
                None
            );
        }
        assert_eq!(counters.drops(Reason::FragmentLimit), 984);
        assert_eq!(counters.drops(Reason::Malformed), 1000);
        let begin = piece_at(true, 999, 0, true, &vec![0; 65_400]);
        assert_eq!(add(&mut fragments, &begin, now), None);
        let rest = piece_at(true, 999, 65_400, true, &[0; 120]);
        assert_eq!(add(&mut fragments, &rest, now).unwrap().len(), 40 + 65_535);
    }

    #[test]
    fn longer_than_ip_can_say_is_refused() {
        let (mut fragments, counters) = fragments();
        let now = Instant::now();
        assert_eq!(add(&mut fragments, &piece_at(false, 1, 65_512, false, &[0; 8]), now), None);
        assert_eq!(add(&mut fragments, &piece_at(true, 1, 65_528, false, &[0; 8]), now), None);
        assert_eq!(counters.drops(Reason::TooBig), 2);
    }

    proptest! {
        #[test]
        fn no_order_of_any_fragments_is_a_panic(
            pieces in prop::collection::vec((any::<bool>(), 0_u32..3, 0_usize..8192, any::<bool>(), 0_usize..64), 0..200)
        ) {
            let (mut fragments, _) = fragments();
            let now = Instant::now();
            for (six, identification, unit, more, length) in pieces {
                let offset = unit * 8 % 65_536;
                let length = if more { length * 8 } else { length };
                let packet = piece_at(six, identification, offset, more, &vec![1; length]);
                let parsed = IpPacket::parse(&packet).unwrap();
                if parsed.fragment && let Some(whole) = fragments.add(&parsed, now) {
                    prop_assert!(!IpPacket::parse(&whole).unwrap().fragment);
                }
            }
        }

        #[test]
        fn every_cut_is_whole_again(six: bool, length in 1_usize..4000, step in 1_usize..60, seed: u64) {
            let (mut fragments, _) = fragments();
            let message: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut pieces = cut(six, 3, &message, step * 8);
            prop_assume!(pieces.len() > 1);
            prop_assume!(pieces.len() <= 200);
            let count = pieces.len();
            for index in 0..count {
                pieces.swap(index, (seed as usize).wrapping_mul(index + 7) % count);
            }
            let now = Instant::now();
            let done: Vec<_> = pieces.iter().filter_map(|piece| add(&mut fragments, piece, now)).collect();
            prop_assert_eq!(done.len(), 1);
            prop_assert_eq!(IpPacket::parse(&done[0]).unwrap().payload, &message[..]);
        }
    }
}

mod icmp_messages {
    use super::*;

    #[test]
    fn an_error_quotes_the_packet_that_it_is_about() {
        for (six, problem, begin) in [
            (false, Problem::Port, [3, 3]),
            (false, Problem::Network, [3, 0]),
            (false, Problem::Host, [3, 1]),
            (false, Problem::TooBig(1400), [3, 4]),
            (false, Problem::Prohibited, [3, 13]),
            (false, Problem::Hops, [11, 0]),
            (true, Problem::Port, [1, 4]),
            (true, Problem::Host, [1, 3]),
            (true, Problem::TooBig(1400), [2, 0]),
            (true, Problem::Hops, [3, 0]),
        ] {
            let message = udp_message(pair(six), &[0; 2000]);
            let about =
                Datagram { pair: pair(six), protocol: 17, hops: 64, identification: 7, message: &message };
            let about = about.to_vec().unwrap();
            let from: IpAddr = if six { GATEWAY6.into() } else { GATEWAY.into() };
            let error = icmp::error(from, &about, problem).unwrap();
            let packet = IpPacket::parse(&error).unwrap();
            let back = Pair::new(packet.source, packet.destination).unwrap();
            assert_eq!(packet.payload[..2], begin);
            assert_eq!(packet.bytes.len(), if six { 1280 } else { 576 });
            let Ok(icmp::Message::Error(quoted)) = icmp::parse(back, packet.payload) else { panic!() };
            assert_eq!(quoted, &about[..quoted.len()]);
            let (source, destination) = icmp::quoted_udp(quoted).unwrap();
            assert_eq!((source.port(), destination.port()), (4000, 53));
            // Errors about errors would go on for ever.
            assert_eq!(icmp::error(packet.destination, &error, Problem::Port), None);
        }
    }

    #[test]
    fn the_mtu_stands_where_the_sender_looks_for_it() {
        for six in [false, true] {
            let message = udp_message(pair(six), &[0; 20]);
            let about =
                Datagram { pair: pair(six), protocol: 17, hops: 64, identification: 7, message: &message };
            let from: IpAddr = if six { GATEWAY6.into() } else { GATEWAY.into() };
            let error = icmp::error(from, &about.to_vec().unwrap(), Problem::TooBig(1400)).unwrap();
            let payload = IpPacket::parse(&error).unwrap().payload;
            assert_eq!(payload[4..8], 1400_u32.to_be_bytes());
        }
    }

    #[test]
    fn groups_nobody_and_later_fragments_hear_of_no_error() {
        let to_group = Pair::V4(GUEST, Ipv4Addr::new(224, 0, 0, 251));
        let message = udp_message(pair(false), &[0; 20]);
        let about = |pair| {
            Datagram { pair, protocol: 17, hops: 64, identification: 7, message: &message }.to_vec().unwrap()
        };
        assert_eq!(icmp::error(GATEWAY.into(), &about(to_group), Problem::Port), None);
        let from_nobody = Pair::V4(Ipv4Addr::UNSPECIFIED, GATEWAY);
        assert_eq!(icmp::error(GATEWAY.into(), &about(from_nobody), Problem::Port), None);
        let mut later = about(pair(false));
        later[7] = 1;
        assert_eq!(icmp::error(GATEWAY.into(), &later, Problem::Port), None);
    }

    #[test]
    fn an_error_about_a_datagram_that_is_gone_names_its_ends_and_length() {
        for six in [false, true] {
            let (source, destination): (IpAddr, IpAddr) =
                if six { (GUEST6.into(), HOST6.into()) } else { (GUEST.into(), HOST.into()) };
            let sent = (SocketAddr::new(source, 5000), SocketAddr::new(destination, 9));
            let error = icmp::udp_error(destination, sent, 3000, b"begin", Problem::Port).unwrap();
            let packet = IpPacket::parse(&error).unwrap();
            let back = Pair::new(packet.source, packet.destination).unwrap();
            let Ok(icmp::Message::Error(quoted)) = icmp::parse(back, packet.payload) else { panic!() };
            assert_eq!(icmp::quoted_udp(quoted), Some(sent));
            let header = if six { 40 } else { 20 };
            assert_eq!(quoted[header + 4..header + 6], 3008_u16.to_be_bytes());
            assert_eq!(&quoted[header + 8..], b"begin");
        }
    }

    #[test]
    fn an_echo_comes_back_as_it_was() {
        for six in [false, true] {
            let echo = icmp::Echo { identifier: 77, sequence: 3, data: b"abcdefgh" };
            let message = icmp::request(pair(six), echo);
            assert_eq!(icmp::parse(pair(six), &message), Ok(icmp::Message::Request(echo)));
            assert_eq!(icmp::parse(pair(six), &icmp::reply(pair(six), echo)), Ok(icmp::Message::Reply(echo)));
            let mut damaged = message;
            damaged[9] ^= 1;
            assert_eq!(icmp::parse(pair(six), &damaged), Err(Reason::BadChecksum));
        }
    }
}

proptest! {
    #[test]
    fn no_frame_is_a_panic_and_every_answer_is_for_the_gateway(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400), shape in 0..4
    ) {
        let put = |bytes: &mut Vec<u8>, at: usize, what: &[u8]| {
            if bytes.len() >= at + what.len() {
                bytes[at..at + what.len()].copy_from_slice(what);
            }
        };
        match shape {
            1 => put(&mut bytes, 12, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]),
            2 => {
                put(&mut bytes, 0, &[0x60]);
                put(&mut bytes, 6, &[58, 255]);
                put(&mut bytes, 40, &[135, 0]);
            }
            3 => {
                put(&mut bytes, 0, &[1, 1, 6]);
                put(&mut bytes, 24, &[0; 4]);
                put(&mut bytes, 236, &[0x63, 0x82, 0x53, 0x63, 53, 1, 1]);
            }
            _ => {}
        }
        let _frame = ethernet::Frame::parse(&bytes);
        if let Some(reply) = arp::answer(&bytes) {
            prop_assert!(super::is_ours(Ipv4Addr::new(reply[28], reply[29], reply[30], reply[31]).into()));
        }
        if let Some(reply) = ndp::answer(&bytes) {
            prop_assert!(super::is_ours(IpPacket::parse(&reply).unwrap().source));
        }
        if let Some(reply) = dhcp::answer(&bytes) {
            prop_assert!(reply.payload.len() >= 300);
        }
        for six in [false, true] {
            let _datagram = udp::Udp::parse(pair(six), &bytes);
            let _message = icmp::parse(pair(six), &bytes);
            let from: IpAddr = if six { GATEWAY6.into() } else { GATEWAY.into() };
            if let Some(error) = icmp::error(from, &bytes, Problem::Port) {
                prop_assert!(IpPacket::parse(&error).unwrap().payload.len() <= 1240);
            }
        }
        let _quoted = icmp::quoted_udp(&bytes);
    }

    /// NDP's checksum stands in the way of random bytes, so it is put right here.
    #[test]
    fn no_neighbour_message_is_a_panic(
        kind in 130_u8..140, body in prop::collection::vec(any::<u8>(), 0..80), ours: bool, multicast: bool
    ) {
        let target = if ours { GATEWAY6 } else { GUEST6 };
        let destination = if multicast { "ff02::2".parse().unwrap() } else { target };
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&target.octets());
        message.extend_from_slice(&body);
        let pair = Pair::V6(GUEST6, destination);
        let sum = pair.checksum(58, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet = Datagram { pair, protocol: 58, hops: 255, identification: 0, message: &message }.to_vec().unwrap();
        if let Some(answer) = ndp::answer(&packet) {
            let answer = IpPacket::parse(&answer).unwrap();
            prop_assert!(super::is_ours(answer.source));
        }
    }

    #[test]
    fn no_dhcp_options_are_a_panic(kind: u8, options in prop::collection::vec((1_u8..255, prop::collection::vec(any::<u8>(), 0..20)), 0..10)) {
        let options: Vec<(u8, &[u8])> = options.iter().map(|(code, value)| (*code, &value[..])).collect();
        let message = dhcp_answers::request(kind, GUEST, &options);
        if let Some(reply) = dhcp::answer(&message) {
            prop_assert_eq!(reply.payload[0], 2);
        }
    }
}
