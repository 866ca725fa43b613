//! UDP between the guest and the host's sockets. A datagram of the guest is judged by its addresses (`route`), by the egress
//! policy, and goes out on a host socket of its own for each of the guest's sockets (`flow`), whose answers come back from
//! whoever sends them. DNS and DHCP end here. Datagrams for published ports come in on the host's bound sockets
//! (`published`), one flow for each client.
//!
//! ```text
//!  guest ─▶ packet ─▶ client of a published port? ─▶ published ─▶ bound socket ─▶ client
//!                 └─▶ route ─▶ policy ─▶ flow ─▶ host socket ─▶ peer
//! ```

mod bound;
#[cfg(target_os = "linux")]
pub(super) mod errors;
mod flow;
mod life;
mod published;
mod route;
mod socket;
#[cfg(test)]
mod tests;

pub(super) use self::socket::problem;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use dhow_model::network::{GATEWAY, MTU};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::flow::{Flow, Key};
use self::life::Life;
use self::published::Clients;
use self::route::{Refusal, Route, Way, route};
use self::socket::HostSocket;
use super::icmp::Reports;
use super::ip::IpPacket;
use super::{Clock, Context, Kind, Reason};
use crate::dns::{From, Over};
use crate::packet::icmp::Problem;
use crate::packet::ip::{Datagram, HOPS, Pair};
use crate::packet::{dhcp, fragments, udp};
use crate::policy::{Protocol, Verdict};

/// Questions to the gateway's DNS that wait for their answer at once.
const QUESTIONS: usize = 256;
/// The longest message of UDP, header included.
const LONGEST: usize = 65_535;

/// All UDP of one guest. A clone is the same. Lives on the gateway's thread, within its `LocalSet`.
#[derive(Clone)]
pub(crate) struct Udp(Rc<Inner>);

struct Inner {
    context: Rc<Context>,
    reports: Reports,
    /// Flows that the guest may have, each with a descriptor; the other half of UDP's share is for clients.
    limit: usize,
    flows: RefCell<HashMap<Key, Rc<Flow>>>,
    /// Each flow holds it, also one that was given up and has not ended yet: what counts is descriptors.
    alive: Rc<()>,
    clients: RefCell<Clients>,
    /// Oldest first.
    questions: RefCell<VecDeque<AbortHandle>>,
    /// Where datagrams are received, behind room for their header; used by one flow at a time, never across a wait.
    scratch: RefCell<Box<[u8]>>,
    identification: Cell<u32>,
}

impl Udp {
    pub(crate) fn new(context: Rc<Context>, reports: Reports) -> Udp {
        let limit = (context.limits.udp / 2).max(1);
        Udp(Rc::new(Inner {
            context,
            reports,
            limit,
            flows: RefCell::default(),
            alive: Rc::default(),
            clients: RefCell::new(Clients::new(limit)),
            questions: RefCell::default(),
            scratch: RefCell::new(vec![0; udp::HEADER + LONGEST].into_boxed_slice()),
            identification: Cell::new(1),
        }))
    }

    /// Takes a whole datagram from the guest.
    pub(crate) fn packet(&self, packet: &IpPacket<'_>) {
        let Some(datagram) = udp::Udp::parse(packet.payload) else {
            return self.0.context.counters.count(Reason::Malformed);
        };
        let from = SocketAddr::new(packet.source, datagram.source);
        let to = SocketAddr::new(packet.destination, datagram.destination);
        if self.to_client(from, to, datagram.payload) {
            return;
        }
        let refused = match route(from, to, self.0.context.host_loopback) {
            Ok(Route::Dhcp) => return self.lease(datagram.payload),
            Ok(Route::Dns) => return self.question(from, to, datagram.payload),
            Ok(Route::Host(..)) if packet.hop_limit <= 1 => {
                Refusal { reason: Reason::HostUnreachable, problem: Some(Problem::Hops) }
            }
            Ok(Route::Host(way, _)) if !self.speaks((from, way), to) && !self.permits(to) => {
                Refusal { reason: Reason::Denied, problem: Some(Problem::Prohibited) }
            }
            Ok(Route::Host(way, address)) => {
                match self.send(packet, (from, way), SocketAddr::new(address, to.port()), datagram.payload) {
                    Ok(()) => return,
                    Err(refusal) => refusal,
                }
            }
            Err(refusal) => refusal,
        };
        self.0.context.counters.count(refused.reason);
        if let Some(problem) = refused.problem {
            self.0.reports.packet(packet, problem);
        }
    }

    /// The time in the guest.
    fn now(&self) -> Instant {
        self.0.context.clock().now()
    }

    /// Whether a flow has spoken with a peer before. What was permitted when it began goes on, as with TCP: the name that it was
    /// permitted for may long have another address.
    fn speaks(&self, key: Key, peer: SocketAddr) -> bool {
        self.0.flows.borrow().get(&key).is_some_and(|flow| flow.knows(peer))
    }

    /// Sends a datagram on its flow's host socket.
    fn send(&self, packet: &IpPacket<'_>, key: Key, to: SocketAddr, payload: &[u8]) -> Result<(), Refusal> {
        let flow = self.flow(key)?;
        flow.life.borrow_mut().sent(to.port(), self.now());
        flow.remember(SocketAddr::new(packet.destination, to.port()));
        flow.socket.send(payload, to, travels_whole(packet), packet.hop_limit - 1).map_err(|error| {
            if too_big(&error) {
                let (fit, others) = flow.socket.fit();
                self.tell(&flow, others);
                return Refusal { reason: Reason::TooBig, problem: fit.map(Problem::TooBig) };
            }
            let problem = socket::problem(&error);
            let reason = if problem.is_some() { Reason::HostUnreachable } else { Reason::HostExhausted };
            Refusal { reason, problem }
        })
    }

    /// The flow of one of the guest's sockets, new if there is none.
    fn flow(&self, key: Key) -> Result<Rc<Flow>, Refusal> {
        if let Some(flow) = self.0.flows.borrow().get(&key) {
            return Ok(flow.clone());
        }
        // As many again may have been given up and not have ended yet.
        if Rc::strong_count(&self.0.alive) > 2 * self.0.limit {
            return Err(Refusal { reason: Reason::FlowLimit, problem: None });
        }
        if self.0.flows.borrow().len() >= self.0.limit && !self.give_up_one() {
            return Err(Refusal { reason: Reason::FlowLimit, problem: None });
        }
        let local: IpAddr = match (key.1, key.0.ip()) {
            (Way::Outside, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (Way::Outside, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            (_, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (_, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        };
        let socket = HostSocket::open(local).map_err(|error| {
            tracing::debug!(%error, "no udp socket for the guest");
            let network = error.kind() == std::io::ErrorKind::AddrNotAvailable
                || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
            let problem = network.then_some(Problem::Network);
            Refusal { reason: if network { Reason::HostUnreachable } else { Reason::HostExhausted }, problem }
        })?;
        let flow = Rc::new(Flow {
            key,
            socket,
            life: RefCell::new(Life::new(self.now())),
            peers: RefCell::default(),
            given_up: CancellationToken::new(),
            _alive: self.0.alive.clone(),
            _open: self.0.context.counters.open(Kind::UdpOut),
        });
        self.0.flows.borrow_mut().insert(key, flow.clone());
        tokio::task::spawn_local(self.clone().run(flow.clone()));
        Ok(flow)
    }

    /// Gives up the flow that is missed least; false when each is a conversation that goes on.
    fn give_up_one(&self) -> bool {
        let now = self.now();
        let mut flows = self.0.flows.borrow_mut();
        let least = flows
            .iter()
            .filter_map(|(key, flow)| Some((flow.life.borrow().expendable(now)?, *key)))
            .min_by_key(|(expendable, _)| *expendable);
        let Some(flow) = least.and_then(|(_, key)| flows.remove(&key)) else { return false };
        flow.given_up.cancel();
        true
    }

    /// Takes a flow that has ended out of the table, where no other has taken its place.
    fn forget(&self, flow: &Rc<Flow>) {
        let mut flows = self.0.flows.borrow_mut();
        if flows.get(&flow.key).is_some_and(|there| Rc::ptr_eq(there, flow)) {
            flows.remove(&flow.key);
        }
    }

    /// Ends every flow: the guest's link is gone. Published ports stay, their clients begin anew.
    pub(crate) fn end_all(&self) {
        for (_, flow) in self.0.flows.borrow_mut().drain() {
            flow.given_up.cancel();
        }
        self.0.clients.borrow_mut().clear();
    }

    /// Whether the policy lets the guest speak with a peer, which it calls by this address. A denial is logged.
    fn permits(&self, peer: SocketAddr) -> bool {
        let now = Clock::host();
        let verdict = self.0.context.policy.decide(Protocol::Udp, peer, now);
        if let Verdict::Deny(denial) = &verdict {
            self.0.context.policy.log(denial, now);
        }
        // What cannot be looked into cannot pass for a name.
        matches!(verdict, Verdict::Allow)
    }

    /// The same for a stranger who speaks first, of whom the log says nothing: the guest did not ask.
    fn allows(&self, peer: SocketAddr) -> bool {
        let now = Clock::host();
        matches!(self.0.context.policy.decide(Protocol::Udp, peer, now), Verdict::Allow)
    }

    /// Answers a question to the gateway's DNS. Where too many wait for strangers, the one that has waited longest is given
    /// up, so that names which are answered at once always are.
    fn question(&self, from: SocketAddr, to: SocketAddr, query: &[u8]) {
        let mut questions = self.0.questions.borrow_mut();
        if questions.len() >= QUESTIONS {
            questions.retain(|question| !question.is_finished());
        }
        if questions.len() >= QUESTIONS
            && let Some(oldest) = questions.pop_front()
        {
            oldest.abort();
            self.0.context.counters.count(Reason::FlowLimit);
        }
        let (udp, query) = (self.clone(), query.to_vec());
        let open = self.0.context.counters.open(Kind::UdpOut);
        let question = tokio::task::spawn_local(async move {
            let answer = udp.0.context.dns.answer(&query, From::Guest, Over::Udp).await;
            drop(open);
            if let Some(answer) = answer {
                let mut message = vec![0; udp::HEADER];
                message.extend_from_slice(&answer);
                udp.deliver(to, from, &mut message);
            }
        });
        questions.push_back(question.abort_handle());
    }

    /// Answers a question to the gateway's DHCP server.
    fn lease(&self, request: &[u8]) {
        let Some(reply) = dhcp::answer(request) else { return };
        let mut message = vec![0; udp::HEADER];
        message.extend_from_slice(&reply.payload);
        let from = SocketAddr::new(GATEWAY.into(), dhcp::SERVER);
        self.deliver(from, SocketAddr::new(reply.to.into(), dhcp::CLIENT), &mut message);
    }

    /// Sends a datagram to the guest; its payload stands behind room for the header. False when it was dropped, which is
    /// counted.
    fn deliver(&self, from: SocketAddr, to: SocketAddr, message: &mut [u8]) -> bool {
        let pair = Pair::new(from.ip(), to.ip());
        // The link cannot put a checksum into fragments.
        let cut = pair.is_some_and(|pair| pair.header() + message.len() > MTU as usize);
        let sum = cut || !self.0.context.link_sums;
        let Some(pair) = pair.filter(|_| udp::write(from, to, message, sum)) else {
            self.0.context.counters.count(Reason::TooBig);
            return false;
        };
        let identification = self.0.identification.get();
        self.0.identification.set(identification.wrapping_add(1));
        let datagram = Datagram { pair, protocol: udp::PROTOCOL, hops: HOPS, identification, message };
        datagram.emit(|length, write| self.0.context.outbound.packet(length, write))
    }
}

/// Whether a packet must not be cut on its way (RFC 791; RFC 8200, 4.5).
fn travels_whole(packet: &IpPacket<'_>) -> bool {
    match packet.source {
        IpAddr::V4(_) => packet.bytes.get(6).is_some_and(|flags| flags & 0x40 != 0),
        IpAddr::V6(_) => !packet.bytes.starts_with(&fragments::REASSEMBLED),
    }
}

/// Whether a datagram is larger than its path carries.
fn too_big(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}
