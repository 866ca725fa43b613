//! What one machine may take of the host: flows, half-open connections, memory, descriptors.

use rustix::process::{Resource, getrlimit};

/// A machine's share of the host. `Default` suits an engine; every number is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP flows in all, both ways.
    pub tcp: usize,
    /// Connection attempts of the guest that the host has not answered yet.
    pub half_open: usize,
    /// UDP and ICMP flows in all, both ways.
    pub udp: usize,
    /// Bytes that all TCP flows may buffer together. Flows get smaller buffers as this fills.
    pub tcp_memory: usize,
}

/// Descriptors that the rest of the process needs: the channel, the hypervisor's sockets, listeners, logs.
const OTHER_DESCRIPTORS: usize = 512;

impl Default for Limits {
    fn default() -> Limits {
        Limits { tcp: 4096, half_open: 256, udp: 2048, tcp_memory: 256 << 20 }
    }
}

impl Limits {
    /// The same, cut to the descriptors that this process may open, so that a guest that opens as many flows as it can
    /// takes none from the rest of the process.
    #[must_use]
    pub fn within_descriptors(self) -> Limits {
        match getrlimit(Resource::Nofile).current {
            Some(most) => self.within(usize::try_from(most).unwrap_or(usize::MAX)),
            None => self,
        }
    }

    fn within(self, descriptors: usize) -> Limits {
        let share = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(descriptors / 4).max(3);
        if self.tcp + self.half_open + self.udp <= share {
            return self;
        }
        Limits {
            tcp: self.tcp.min(share / 2).max(1),
            half_open: self.half_open.min(share / 8).max(1),
            udp: self.udp.min(share / 4).max(1),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_fits_into_many_descriptors_and_is_cut_to_few() {
        assert_eq!(Limits::default().within(20_000), Limits::default());
        for descriptors in [16, 256, 1024, 4096] {
            let cut = Limits::default().within(descriptors);
            assert!(cut.tcp + cut.half_open + cut.udp < descriptors, "{descriptors}: {cut:?}");
        }
    }
}
