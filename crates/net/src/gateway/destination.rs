//! What an address means to the gateway when the guest sends to it: pure, one place for every protocol, so that no spelling
//! of the host's loopback slips past one of them.

use std::net::IpAddr;

use dhow_model::network;

/// Where a guest's packet wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The host's loopback (`host.docker.internal`).
    Host,
    /// The gateway itself (`gateway.docker.internal`): DNS on port 53; otherwise the host's loopback, like [`Self::Host`].
    Gateway,
    /// The host's own interface where containers' addresses are routed (the TUN device).
    HostInterface,
    /// Anywhere else, judged by the egress policy. An IPv4 address in IPv6's clothes is told as the IPv4 address.
    Outside(IpAddr),
    /// Nowhere: the host's loopback by any other name, multicast, broadcast, unspecified, unused on this network.
    Martian,
}

/// What an address means as a destination.
pub(crate) fn destination(address: IpAddr) -> Destination {
    if network::is_host(address) {
        return Destination::Host;
    }
    if network::is_gateway(address) {
        return Destination::Gateway;
    }
    if address == network::HOST_INTERFACE || address == network::HOST_INTERFACE6 {
        return Destination::HostInterface;
    }
    // An IPv4-mapped address would reach the IPv4 address, and an IPv4-compatible one is not used by anyone (RFC 4291,
    // 2.5.5): both are judged as what they would reach. The machine's own addresses have no second spelling.
    let plain = canonical(address);
    let martian = match plain {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_unspecified()
                || v4.octets()[0] == 0
                || v4.is_multicast()
                // 240/4 is reserved; it holds the broadcast address.
                || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                // What is link-local on this link is no one beyond it.
                || v6.is_unicast_link_local()
                || compatible(v6)
        }
    };
    if martian || network::contains(plain) { Destination::Martian } else { Destination::Outside(plain) }
}

/// The address that a packet to `address` would reach: an IPv4-mapped one is its IPv4 address.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// `::a.b.c.d`, deprecated, and nothing that anyone routes.
fn compatible(address: std::net::Ipv6Addr) -> bool {
    address.segments()[..6] == [0; 6]
}

/// Whether a guest may use an address as its source: any address that one station can have.
pub(crate) fn source_is_sane(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_multicast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240)
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_multicast() || v6.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Destination {
        destination(address.parse().unwrap())
    }

    /// 12.4 and issue 3: "loopback and private ranges through every spelling".
    #[test]
    fn no_spelling_of_loopback_leaves_the_machine() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:198.19.68.254",
            "::ffff:198.19.68.1",
            "::127.0.0.1",
            "::7f00:2",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "ff02::1",
            "fe80::1",
            "198.19.68.2",
            "198.19.68.77",
            "fd64:686f:7700::2",
            "fd64:686f:7700::77",
        ] {
            assert_eq!(of(address), Destination::Martian, "{address}");
        }
    }

    #[test]
    fn the_machine_s_own_addresses_mean_what_the_network_says() {
        for (address, meaning) in [
            ("198.19.68.1", Destination::Gateway),
            ("fd64:686f:7700::1", Destination::Gateway),
            ("198.19.68.254", Destination::Host),
            ("fd64:686f:7700::fe", Destination::Host),
            ("198.19.68.253", Destination::HostInterface),
            ("fd64:686f:7700::fd", Destination::HostInterface),
        ] {
            assert_eq!(of(address), meaning, "{address}");
        }
    }

    #[test]
    fn what_is_outside_is_judged_by_its_plain_address() {
        for (address, plain) in [
            ("192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("64:ff9b::a00:1", "64:ff9b::a00:1"),
        ] {
            assert_eq!(of(address), Destination::Outside(plain.parse().unwrap()), "{address}");
        }
    }
}
