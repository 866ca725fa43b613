//! Neighbour discovery (RFC 4861), the part of ICMPv6 by which IPv6 stations find each other and their router. The gateway
//! answers for its own addresses and for no other, and advertises itself as router only to a station that asks: one with
//! static addresses, such as Dhow's own agent, never hears of it. No addresses are made up from the prefix (`A` is not set):
//! a guest has the one address that the machine's network gives it.

use std::net::Ipv6Addr;

use dhow_model::network::{DOMAIN, GATEWAY_MAC, GATEWAY6, MTU, PREFIX6};

use super::ip::{Datagram, Pair};
use super::{icmp, is_ours, take, word};

/// The gateway's own address on the link, made from its hardware address (RFC 4291, appendix A).
pub(crate) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0064, 0x68ff, 0xfe6f, 0x7701);
/// Everyone on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How long a router may be used that nobody hears of again, seconds (RFC 8319's limit): 18 hours.
const ROUTER_LIFETIME: u16 = 65_535;
/// How long the prefix and the resolver may be used: for ever.
const FOR_EVER: [u8; 4] = [0xff; 4];

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The IPv6 packet that answers an IPv6 packet: a solicitation of one of the gateway's addresses, or of routers.
pub(crate) fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let source = Ipv6Addr::from(take::<16>(packet, 8)?);
    let destination = Ipv6Addr::from(take::<16>(packet, 24)?);
    let length = usize::from(word(packet, 4)?);
    let message = packet.get(40..40 + length)?;
    // 255 hops left: from this very link (RFC 4861, 7.1.1).
    let plain = packet[0] >> 4 == 6 && packet[6] == icmp::PROTOCOL6 && packet[7] == 255;
    let pair = Pair::V6(source, destination);
    if !plain || source.is_multicast() || *message.get(1)? != 0 || !icmp::intact(pair, message) {
        return None;
    }
    match *message.first()? {
        NEIGHBOUR_SOLICITATION => neighbour(source, destination, message),
        ROUTER_SOLICITATION => router(source, destination, message),
        _ => None,
    }
}

fn neighbour(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Option<Vec<u8>> {
    let target = Ipv6Addr::from(take::<16>(message, 8)?);
    let options = message.get(24..)?;
    let for_us = destination == target || destination == solicited(target);
    if !well_formed(options) || !for_us || !is_ours(target.into()) {
        return None;
    }
    // A station that only checks whether an address is free has none yet: everyone is told.
    let (to, solicited) = if source.is_unspecified() { (ALL_NODES, 0) } else { (source, 0x40) };
    let router = if target == GATEWAY6 || target == LINK_LOCAL { 0x80 } else { 0 };
    let mut advertisement = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, router | solicited | 0x20, 0, 0, 0];
    advertisement.extend_from_slice(&target.octets());
    // Target link-layer address.
    advertisement.extend_from_slice(&[2, 1]);
    advertisement.extend_from_slice(&GATEWAY_MAC);
    send(target, to, advertisement)
}

fn router(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Option<Vec<u8>> {
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let for_us = destination == all_routers || is_ours(destination.into());
    if !for_us || !well_formed(message.get(8..)?) {
        return None;
    }
    advertise(if source.is_unspecified() { ALL_NODES } else { source })
}

/// What everyone on the link is told of the router, unasked.
pub(crate) fn advertisement() -> Option<Vec<u8>> {
    advertise(ALL_NODES)
}

/// Whether a packet that [`answer`] made tells of the router.
pub(crate) fn is_advertisement(answer: &[u8]) -> bool {
    answer.get(40) == Some(&ROUTER_ADVERTISEMENT)
}

fn advertise(to: Ipv6Addr) -> Option<Vec<u8>> {
    let mut advertisement = vec![ROUTER_ADVERTISEMENT, 0, 0, 0];
    // Hop limit of packets; neither addresses nor anything else by DHCPv6; no times for reachability.
    advertisement.extend_from_slice(&[64, 0]);
    advertisement.extend_from_slice(&ROUTER_LIFETIME.to_be_bytes());
    advertisement.extend_from_slice(&[0; 8]);
    // Source link-layer address.
    advertisement.extend_from_slice(&[1, 1]);
    advertisement.extend_from_slice(&GATEWAY_MAC);
    // MTU.
    advertisement.extend_from_slice(&[5, 1, 0, 0]);
    advertisement.extend_from_slice(&MTU.to_be_bytes());
    // The prefix: on this link (L), not to make addresses from (no A).
    advertisement.extend_from_slice(&[3, 4, PREFIX6, 0x80]);
    advertisement.extend_from_slice(&FOR_EVER);
    advertisement.extend_from_slice(&FOR_EVER);
    advertisement.extend_from_slice(&[0; 4]);
    let prefix = u128::from(GATEWAY6) & (u128::MAX << (128 - u32::from(PREFIX6)));
    advertisement.extend_from_slice(&prefix.to_be_bytes());
    // The resolver and the search list (RFC 8106).
    advertisement.extend_from_slice(&[25, 3, 0, 0]);
    advertisement.extend_from_slice(&FOR_EVER);
    advertisement.extend_from_slice(&GATEWAY6.octets());
    let mut name = Vec::new();
    for label in DOMAIN.split('.') {
        name.push(u8::try_from(label.len()).ok()?);
        name.extend_from_slice(label.as_bytes());
    }
    name.push(0);
    name.resize(name.len().next_multiple_of(8), 0);
    advertisement.extend_from_slice(&[31, 1 + u8::try_from(name.len() / 8).ok()?, 0, 0]);
    advertisement.extend_from_slice(&FOR_EVER);
    advertisement.extend_from_slice(&name);
    send(LINK_LOCAL, to, advertisement)
}

/// The group that a station listens to for questions about an address (RFC 4291, 2.7.1).
fn solicited(target: Ipv6Addr) -> Ipv6Addr {
    let base = u128::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0));
    Ipv6Addr::from(base | (u128::from(target) & 0x00ff_ffff))
}

/// Whether options fill their room exactly: each says its length in units of eight bytes, and none is of length zero.
fn well_formed(mut options: &[u8]) -> bool {
    while let Some(units) = options.get(1) {
        match options.get(usize::from(*units) * 8..) {
            Some(rest) if *units > 0 => options = rest,
            _ => return false,
        }
    }
    options.is_empty()
}

fn send(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Option<Vec<u8>> {
    let pair = Pair::V6(from, to);
    let sum = pair.checksum(icmp::PROTOCOL6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Datagram { pair, protocol: icmp::PROTOCOL6, hops: 255, identification: 0, message: &message }.to_vec()
}
