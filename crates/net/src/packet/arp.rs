//! ARP (RFC 826): which station has an IPv4 address. The gateway answers for its own addresses and for no other, so that a
//! guest's check for a duplicate of its own address (RFC 5227) stays unanswered.

use std::net::Ipv4Addr;

use dhow_model::network::GATEWAY_MAC;

use super::ethernet::{Frame, Kind};
use super::{is_ours, take};

/// Ethernet, IPv4, and the lengths of their addresses: what every packet here begins with.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// The whole frame that answers a whole frame: a request for one of the gateway's addresses.
pub(crate) fn answer(frame: &[u8]) -> Option<[u8; 42]> {
    let frame = Frame::parse(frame)?;
    let asked = frame.payload;
    let request = take(asked, 0)? == PREFIX && take(asked, 6)? == [0, 1];
    let sender: [u8; 6] = take(asked, 8)?;
    let sender_address: [u8; 4] = take(asked, 14)?;
    let target: [u8; 4] = take(asked, 24)?;
    if frame.kind != Kind::Arp || !request || sender[0] & 1 == 1 || !is_ours(Ipv4Addr::from(target).into()) {
        return None;
    }
    let mut reply = [0; 42];
    reply[..6].copy_from_slice(&frame.source);
    reply[6..12].copy_from_slice(&GATEWAY_MAC);
    reply[12..14].copy_from_slice(&[0x08, 0x06]);
    reply[14..20].copy_from_slice(&PREFIX);
    reply[20..22].copy_from_slice(&[0, 2]);
    reply[22..28].copy_from_slice(&GATEWAY_MAC);
    reply[28..32].copy_from_slice(&target);
    reply[32..38].copy_from_slice(&sender);
    reply[38..].copy_from_slice(&sender_address);
    Some(reply)
}
