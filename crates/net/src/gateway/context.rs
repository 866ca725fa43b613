//! What every protocol of one machine's gateway shares.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use super::clock::Clock;
use super::counters::Counters;
use super::limits::Limits;
use super::outbound::Outbound;
use crate::dns::Dns;
use crate::policy::Egress;

pub(crate) struct Context {
    pub(crate) outbound: Outbound,
    pub(crate) counters: Arc<Counters>,
    pub(crate) policy: Arc<Egress>,
    pub(crate) dns: Arc<Dns>,
    /// Whether the guest may reach the host's loopback.
    pub(crate) host_loopback: bool,
    pub(crate) limits: Limits,
    /// Whether the link puts in the checksums of TCP segments itself, or has no need of them.
    pub(crate) link_sums: bool,
    /// Docker's networks in the guest now: address and length of the prefix.
    pub(crate) guest_networks: RefCell<Vec<(IpAddr, u8)>>,
}

impl Context {
    /// The guest's time.
    pub(crate) fn clock(&self) -> &Clock {
        self.outbound.clock()
    }

    /// Whether an address lies in a network of the guest.
    pub(crate) fn is_guest(&self, address: IpAddr) -> bool {
        self.guest_networks.borrow().iter().any(|(network, prefix)| within(address, *network, *prefix))
    }
}

/// Whether the first `prefix` bits of both addresses are the same.
fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(prefix.min(32))
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(prefix.min(128))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_by_their_prefix() {
        for (address, network, prefix, inside) in [
            ("172.17.0.2", "172.17.0.0", 16, true),
            ("172.18.0.2", "172.17.0.0", 16, false),
            ("172.17.0.2", "172.17.0.2", 32, true),
            ("10.0.0.1", "0.0.0.0", 0, true),
            ("fd00::2", "fd00::", 64, true),
            ("fd00:0:0:1::2", "fd00::", 64, false),
            ("10.0.0.1", "::", 0, false),
        ] {
            assert_eq!(
                within(address.parse().unwrap(), network.parse().unwrap(), prefix),
                inside,
                "{address}"
            );
        }
    }
}
