//! What a guest's datagram is for, by its addresses: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::gateway::Reason;
use crate::gateway::destination::{Destination, destination, source_is_sane};
use crate::packet::icmp::Problem;
use crate::packet::{dhcp, is_ours};

/// The port of DNS.
const DNS: u16 = 53;

/// Whom a datagram reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The gateway's DHCP server.
    Dhcp,
    /// The gateway's DNS.
    Dns,
    /// A host socket towards this address, in one of three ways.
    Host(Way, IpAddr),
}

/// How a guest speaks of what a host socket reaches. Each way of one guest's socket has its own host socket: the one towards the
/// outside can never be answered from the host's loopback, and those towards loopback never from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// By the address itself.
    Outside,
    /// By the address that stands for the host's loopback.
    Loopback,
    /// By the gateway's address, which stands for the host's loopback too, but for DNS.
    Gateway,
}

/// Why a datagram is not carried, and what its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) problem: Option<Problem>,
}

/// Judges a datagram's addresses.
pub(super) fn route(from: SocketAddr, to: SocketAddr, host_loopback: bool) -> Result<Route, Refusal> {
    let silent = |reason| Refusal { reason, problem: None };
    let meaning = destination(to.ip());
    if to.port() == dhcp::SERVER && to.ip().is_ipv4() && from.port() == dhcp::CLIENT {
        let server = meaning == Destination::Gateway || to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        return if server { Ok(Route::Dhcp) } else { Err(silent(Reason::Martian)) };
    }
    if !source_is_sane(from.ip()) || is_ours(from.ip()) || from.port() == 0 || to.port() == 0 {
        return Err(silent(Reason::Martian));
    }
    let loopback = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let forbidden = Refusal { reason: Reason::Denied, problem: Some(Problem::Prohibited) };
    match meaning {
        Destination::Gateway if to.port() == DNS => Ok(Route::Dns),
        Destination::Gateway | Destination::Host if !host_loopback => Err(forbidden),
        Destination::Gateway => Ok(Route::Host(Way::Gateway, loopback)),
        Destination::Host => Ok(Route::Host(Way::Loopback, loopback)),
        Destination::HostInterface => Err(Refusal { reason: Reason::NoFlow, problem: Some(Problem::Host) }),
        // An IPv4 address in IPv6's clothes has no business on a wire (RFC 4291, 2.5.5.2).
        Destination::Outside(plain) if plain.is_ipv4() != to.ip().is_ipv4() => Err(silent(Reason::Martian)),
        Destination::Outside(plain) => Ok(Route::Host(Way::Outside, plain)),
        Destination::Martian => Err(silent(Reason::Martian)),
    }
}

#[cfg(test)]
mod tests {
    use dhow_model::network::*;

    use super::*;

    fn of(from: &str, to: &str) -> Result<Route, Refusal> {
        route(from.parse().unwrap(), to.parse().unwrap(), true)
    }

    #[test]
    fn each_destination_has_its_way() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let localhost6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        for (from, to, expected) in [
            ("198.19.68.2:9", "198.19.68.1:53", Route::Dns),
            ("[fd64:686f:7700::2]:9", "[fd64:686f:7700::1]:53", Route::Dns),
            ("0.0.0.0:68", "255.255.255.255:67", Route::Dhcp),
            ("198.19.68.2:68", "198.19.68.1:67", Route::Dhcp),
            ("198.19.68.2:9", "198.19.68.1:54", Route::Host(Way::Gateway, localhost)),
            ("198.19.68.2:9", "198.19.68.254:53", Route::Host(Way::Loopback, localhost)),
            ("[fd64:686f:7700::2]:9", "[fd64:686f:7700::fe]:7", Route::Host(Way::Loopback, localhost6)),
            ("198.19.68.2:9", "192.0.2.1:7", Route::Host(Way::Outside, "192.0.2.1".parse().unwrap())),
        ] {
            assert_eq!(of(from, to), Ok(expected), "{from} {to}");
        }
    }

    #[test]
    fn what_no_network_carries_is_refused_in_silence() {
        for (from, to) in [
            ("0.0.0.0:9", "192.0.2.1:7"),
            ("127.0.0.1:9", "192.0.2.1:7"),
            ("198.19.68.1:53", "192.0.2.1:7"),
            ("198.19.68.254:9", "192.0.2.1:7"),
            ("198.19.68.2:0", "192.0.2.1:7"),
            ("198.19.68.2:9", "192.0.2.1:0"),
            ("198.19.68.2:9", "127.0.0.1:7"),
            ("198.19.68.2:9", "224.0.0.251:5353"),
            ("198.19.68.2:9", "255.255.255.255:9"),
            ("198.19.68.2:68", "192.0.2.1:67"),
            ("[fd64:686f:7700::2]:9", "[::ffff:192.0.2.1]:7"),
            ("[fd64:686f:7700::2]:9", "[::1]:7"),
            ("[fd64:686f:7700::2]:9", "[ff02::fb]:5353"),
        ] {
            assert_eq!(of(from, to), Err(Refusal { reason: Reason::Martian, problem: None }), "{from} {to}");
        }
    }

    #[test]
    fn without_permission_the_hosts_loopback_is_out_of_reach_but_dns_is_not() {
        let guest = SocketAddr::new(GUEST.into(), 9);
        for host in [HOST, GATEWAY] {
            let refused = route(guest, SocketAddr::new(host.into(), 80), false);
            assert_eq!(refused.unwrap_err().problem, Some(Problem::Prohibited));
        }
        assert_eq!(route(guest, SocketAddr::new(GATEWAY.into(), 53), false), Ok(Route::Dns));
    }
}
