//! What one machine may take of the host: flows, half-open connections, memory, descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
    /// takes none from the rest of the process. A soft limit that is too low for all is raised first: a shell's usual 1,024
    /// is meant for programs that cannot handle more.
    #[must_use]
    pub fn within_descriptors(self) -> Limits {
        let limit = getrlimit(Resource::Nofile);
        let wanted = (self.tcp + self.udp + OTHER_DESCRIPTORS) as u64;
        let Some(soft) = limit.current else { return self };
        let raised = wanted.min(limit.maximum.unwrap_or(u64::MAX)).max(soft);
        let most = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
            Ok(()) => raised,
            Err(_) => soft,
        };
        self.within(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn within(self, descriptors: usize) -> Limits {
        let share = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(descriptors / 4).max(3);
        // Half-open flows are among those of TCP.
        if self.tcp + self.udp <= share {
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
            assert!(cut.tcp + cut.udp < descriptors, "{descriptors}: {cut:?}");
        }
    }

    #[test]
    fn a_soft_limit_that_is_too_low_is_raised() {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..before }).unwrap();
        let limits = Limits { tcp: 100, udp: 50, ..Limits::default() }.within_descriptors();
        let after = getrlimit(Resource::Nofile).current;
        setrlimit(Resource::Nofile, before).unwrap();
        // Where even the hard limit is lower there is nothing to raise.
        if before.maximum.is_none_or(|hard| hard >= 662) {
            assert_eq!((limits.tcp, after), (100, Some(662)));
        }
    }
}
