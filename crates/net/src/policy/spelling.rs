//! Addresses that stand for other addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dhow_model::egress::{Addresses, Group};
use dhow_model::network;

/// An address as a rule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    /// As it was written.
    written: IpAddr,
    /// The IPv4 address inside, or the same.
    plain: IpAddr,
    /// It is the host itself, which is one place with many addresses.
    host: bool,
}

/// The host itself, in both families.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Spelling {
    /// `is_own`: whether an address is one of the host's interfaces'.
    pub(super) fn of(written: IpAddr, is_own: impl FnOnce(IpAddr) -> bool) -> Self {
        let plain = match written {
            IpAddr::V6(address) => inside(address).map_or(written, IpAddr::V4),
            IpAddr::V4(_) => written,
        };
        let host = is_alias(plain) || LOOPBACK.contains(&plain) || is_own(plain);
        Self { written, plain, host }
    }

    /// By what the address is written alone.
    pub(super) fn pure(written: IpAddr) -> Self {
        Self::of(written, |_| false)
    }

    /// The IPv4 address inside, or the address itself.
    pub(super) fn plain(&self) -> IpAddr {
        self.plain
    }

    /// The address as a rule may write it.
    pub(super) fn to_write(self) -> IpAddr {
        if is_alias(self.plain) { LOOPBACK[0] } else { self.plain }
    }

    /// Whether an allowing rule covers it: for what the address stands for. An address of the host's is not covered by a
    /// wider group than `loopback` or `any`, and by a range only if that was picked.
    pub(super) fn allowed_by(&self, addresses: &Addresses) -> bool {
        let picked = matches!(addresses, Addresses::Range(range) if range.contains(self.plain));
        self.places().iter().any(|address| addresses.allows(*address))
            || (self.host && picked && !addresses.is_everywhere())
    }

    /// Whether a denying rule covers it: by any way to read it.
    pub(super) fn denied_by(&self, addresses: &Addresses) -> bool {
        self.places().iter().chain([&self.plain, &self.written]).any(|address| addresses.contains(*address))
    }

    /// Whether it is inside: of the host, its networks, its cloud. No name of a stranger's leads there.
    pub(super) fn is_inside(&self) -> bool {
        [Group::Loopback, Group::Private, Group::LinkLocal, Group::Metadata]
            .iter()
            .any(|group| self.denied_by(&Addresses::Group(*group)))
    }

    fn places(&self) -> &[IpAddr] {
        if self.host { &LOOPBACK } else { std::slice::from_ref(&self.plain) }
    }
}

/// The host by one of its addresses on the machine's network. (The gateway's DNS is judged by name, before.)
fn is_alias(address: IpAddr) -> bool {
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

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addresses(text: &str) -> Addresses {
        text.parse().unwrap()
    }

    /// Issue 3: "loopback and private ranges through every spelling".
    #[test]
    fn an_address_inside_another_is_found() {
        for (written, plain, host) in [
            ("10.1.2.3", "10.1.2.3", false),
            ("::ffff:10.1.2.3", "10.1.2.3", false),
            ("::10.1.2.3", "10.1.2.3", false),
            ("::ffff:0:10.1.2.3", "10.1.2.3", false),
            ("64:ff9b::10.1.2.3", "10.1.2.3", false),
            ("2002:0a01:0203::1", "10.1.2.3", false),
            ("2001:0:1:2:3:4:f5fe:fdfc", "10.1.2.3", false),
            ("2001:db8::1", "2001:db8::1", false),
            ("fd00:ec2::254", "fd00:ec2::254", false),
            ("::", "::", false),
            ("::1", "::1", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("198.19.68.254", "198.19.68.254", true),
            ("198.19.68.1", "198.19.68.1", true),
            ("fd64:686f:7700::fe", "fd64:686f:7700::fe", true),
            ("64:ff9b::198.19.68.254", "198.19.68.254", true),
        ] {
            let spelling = Spelling::pure(ip(written));
            assert_eq!((spelling.plain, spelling.host), (ip(plain), host), "{written}");
        }
    }

    /// A denying rule for a tunnel's own range counts, an allowing one does not open what is inside.
    #[test]
    fn a_tunnel_can_be_denied_and_not_allowed_by_its_outer_address() {
        let tunnel = Spelling::pure(ip("2002:7f00:1::1"));
        for text in ["2002:7f00:1::1", "2002::/16", "::/0"] {
            assert!(tunnel.denied_by(&addresses(text)), "{text}");
        }
        assert!(!tunnel.allowed_by(&addresses("2002:7f00:1::1")));
        assert!(tunnel.allowed_by(&addresses("127.0.0.1")) && tunnel.allowed_by(&addresses("loopback")));
    }

    /// An address of the host's interface is the host: in `loopback`, and in nothing wider.
    #[test]
    fn the_host_by_its_own_address_is_the_host() {
        for (own, wide) in
            [("93.184.215.14", "public"), ("192.168.1.5", "private"), ("2606:4700::1", "public")]
        {
            for written in [own.to_owned(), format!("64:ff9b::{own}")] {
                let Ok(written) = written.parse() else { continue };
                let spelling = Spelling::of(written, |address| address == ip(own));
                assert!(spelling.is_inside(), "{written}");
                assert!(spelling.denied_by(&addresses("loopback")) && spelling.denied_by(&addresses(wide)));
                assert!(
                    spelling.allowed_by(&addresses("loopback")) && spelling.allowed_by(&addresses("any"))
                );
                assert!(spelling.allowed_by(&addresses(own)), "{written}: it was picked");
                assert!(!spelling.allowed_by(&addresses(wide)), "{written}");
                assert!(!spelling.allowed_by(&addresses("2000::/3")));
            }
        }
    }
}
