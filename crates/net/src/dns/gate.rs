//! What the egress policy says about names (spec 12.4).

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Decides on names that are not ours, before they are asked for and before their addresses are told.
pub trait Gate: Send + Sync {
    /// Why this name may not be asked for; `None` lets it. The name is in lower case, without a dot at its end, and a byte
    /// that is not a letter, a digit, `-` or `_` is written `\DDD`.
    fn resolve(&self, name: &str) -> Option<Box<dyn fmt::Display + Send>>;

    /// Notes what a name that was let resolves to, and for how long, before the asker is told; or says why the answer may not
    /// be told (a public name with a private address, say).
    fn pin(
        &self,
        name: &str,
        addresses: &[(IpAddr, Duration)],
        now: Instant,
    ) -> Option<Box<dyn fmt::Display + Send>>;
}

/// Lets everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Gate for Open {
    fn resolve(&self, _: &str) -> Option<Box<dyn fmt::Display + Send>> {
        None
    }

    fn pin(&self, _: &str, _: &[(IpAddr, Duration)], _: Instant) -> Option<Box<dyn fmt::Display + Send>> {
        None
    }
}
