//! Addresses that stand for other addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dhow_model::network;

/// An address as a rule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    /// As it was written.
    pub written: IpAddr,
    /// What it stands for.
    pub meant: IpAddr,
}

/// The host's own loopback, in both families.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Spelling {
    pub(super) fn of(written: IpAddr) -> Self {
        let meant = match written {
            _ if is_host(written) => LOOPBACK[0],
            IpAddr::V6(address) => inside(address).map_or(written, IpAddr::V4),
            IpAddr::V4(_) => written,
        };
        // `::ffff:198.19.68.254`.
        Self { written, meant: if is_host(meant) { LOOPBACK[0] } else { meant } }
    }

    /// Whether `contains` holds for what the address stands for: what an allowing rule asks.
    pub(super) fn is(&self, contains: impl Fn(IpAddr) -> bool) -> bool {
        // The host's loopback is one place with many spellings.
        let own = LOOPBACK.contains(&self.meant)
            && (LOOPBACK.iter().any(|a| contains(*a)) || (is_host(self.written) && contains(self.written)));
        contains(self.meant) || own
    }

    /// Whether `contains` holds for any way to read it: what a denying rule asks.
    pub(super) fn may_be(&self, contains: impl Fn(IpAddr) -> bool) -> bool {
        self.is(&contains) || contains(self.written)
    }
}

/// The host by one of its addresses on the machine's network. (The gateway's DNS is judged by name, before.)
fn is_host(address: IpAddr) -> bool {
    network::is_host(address)
        || network::is_gateway(address)
        || address == IpAddr::V4(network::HOST_INTERFACE)
        || address == IpAddr::V6(network::HOST_INTERFACE6)
}

/// The IPv4 address that an IPv6 address is a spelling of.
fn inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at = |index: usize| octets[index..].first_chunk::<4>().map(|four| Ipv4Addr::from(*four));
    match address.segments() {
        // `::` and `::1` are addresses of IPv6 itself.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible (RFC 4291, 2.5.5.1), IPv4-mapped (2.5.5.2), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] => at(12),
        [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => at(12),
        // 6to4 (RFC 3056).
        [0x2002, ..] => at(2),
        // Teredo (RFC 4380): the client's address, inverted.
        [0x2001, 0, ..] => at(12).map(|address| Ipv4Addr::from(!u32::from(address))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 3: "loopback and private ranges through every spelling".
    #[test]
    fn an_address_inside_another_is_found() {
        for (written, meant) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::10.1.2.3", "10.1.2.3"),
            ("::ffff:0:10.1.2.3", "10.1.2.3"),
            ("64:ff9b::10.1.2.3", "10.1.2.3"),
            ("2002:0a01:0203::1", "10.1.2.3"),
            ("2001:0:1:2:3:4:f5fe:fdfc", "10.1.2.3"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("198.19.68.254", "127.0.0.1"),
            ("198.19.68.1", "127.0.0.1"),
            ("fd64:686f:7700::fe", "127.0.0.1"),
            ("::ffff:198.19.68.254", "127.0.0.1"),
            ("64:ff9b::198.19.68.254", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "::"),
            ("2001:db8::1", "2001:db8::1"),
            ("fd00:ec2::254", "fd00:ec2::254"),
        ] {
            assert_eq!(
                Spelling::of(written.parse().unwrap()).meant,
                meant.parse::<IpAddr>().unwrap(),
                "{written}"
            );
        }
    }

    /// A denying rule for a tunnel's own range counts, an allowing one does not open what is inside.
    #[test]
    fn a_tunnel_can_be_denied_and_not_allowed_by_its_outer_address() {
        let tunnel = Spelling::of("2002:7f00:1::1".parse().unwrap());
        let outer = |address: IpAddr| address == "2002:7f00:1::1".parse::<IpAddr>().unwrap();
        assert!(tunnel.may_be(outer) && !tunnel.is(outer));
        assert!(tunnel.is(|address| address == "127.0.0.1".parse::<IpAddr>().unwrap()));
    }
}
