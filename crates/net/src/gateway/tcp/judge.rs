//! Holds a guest's first bytes until the egress policy has found the name in them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::clock::Clock;
use crate::gateway::counters::{Counters, Reason};
use crate::policy::{Egress, Inspection, Sniffed};

/// How long a guest that began to speak may take to say the name.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Judge {
    inspection: Inspection,
    policy: Arc<Egress>,
    counters: Arc<Counters>,
    /// When the first byte was there.
    since: Option<Instant>,
}

impl Judge {
    pub(super) fn new(inspection: Inspection, policy: Arc<Egress>, counters: Arc<Counters>) -> Judge {
        Judge { inspection, policy, counters, since: None }
    }

    /// Whether the connection may go on; `None`: it takes more bytes to tell. `first` is everything that the guest has
    /// sent so far; `whole`: there will be no more.
    pub(super) fn hear(&mut self, first: &[u8], whole: bool, now: Instant) -> Option<bool> {
        if first.is_empty() && !whole {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let late = now >= since + PATIENCE;
        let answer = if whole || late { self.inspection.end(first) } else { self.inspection.feed(first) };
        match answer {
            Sniffed::NeedMore => None,
            Sniffed::Allow => Some(true),
            Sniffed::Deny(denial) => {
                self.policy.log(&denial, Clock::host());
                self.counters.count(Reason::Denied);
                Some(false)
            }
        }
    }

    /// When silence is an answer too.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }
}
