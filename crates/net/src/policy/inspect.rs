//! A connection whose name decides.

use std::net::SocketAddr;
use std::sync::Arc;

use dhow_model::egress::{Action, Name};

use super::compiled::{Compiled, Outcome, Said, Target};
use super::denial::Because;
use super::sniff::{self, Seen, Unsaid};
use super::{Denial, Protocol};

/// Reads the name out of what the guest sends first, and decides. Until then nothing of the guest's goes to the host's
/// socket; what the other end sends may go to the guest, since in some protocols it speaks first.
#[derive(Debug)]
pub struct Inspection {
    rules: Arc<Compiled>,
    target: Target,
    destination: SocketAddr,
    /// The names of the address when the connection began.
    pins: Vec<Name>,
}

/// What is known of a connection's first bytes.
#[derive(Debug)]
pub enum Sniffed {
    /// Not enough bytes yet: call again with more, or [`Inspection::end`] when there will be none.
    NeedMore,
    /// It passes, these bytes first.
    Allow,
    /// It is reset; give the reason to `Egress::log`.
    Deny(Denial),
}

impl Inspection {
    /// After so many bytes there is an answer; a buffer of this size is enough.
    pub const LIMIT: usize = sniff::LIMIT;

    pub(super) fn new(
        rules: Arc<Compiled>,
        target: Target,
        destination: SocketAddr,
        pins: Vec<Name>,
    ) -> Self {
        Self { rules, target, destination, pins }
    }

    /// Looks at **everything** that the guest has sent so far, from the first byte on (not only at what is new). With
    /// [`Self::LIMIT`] bytes or more the answer is never `NeedMore`.
    #[must_use]
    pub fn feed(&mut self, first_bytes: &[u8]) -> Sniffed {
        match sniff::look(first_bytes) {
            Seen::NeedMore => Sniffed::NeedMore,
            Seen::Name(name) => self.judge(Ok(name)),
            Seen::Nothing(unsaid) => self.judge(Err(unsaid)),
        }
    }

    /// As [`Self::feed`], for a guest that sends no more (FIN), or not soon enough: never `NeedMore`.
    #[must_use]
    pub fn end(&mut self, first_bytes: &[u8]) -> Sniffed {
        match self.feed(first_bytes) {
            Sniffed::NeedMore => self.judge(Err(Unsaid::Unfinished)),
            answer => answer,
        }
    }

    fn judge(&self, said: Result<Name, Unsaid>) -> Sniffed {
        let walk = self.rules.walk(&self.target, &self.pins, said.as_ref().map_or(Said::Nothing, Said::Name));
        let (by, hidden) = match walk {
            Outcome::Decided { action: Action::Allow, .. } => return Sniffed::Allow,
            Outcome::Decided { by, hidden, .. } => (by, hidden),
            // It does not: everything that can be said has been.
            Outcome::Depends => (None, None),
        };
        let (name, because) = match said {
            Ok(name) if self.pins.contains(&name) => (Some(name), None),
            Ok(name) => (Some(name), Some(Because::Elsewhere)),
            Err(unsaid) => (hidden.and_then(|(_, name)| name), Some(Because::Unsaid(unsaid))),
        };
        let cause = super::egress::cause(by);
        Sniffed::Deny(Denial::out(
            Protocol::Tcp,
            (self.destination, &self.target.address),
            name,
            cause,
            because,
        ))
    }
}
