//! The same on IPv6, and what a guest that asks is told of its router.

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
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else { panic!() };
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
