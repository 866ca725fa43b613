//! What the pure parts answer, and that nothing a guest sends makes them panic.

mod of_arp;
mod of_dhcp;
mod of_fragments;
mod of_icmp;
mod of_ndp;
mod property;

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
    assert!(udp::write(SocketAddr::new(source, 4000), SocketAddr::new(destination, 53), &mut message, true));
    message
}
