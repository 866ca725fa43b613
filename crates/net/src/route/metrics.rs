//! How the way is, and what went over it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dhow_route_helper::Network;
use serde::Serialize;

use super::filter::Reason;

/// What passed and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Packets and bytes from the host to containers.
    pub to_guest: (u64, u64),
    /// Packets and bytes of their answers.
    pub to_host: (u64, u64),
    /// Packets that were dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
}

/// How the way is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The device, while it is up.
    pub device: Option<String>,
    /// Why there is none although the program is installed.
    pub trouble: Option<String>,
    /// The networks that the host reaches through it.
    pub routes: Vec<Network>,
    /// The guest's networks that it does not reach, and why.
    pub refused: Vec<(Network, String)>,
    /// What passed.
    pub metrics: Metrics,
}

/// Each number stands for itself, so relaxed atomics are enough.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    to_guest: (AtomicU64, AtomicU64),
    to_host: (AtomicU64, AtomicU64),
    drops: [AtomicU64; Reason::ALL.len()],
}

impl Counts {
    pub(crate) fn to_guest(&self, length: usize) {
        add(&self.to_guest, length);
    }

    pub(crate) fn to_host(&self, length: usize) {
        add(&self.to_host, length);
    }

    pub(crate) fn dropped(&self, reason: Reason) {
        self.drops[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Metrics {
        let both = |(packets, bytes): &(AtomicU64, AtomicU64)| (packets.load(Relaxed), bytes.load(Relaxed));
        let drops =
            Reason::ALL.iter().map(|reason| (reason.name(), self.drops[*reason as usize].load(Relaxed)));
        Metrics {
            to_guest: both(&self.to_guest),
            to_host: both(&self.to_host),
            drops: drops.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

fn add((packets, bytes): &(AtomicU64, AtomicU64), length: usize) {
    packets.fetch_add(1, Relaxed);
    bytes.fetch_add(length as u64, Relaxed);
}
