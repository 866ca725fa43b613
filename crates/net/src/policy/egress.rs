//! The policy of one machine while it runs: shared between threads, with what DNS answered. Other rules are another machine's
//! (spec 6.4: drift), so that nothing is open that was let through by rules that are no more.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dhow_model::egress::{Action, EgressError, Name, Policy, Protocol as Wanted};
use dhow_model::network;

use super::compiled::{Compiled, Outcome, Said, Target};
use super::denial::Because;
use super::own::Own;
use super::pins::Pins;
use super::spelling::Spelling;
use super::{Cause, Denial, Inspection, Limiter, Line};

/// By which protocol something leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo requests, of either family. Give port 0.
    Icmp,
}

/// What happens to something.
#[derive(Debug)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// What the guest sends first decides (TCP only): see [`Inspection`].
    Inspect(Inspection),
    /// It is refused; give the reason to [`Egress::log`].
    Deny(Denial),
}

/// The addresses of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Those that the guest may be told.
    pub addresses: Vec<IpAddr>,
    /// The others, if there are any: give it to [`Egress::log`].
    pub refused: Option<Denial>,
}

/// The policy of one machine.
#[derive(Debug)]
pub struct Egress {
    /// Nothing is ever denied: the engine machine's ordinary case, told by one look.
    open: bool,
    rules: Arc<Compiled>,
    pub(super) pins: Mutex<Pins>,
    own: Mutex<Own>,
    log: Mutex<Limiter<u64>>,
}

impl Egress {
    /// Makes the policy ready.
    ///
    /// # Errors
    /// When a rule could not do what it says.
    pub fn new(policy: Policy) -> Result<Arc<Self>, EgressError> {
        Self::with(policy, Own::default())
    }

    pub(super) fn with(policy: Policy, own: Own) -> Result<Arc<Self>, EgressError> {
        policy.check()?;
        Ok(Arc::new(Self {
            open: policy.is_open(),
            rules: Arc::new(Compiled::new(policy)),
            pins: Mutex::default(),
            own: Mutex::new(own),
            log: Mutex::default(),
        }))
    }

    /// What happens to a connection, a datagram flow or an echo to `destination`, as the guest wrote it. For ICMP the port is
    /// 0. `Inspect` is answered for TCP only. DNS at the gateway always passes: [`Self::resolve`] judges what is asked.
    #[must_use]
    pub fn decide(&self, protocol: Protocol, destination: SocketAddr, now: Instant) -> Verdict {
        if self.open || is_resolver(protocol, destination) {
            return Verdict::Allow;
        }
        let rules = &self.rules;
        let address = self.spell(destination.ip(), now);
        let pins = if rules.asks_for_names() { self.pins_of(&address, now) } else { Vec::new() };
        let target = Target { protocol, address, port: destination.port() };
        let said = if protocol == Protocol::Tcp { Said::NotYet } else { Said::Nothing };
        match rules.walk(&target, &pins, said) {
            Outcome::Decided { action: Action::Allow, .. } => Verdict::Allow,
            Outcome::Decided { by, hidden, .. } => {
                let (name, because) = match hidden {
                    Some((_, Some(name))) => (Some(name), Some(Because::Opaque)),
                    Some((rule, None)) => (None, Some(Because::NotAnswered(rule))),
                    None if by.is_some_and(|number| rules.is_named(number)) => (None, Some(Because::Opaque)),
                    None => (None, None),
                };
                Verdict::Deny(Denial::out(protocol, (destination, &address), name, cause(by), because))
            }
            Outcome::Depends => {
                Verdict::Inspect(Inspection::new(Arc::clone(rules), target, destination, pins))
            }
        }
    }

    /// Whether the guest may ask for a name: `Allow` or `Deny`. A name that no rule can allow a connection to is not asked for
    /// at all, since a question to its owner is a message to its owner.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Verdict {
        if self.open {
            return Verdict::Allow;
        }
        let parsed: Option<Name> = name.parse().ok();
        match self.rules.resolve(parsed.as_ref()) {
            (Action::Allow, _) => Verdict::Allow,
            (Action::Deny, by) => Verdict::Deny(Denial::lookup(name, parsed, cause(by))),
        }
    }

    /// Which addresses of a stranger's answer the guest may be told (and [`Self::pin`] takes).
    #[must_use]
    pub fn admit(&self, name: &str, addresses: &[IpAddr]) -> Admitted {
        let all = || Admitted { addresses: addresses.to_vec(), refused: None };
        if self.open {
            return all();
        }
        let Ok(name) = name.parse::<Name>() else { return all() };
        let rules = &self.rules;
        let now = Instant::now();
        let (kept, refused): (Vec<_>, Vec<_>) =
            addresses.iter().partition(|address| rules.admits(&name, &self.spell(**address, now)));
        let refused = (!refused.is_empty()).then(|| Denial::answer(name, refused));
        Admitted { addresses: kept, refused }
    }

    /// Notes what DNS answered to the guest: each address with how long the answer holds. What [`Self::admit`] leaves out is
    /// not noted.
    pub fn pin(&self, name: &str, addresses: &[(IpAddr, Duration)], now: Instant) {
        if self.open {
            return;
        }
        let rules = &self.rules;
        let Some(name) = name.parse::<Name>().ok().filter(|_| rules.asks_for_names()) else { return };
        for (address, ttl) in addresses {
            let address = self.spell(*address, now);
            if rules.admits(&name, &address) {
                lock(&self.pins).add(&name, address.plain(), *ttl, now);
            }
        }
    }

    /// Whether a client of a published port may come in: `Allow` or `Deny`. `port` is the one that is published.
    #[must_use]
    pub fn accept(&self, protocol: Protocol, client: SocketAddr, port: u16) -> Verdict {
        if self.open {
            return Verdict::Allow;
        }
        let source = Target { protocol, address: Spelling::pure(client.ip()), port };
        match self.rules.client(&source) {
            (Action::Allow, _) => Verdict::Allow,
            (Action::Deny, by) => Verdict::Deny(Denial::client(protocol, client, port, cause(by))),
        }
    }

    /// Writes a denial to the log, target `egress`, unless it is one of too many.
    pub fn log(&self, denial: &Denial, now: Instant) {
        match lock(&self.log).line(denial.key(), now) {
            Line::Write { skipped: 0 } => tracing::warn!(target: "egress", "{denial}"),
            Line::Write { skipped } => tracing::warn!(target: "egress", skipped, "{denial}"),
            Line::Skip => {}
        }
    }

    fn spell(&self, address: IpAddr, now: Instant) -> Spelling {
        Spelling::of(address, |plain| lock(&self.own).is(plain, now))
    }

    fn pins_of(&self, address: &Spelling, now: Instant) -> Vec<Name> {
        let own = own_names(address.plain());
        if !own.is_empty() {
            return own.iter().filter_map(|name| name.parse().ok()).collect();
        }
        lock(&self.pins).names(address.plain(), now)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete when it can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// DNS of ours, and an echo to who answers it.
fn is_resolver(protocol: Protocol, destination: SocketAddr) -> bool {
    network::is_gateway(destination.ip()) && (protocol == Protocol::Icmp || destination.port() == 53)
}

/// The names of the addresses that stand for the host; nobody asks a stranger for these.
fn own_names(address: IpAddr) -> &'static [&'static str] {
    if network::is_host(address) {
        &["host.docker.internal", "host.dhow.internal"]
    } else if network::is_gateway(address) {
        &["gateway.docker.internal", "gateway.dhow.internal"]
    } else {
        &[]
    }
}

pub(super) fn cause(by: Option<usize>) -> Cause {
    by.map_or(Cause::Default, Cause::Rule)
}

impl From<Protocol> for Wanted {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Icmp => Self::Icmp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Wanted::from(*self).as_str())
    }
}
