//! Which routes there are at all. Pure, because it is the whole difference between this program and `ip route` for
//! everybody.

use serde::{Deserialize, Serialize};

use crate::Network;

/// How many routes a device may have.
pub const MOST_ROUTES: usize = 256;

/// RFC 1918 and RFC 4193. Not 100.64.0.0/10: that is the provider's, not the user's.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
/// A route wider than this would take more than one engine's networks.
const WIDEST: (u8, u8) = (8, 48);
/// Host routes wider than these stand for "everything else": default routes, and the halves and eighths of the address space
/// by which VPN clients stand in for them.
const AS_GOOD_AS_DEFAULT: (u8, u8) = (8, 7);

/// Why a route is not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Not within a private range.
    NotPrivate,
    /// Wider than any engine's network.
    TooWide,
    /// The host has it elsewhere, and the host's own network wins.
    Conflict {
        /// Where: an interface, or another kind of route.
        interface: String,
        /// What the host has there.
        network: Network,
    },
    /// The kernel's word.
    Kernel {
        /// Its error.
        error: String,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotPrivate => f.write_str("not a private network (10/8, 172.16/12, 192.168/16, fc00::/7)"),
            Self::TooWide => f.write_str("too wide (at most /8 for IPv4, /48 for IPv6)"),
            Self::Conflict { interface, network } => write!(f, "conflict with {interface} {network}"),
            Self::Kernel { error } => write!(f, "the kernel refused: {error}"),
        }
    }
}

/// A network that the host reaches by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The network.
    pub network: Network,
    /// Where it leads.
    pub interface: String,
}

/// Whether anybody could be given a route to this network.
///
/// # Errors
/// The reason why not.
pub fn possible(network: &Network) -> Result<(), Refusal> {
    let by_family = |pair: (u8, u8)| if network.address().is_ipv4() { pair.0 } else { pair.1 };
    if !PRIVATE.iter().filter_map(|range| range.parse::<Network>().ok()).any(|range| range.covers(network)) {
        return Err(Refusal::NotPrivate);
    }
    if network.prefix() < by_family(WIDEST) { Err(Refusal::TooWide) } else { Ok(()) }
}

/// Whether a route may be set on a host that reaches the networks of `taken` elsewhere.
///
/// # Errors
/// The reason why not.
pub fn allowed(network: &Network, taken: &[Taken]) -> Result<(), Refusal> {
    possible(network)?;
    let conflict = taken
        .iter()
        .filter(|taken| !is_default(&taken.network) && taken.network.overlaps(network))
        .min_by_key(|taken| taken.network.prefix());
    match conflict {
        None => Ok(()),
        Some(Taken { network, interface }) => {
            Err(Refusal::Conflict { interface: interface.clone(), network: *network })
        }
    }
}

/// Whether a route of the host stands for everything that has no route of its own.
#[must_use]
pub fn is_default(network: &Network) -> bool {
    network.prefix() < if network.address().is_ipv4() { AS_GOOD_AS_DEFAULT.0 } else { AS_GOOD_AS_DEFAULT.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn judge(wanted: &str, taken: &[(&str, &str)]) -> String {
        let taken: Vec<Taken> = taken
            .iter()
            .map(|(net, interface)| Taken { network: network(net), interface: (*interface).to_owned() })
            .collect();
        allowed(&network(wanted), &taken).map_or_else(|refusal| refusal.to_string(), |()| "set".to_owned())
    }

    /// Issue 3, point 5: a fixed list of operations; only private networks, and never the default route.
    #[test]
    fn only_private_networks_of_a_sensible_width_can_have_a_route() {
        let table = [
            ("172.17.0.0/16", "set"),
            ("10.0.0.0/8", "set"),
            ("192.168.97.0/24", "set"),
            ("fd12:3456:789a::/48", "set"),
            ("fc00:1::/64", "set"),
            ("0.0.0.0/0", "not a private"),
            ("0.0.0.0/1", "not a private"),
            ("8.8.8.0/24", "not a private"),
            ("100.64.0.0/10", "not a private"),
            ("172.0.0.0/8", "not a private"),
            ("172.32.0.0/16", "not a private"),
            ("192.0.0.0/8", "not a private"),
            ("127.0.0.0/8", "not a private"),
            ("169.254.0.0/16", "not a private"),
            ("224.0.0.0/8", "not a private"),
            ("::/0", "not a private"),
            ("2001:db8::/48", "not a private"),
            ("fe80::/64", "not a private"),
            ("::ffff:10.0.0.0/104", "not a private"),
            ("fc00::/7", "too wide"),
            ("fd00::/8", "too wide"),
            ("fd12:3456:7880::/44", "too wide"),
        ];
        for (wanted, expected) in table {
            assert!(judge(wanted, &[]).starts_with(expected), "{wanted}: {}", judge(wanted, &[]));
        }
    }

    /// The host's network wins: hosts with Docker have 172.17.0.0/16 themselves.
    #[test]
    fn what_the_host_has_elsewhere_is_refused_by_name() {
        let docker = [("172.17.0.1/32", "docker0"), ("172.17.0.0/16", "docker0"), ("0.0.0.0/0", "eth0")];
        assert_eq!(judge("172.17.0.0/16", &docker), "conflict with docker0 172.17.0.0/16");
        assert_eq!(judge("172.16.0.0/12", &docker), "conflict with docker0 172.17.0.0/16");
        assert_eq!(judge("172.17.9.0/24", &docker), "conflict with docker0 172.17.0.0/16");
        assert_eq!(judge("172.18.0.0/16", &docker), "set");
        assert_eq!(judge("10.1.0.0/16", &[("10.0.0.0/8", "tun0")]), "conflict with tun0 10.0.0.0/8");
        assert_eq!(judge("fd00:1::/64", &[("fd00::/8", "wg0")]), "conflict with wg0 fd00::/8");
    }

    #[test]
    fn default_routes_in_every_spelling_are_in_nobodys_way() {
        let spellings =
            [("0.0.0.0/0", "eth0"), ("0.0.0.0/1", "tun0"), ("8.0.0.0/7", "wg0"), ("2000::/3", "wg0")];
        assert_eq!(judge("10.1.0.0/16", &spellings), "set");
        assert_eq!(judge("fd00:1::/64", &[("::/0", "eth0"), ("::/1", "tun0")]), "set");
    }
}
