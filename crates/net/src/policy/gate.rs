//! The policy as our DNS asks it, before a question goes out and before its answer is told.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Egress, Verdict};
use crate::dns::Gate;

impl Gate for Egress {
    fn resolve(&self, name: &str) -> Option<Box<dyn fmt::Display + Send>> {
        match Egress::resolve(self, name) {
            Verdict::Allow => None,
            Verdict::Deny(denial) => Some(Box::new(denial)),
            // Questions are never inspected; if one were, it would not be allowed.
            Verdict::Inspect(_) => Some(Box::new("questions cannot be inspected")),
        }
    }

    /// An answer that leads inside is not told at all: whoever mixes such an address with honest ones means no good.
    fn pin(
        &self,
        name: &str,
        addresses: &[(IpAddr, Duration)],
        now: Instant,
    ) -> Option<Box<dyn fmt::Display + Send>> {
        let plain: Vec<IpAddr> = addresses.iter().map(|(address, _)| *address).collect();
        if let Some(denial) = self.admit(name, &plain).refused {
            return Some(Box::new(denial));
        }
        Egress::pin(self, name, addresses, now);
        None
    }
}
