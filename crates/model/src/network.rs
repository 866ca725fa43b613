//! Where everything stands on a machine's network, which no other machine and no network of the host can see.
//!
//! Every machine has the same addresses: each has a gateway of its own, and a machine that is saved, cloned and woken
//! elsewhere keeps them. The IPv4 range is the one for benchmarks (RFC 2544, 198.18.0.0/15), which no office, home or
//! VPN uses; the IPv6 range is a unique local one (RFC 4193).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the IPv4 network's prefix.
pub const PREFIX: u8 = 24;
/// Length of the IPv6 network's prefix.
pub const PREFIX6: u8 = 64;
/// The gateway, which also answers DNS; `gateway.docker.internal`.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 19, 68, 1);
/// The guest's interface.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(198, 19, 68, 2);
/// The host's own interface on this network, where containers' addresses are routed to it.
pub const HOST_INTERFACE: Ipv4Addr = Ipv4Addr::new(198, 19, 68, 253);
/// Stands for the host's loopback; `host.docker.internal`.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 68, 254);
/// The gateway, by IPv6.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x686f, 0x7700, 0, 0, 0, 0, 1);
/// The guest's interface, by IPv6.
pub const GUEST6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x686f, 0x7700, 0, 0, 0, 0, 2);
/// The host's own interface, by IPv6.
pub const HOST_INTERFACE6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x686f, 0x7700, 0, 0, 0, 0, 0xfd);
/// Stands for the host's loopback, by IPv6.
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x686f, 0x7700, 0, 0, 0, 0, 0xfe);
/// The gateway's hardware address: locally administered.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x64, 0x68, 0x6f, 0x77, 0x01];
/// The guest's hardware address.
pub const GUEST_MAC: [u8; 6] = [0x02, 0x64, 0x68, 0x6f, 0x77, 0x02];
/// The largest packet on the guest's interface and on Docker's bridges, bytes: a multiple of four below 65,535. Nothing
/// leaves the host in this size; it only cuts the number of packets that guest and gateway handle.
pub const MTU: u32 = 65_520;
/// How many pairs of queues the guest's interface has at most: one for each of its processors, and not more, for each keeps buffers
/// of [`MTU`] bytes, 17 MB in the guest.
pub const QUEUES: u32 = 4;
/// The domain that containers' names are in.
pub const DOMAIN: &str = "dhow.internal";

/// Whether an address is on the machine's own network.
#[must_use]
pub fn contains(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == GATEWAY.octets()[..3],
        IpAddr::V6(address) => address.octets()[..8] == GATEWAY6.octets()[..8],
    }
}

/// Whether an address stands for the host's loopback, in either family.
#[must_use]
pub fn is_host(address: IpAddr) -> bool {
    address == IpAddr::V4(HOST) || address == IpAddr::V6(HOST6)
}

/// Whether an address is the gateway's, in either family.
#[must_use]
pub fn is_gateway(address: IpAddr) -> bool {
    address == IpAddr::V4(GATEWAY) || address == IpAddr::V6(GATEWAY6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_machine_is_on_its_network() {
        for address in [GATEWAY, GUEST, HOST_INTERFACE, HOST] {
            assert!(contains(address.into()), "{address}");
        }
        for address in [GATEWAY6, GUEST6, HOST_INTERFACE6, HOST6] {
            assert!(contains(address.into()), "{address}");
        }
        assert!(
            !contains("198.19.69.1".parse().unwrap()) && !contains("fd64:686f:7700:1::1".parse().unwrap())
        );
    }

    #[test]
    fn hardware_addresses_are_local_and_of_one_station() {
        for mac in [GATEWAY_MAC, GUEST_MAC] {
            assert_eq!(mac[0] & 0b11, 0b10);
        }
    }
}
