//! ICMP between the guest and the host: errors that the guest is told (`report`), echo requests that the gateway answers itself
//! or carries to the outside on the host's ping sockets (`ping`), and what the guest reports about datagrams that it got.

mod ping;
mod rate;
mod report;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::AbortHandle;

use self::ping::{Key, Ping};
use self::rate::Rate;
pub(crate) use self::report::Reports;
use super::destination::{Destination, destination, source_is_sane};
use super::ip::IpPacket;
use super::tcp::Tcp;
use super::udp::Udp;
use super::{Clock, Context, Kind, Reason};
use crate::packet::icmp::{self, Echo, Message, Problem};
use crate::packet::ip::Pair;
use crate::packet::is_ours;
use crate::packet::ndp::{self, LINK_LOCAL};
use crate::policy::{Protocol, Verdict};

/// Echo requests in a second, and at once after a pause: what `ping -f` on a real network gets through is more, what anybody
/// needs is less.
const PER_SECOND: u32 = 500;
const AT_ONCE: u32 = 1000;

/// How often a guest that asked is told of its router.
const ADVERTISE: Duration = Duration::from_secs(30 * 60);

/// All ICMP of one guest. A clone is the same. Lives on the gateway's thread, within its `LocalSet`.
#[derive(Clone)]
pub(crate) struct Icmp(Rc<Inner>);

struct Inner {
    context: Rc<Context>,
    reports: Reports,
    udp: Udp,
    tcp: Rc<Tcp>,
    rate: RefCell<Rate>,
    advertising: RefCell<Option<AbortHandle>>,
    limit: usize,
    pings: RefCell<HashMap<Key, Rc<Ping>>>,
    identifier: Cell<u16>,
    identification: Cell<u32>,
    scratch: RefCell<Box<[u8]>>,
}

impl Icmp {
    pub(crate) fn new(context: Rc<Context>, reports: Reports, udp: Udp, tcp: Rc<Tcp>) -> Icmp {
        let limit = (context.limits.udp / 16).max(1);
        let rate = Rate::new(PER_SECOND, AT_ONCE, context.clock().now());
        Icmp(Rc::new(Inner {
            context,
            reports,
            udp,
            tcp,
            rate: RefCell::new(rate),
            advertising: RefCell::default(),
            limit,
            pings: RefCell::default(),
            identifier: Cell::new(std::process::id() as u16),
            identification: Cell::new(1),
            scratch: RefCell::new(vec![0; 65_536].into_boxed_slice()),
        }))
    }

    /// Takes a whole message from the guest; neighbour discovery has been answered before.
    pub(crate) fn packet(&self, packet: &IpPacket<'_>) {
        let counters = &self.0.context.counters;
        let Some(pair) = Pair::new(packet.source, packet.destination) else { return };
        let message = match icmp::parse(pair, packet.payload) {
            Ok(message) => message,
            Err(reason) => return counters.count(reason),
        };
        let sane = source_is_sane(packet.source) && !is_ours(packet.source);
        match message {
            // Multicast groups (RFC 3810), and solicitations that ask for others: of no meaning on this link.
            Message::Other(130..=137 | 143) if packet.source.is_ipv6() => {}
            _ if !sane => counters.count(Reason::Martian),
            Message::Request(echo) => self.request(packet, pair, echo),
            Message::Error(quoted) => {
                if let Some((sender, receiver)) = icmp::quoted_udp(quoted) {
                    self.0.udp.not_taken(sender, receiver);
                } else if icmp::is_unreachable(pair, packet.payload)
                    && let Some((sender, receiver)) = icmp::quoted_tcp(quoted)
                {
                    self.0.tcp.not_taken(sender, receiver);
                }
            }
            Message::Reply(_) => counters.count(Reason::NoFlow),
            Message::Other(_) => counters.count(Reason::Unsupported),
        }
    }

    fn request(&self, packet: &IpPacket<'_>, pair: Pair, echo: Echo<'_>) {
        let refused = match destination(packet.destination) {
            Destination::Gateway | Destination::Host => {
                return self.reply(packet.destination, packet.source, echo);
            }
            Destination::Martian if packet.destination == LINK_LOCAL => {
                return self.reply(packet.destination, packet.source, echo);
            }
            Destination::Outside(plain) if plain == packet.destination => {
                if packet.hop_limit <= 1 {
                    (Reason::HostUnreachable, Some(Problem::Hops))
                } else if !self.permits(packet.destination) {
                    (Reason::Denied, Some(Problem::Prohibited))
                } else {
                    match self.ask(packet, pair, echo) {
                        Ok(()) => return,
                        Err(refused) => refused,
                    }
                }
            }
            Destination::HostInterface => (Reason::NoFlow, Some(Problem::Host)),
            Destination::Outside(_) | Destination::Martian => (Reason::Martian, None),
        };
        self.0.context.counters.count(refused.0);
        if let Some(problem) = refused.1 {
            self.0.reports.packet(packet, problem);
        }
    }

    /// Asks somebody outside on the guest's behalf.
    fn ask(
        &self,
        packet: &IpPacket<'_>,
        pair: Pair,
        echo: Echo<'_>,
    ) -> Result<(), (Reason, Option<Problem>)> {
        let now = self.0.context.clock().now();
        if !self.0.rate.borrow_mut().take(now) {
            return Err((Reason::RateLimit, None));
        }
        let key = Key { guest: packet.source, identifier: echo.identifier, peer: packet.destination };
        let known = self.0.pings.borrow().get(&key).cloned();
        let ping = match known {
            Some(ping) => ping,
            None => self.begin(key)?,
        };
        ping.ask(pair, echo, packet, now).map_err(|error| {
            let problem = super::udp::problem(&error);
            let reason = if problem.is_some() { Reason::HostUnreachable } else { Reason::HostExhausted };
            (reason, problem)
        })
    }

    fn begin(&self, key: Key) -> Result<Rc<Ping>, (Reason, Option<Problem>)> {
        let mut pings = self.0.pings.borrow_mut();
        if pings.len() >= self.0.limit {
            let oldest = pings.iter().min_by_key(|(_, ping)| ping.last()).map(|(key, _)| *key);
            if let Some(ping) = oldest.and_then(|key| pings.remove(&key)) {
                ping.give_up();
            }
        }
        let identifier = self.0.identifier.get().wrapping_add(1);
        self.0.identifier.set(identifier);
        let open = self.0.context.counters.open(Kind::Icmp);
        let ping = Ping::open(key, identifier, open, self.0.context.clock().now()).map_err(|error| {
            match super::udp::problem(&error) {
                // Neither ping sockets nor raw ones are for this user: nobody answers.
                Some(Problem::Prohibited) | None => {
                    tracing::debug!(%error, "no ping socket for the guest");
                    (Reason::Unsupported, None)
                }
                problem => (Reason::HostUnreachable, problem),
            }
        })?;
        let ping = Rc::new(ping);
        pings.insert(key, ping.clone());
        tokio::task::spawn_local(self.clone().run(ping.clone()));
        Ok(ping)
    }

    /// Tells the guest of its router now and then, so that it does not forget (RFC 4861, 6.2.1). Begins when a station has
    /// asked for routers; one that does not is not told.
    pub(crate) fn advertise(&self) {
        let mut advertising = self.0.advertising.borrow_mut();
        if advertising.is_some() {
            return;
        }
        let outbound = self.0.context.outbound.clone();
        let task = tokio::task::spawn_local(async move {
            loop {
                outbound.clock().sleep(ADVERTISE).await;
                if let Some(packet) = ndp::advertisement() {
                    outbound.packet(packet.len(), |room| room.copy_from_slice(&packet));
                }
            }
        });
        *advertising = Some(task.abort_handle());
    }

    /// Ends every conversation: the guest's link is gone.
    pub(crate) fn end_all(&self) {
        if let Some(advertising) = self.0.advertising.borrow_mut().take() {
            advertising.abort();
        }
        for (_, ping) in self.0.pings.borrow_mut().drain() {
            ping.give_up();
        }
    }

    fn permits(&self, peer: IpAddr) -> bool {
        let now = Clock::host();
        match self.0.context.policy.decide(Protocol::Icmp, SocketAddr::new(peer, 0), now) {
            Verdict::Allow => true,
            Verdict::Inspect(_) => false,
            Verdict::Deny(denial) => {
                self.0.context.policy.log(&denial, now);
                false
            }
        }
    }

    /// Sends an echo reply to the guest.
    fn reply(&self, from: IpAddr, guest: IpAddr, echo: Echo<'_>) {
        let Some(pair) = Pair::new(from, guest) else { return };
        let identification = self.0.identification.get();
        self.0.identification.set(identification.wrapping_add(1));
        let message = icmp::reply(pair, echo);
        let outbound = &self.0.context.outbound;
        icmp::datagram(pair, identification, &message).emit(|length, write| outbound.packet(length, write));
    }
}
