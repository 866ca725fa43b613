//! Packets as bytes, without any I/O: what the guest's stations ask of their network (ARP, neighbour discovery, DHCP) and
//! its answers, IP headers, fragments, ICMP errors. Every function takes a guest's bytes, which are hostile: what does not
//! parse is `None`, nothing panics, and what is kept is bounded.

pub(crate) mod arp;
pub(crate) mod checksum;
pub(crate) mod dhcp;
pub(crate) mod ethernet;
pub(crate) mod fragments;
pub(crate) mod icmp;
pub(crate) mod ip;
pub(crate) mod ndp;
pub(crate) mod udp;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use dhow_model::network::{GATEWAY, GATEWAY6, HOST, HOST_INTERFACE, HOST_INTERFACE6, HOST6};

/// Whether an address is one that the gateway answers for. Never the guest's own.
pub(crate) fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => [GATEWAY, HOST, HOST_INTERFACE].contains(&address),
        IpAddr::V6(address) => [GATEWAY6, HOST6, HOST_INTERFACE6, ndp::LINK_LOCAL].contains(&address),
    }
}

/// `N` bytes at an offset.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A 16-bit number at an offset, in the network's order.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    take(bytes, at).map(u16::from_be_bytes)
}
