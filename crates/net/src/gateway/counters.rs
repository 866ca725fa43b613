//! What the gateway counts: bytes and packets each way, flows by kind, and every drop by its reason. The gateway's thread
//! writes, any thread reads; each number stands for itself, so relaxed atomics are enough.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::named::named;

named! {
    /// Why the gateway dropped something.
    Reason {
        /// Bytes that are not the packet that they claim to be.
        Malformed = "malformed",
        /// The hypervisor's stream broke its framing; the connection was ended.
        BadFraming = "bad_framing",
        /// Rings of the guest's network device that make no sense; the device stands still until the guest starts it again.
        BrokenRing = "broken_ring",
        /// A frame for another station, or of an Ethernet type that nothing here speaks.
        NotForUs = "not_for_us",
        /// A protocol, option or extension header that the gateway does not carry.
        Unsupported = "unsupported",
        /// A checksum that is wrong.
        BadChecksum = "bad_checksum",
        /// An address that has no business on this link: loopback, multicast, unspecified, or unused on the machine's network.
        Martian = "martian",
        /// Refused by the egress policy.
        Denied = "denied",
        /// The queue to the guest is full.
        QueueFull = "queue_full",
        /// No hypervisor is connected.
        NoLink = "no_link",
        /// As many flows as this machine may have.
        FlowLimit = "flow_limit",
        /// As many unanswered connection attempts as this machine may have.
        HalfOpenLimit = "half_open_limit",
        /// A segment or datagram that belongs to no flow.
        NoFlow = "no_flow",
        /// The host refused the connection.
        HostRefused = "host_refused",
        /// The host has no way to the destination.
        HostUnreachable = "host_unreachable",
        /// The host's connection attempt was not answered in its time.
        HostTimeout = "host_timeout",
        /// The host is out of something: descriptors, ports, memory.
        HostExhausted = "host_exhausted",
        /// Larger than what can be carried.
        TooBig = "too_big",
        /// More fragments than are kept for reassembly.
        FragmentLimit = "fragment_limit",
        /// Fragments that overlap.
        FragmentOverlap = "fragment_overlap",
        /// Fragments whose others never came.
        FragmentTimeout = "fragment_timeout",
        /// More answers of a kind than are sent in a second.
        RateLimit = "rate_limit",
    }
}

named! {
    /// What kind of flow.
    Kind {
        /// TCP that the guest opened.
        TcpOut = "tcp_out",
        /// TCP that a client of a published port opened.
        TcpIn = "tcp_in",
        /// TCP attempts of the guest that wait for the host's connection.
        TcpHalfOpen = "tcp_half_open",
        /// UDP that the guest began.
        UdpOut = "udp_out",
        /// UDP that a client of a published port began.
        UdpIn = "udp_in",
        /// ICMP echo.
        Icmp = "icmp",
    }
}

/// The gateway's counts. One for each gateway, behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Counters {
    drops: [AtomicU64; Reason::ALL.len()],
    open: [AtomicU64; Kind::ALL.len()],
    opened: [AtomicU64; Kind::ALL.len()],
    /// Frames and bytes from the guest.
    received: (AtomicU64, AtomicU64),
    /// Frames and bytes to the guest.
    sent: (AtomicU64, AtomicU64),
    links: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            drops: std::array::from_fn(|_| AtomicU64::new(0)),
            open: std::array::from_fn(|_| AtomicU64::new(0)),
            opened: std::array::from_fn(|_| AtomicU64::new(0)),
            received: (AtomicU64::new(0), AtomicU64::new(0)),
            sent: (AtomicU64::new(0), AtomicU64::new(0)),
            links: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Counts one drop.
    pub(crate) fn count(&self, reason: Reason) {
        self.drops[reason as usize].fetch_add(1, Relaxed);
    }

    /// How many were dropped for a reason.
    pub(crate) fn drops(&self, reason: Reason) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }

    /// Counts a flow for as long as the answer lives.
    pub(crate) fn open(self: &std::sync::Arc<Self>, kind: Kind) -> Open {
        self.open[kind as usize].fetch_add(1, Relaxed);
        self.opened[kind as usize].fetch_add(1, Relaxed);
        Open { counters: self.clone(), kind }
    }

    /// How many flows of a kind are open now.
    pub(crate) fn flows(&self, kind: Kind) -> u64 {
        self.open[kind as usize].load(Relaxed)
    }

    pub(crate) fn receive(&self, bytes: usize) {
        self.received.0.fetch_add(1, Relaxed);
        self.received.1.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn send(&self, bytes: usize) {
        self.sent.0.fetch_add(1, Relaxed);
        self.sent.1.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn link(&self) {
        self.links.fetch_add(1, Relaxed);
    }

    /// A copy of every count.
    pub(crate) fn metrics(&self) -> Metrics {
        let by_kind = |counts: &[AtomicU64]| {
            Kind::ALL.iter().map(|kind| (kind.name(), counts[*kind as usize].load(Relaxed))).collect()
        };
        Metrics {
            links: self.links.load(Relaxed),
            flows: by_kind(&self.open),
            flows_total: by_kind(&self.opened),
            frames_from_guest: self.received.0.load(Relaxed),
            bytes_from_guest: self.received.1.load(Relaxed),
            frames_to_guest: self.sent.0.load(Relaxed),
            bytes_to_guest: self.sent.1.load(Relaxed),
            drops: Reason::ALL
                .iter()
                .map(|reason| (reason.name(), self.drops(*reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

/// One open flow in the counts.
#[derive(Debug)]
pub(crate) struct Open {
    counters: std::sync::Arc<Counters>,
    kind: Kind,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.open[self.kind as usize].fetch_sub(1, Relaxed);
    }
}

/// The gateway's counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Connections that the hypervisor has made.
    pub links: u64,
    /// Flows that are open, by kind (see [`Kind`]).
    pub flows: BTreeMap<&'static str, u64>,
    /// Flows that were opened since the start, by kind.
    pub flows_total: BTreeMap<&'static str, u64>,
    /// Ethernet frames from the guest.
    pub frames_from_guest: u64,
    /// Their bytes.
    pub bytes_from_guest: u64,
    /// Ethernet frames to the guest.
    pub frames_to_guest: u64,
    /// Their bytes.
    pub bytes_to_guest: u64,
    /// What was dropped, by reason (see [`Reason`]); only what is not zero.
    pub drops: BTreeMap<&'static str, u64>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_flow_counts_for_as_long_as_it_lives() {
        let counters = Arc::new(Counters::default());
        let flow = counters.open(Kind::TcpIn);
        assert_eq!(counters.metrics().flows["tcp_in"], 1);
        drop(flow);
        assert_eq!(counters.metrics().flows["tcp_in"], 0);
        assert_eq!(counters.metrics().flows_total["tcp_in"], 1);
    }

    #[test]
    fn drops_are_told_by_reason() {
        let counters = Counters::default();
        counters.count(Reason::Martian);
        counters.count(Reason::Martian);
        assert_eq!(counters.metrics().drops, BTreeMap::from([("martian", 2)]));
    }
}
