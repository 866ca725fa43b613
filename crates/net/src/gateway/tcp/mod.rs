//! TCP: each connection of the guest is a connection of the host. One task and one small stack for each, found by its two
//! ends in one step, so that a segment costs the same however many connections there are.
//!
//! ```text
//!  guest's SYN ─► policy ─► table (half open) ─► dial ─┬─► the kept SYN reaches the flow's stack ─► SYN-ACK
//!                   │                                  ├─► refused: RST   unreachable: ICMP   no answer: silence
//!                   └─► denied: RST                    └─► the guest changes its mind (RST): the dial is dropped
//!
//!  client of a published port ─► table ─► our SYN ─┬─► SYN-ACK: bytes flow
//!                                                  └─► RST or silence: the client gets a reset
//! ```

mod end;
mod flow;
mod judge;
mod pool;
mod pump;
mod segment;
mod stack;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use dhow_model::network;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::{AbortHandle, spawn_local};

use self::end::End;
use self::flow::Flow;
use self::judge::Judge;
use self::pool::Pool;
use self::pump::Pump;
use self::segment::{Ends, Segment};
use super::clock::Clock;
use super::context::Context;
use super::counters::{Kind, Reason};
use super::destination::{Destination, canonical, destination, source_is_sane};
use super::dial::{self, Failure, Target};
use super::ip::IpPacket;
use crate::dns;
use crate::packet::icmp::{self, Problem};
use crate::policy::{Protocol, Verdict};

/// Every TCP connection of one machine.
pub(super) struct Tcp {
    context: Rc<Context>,
    table: RefCell<HashMap<Ends, Entry>>,
    pool: Rc<Pool>,
    flows: Arc<Semaphore>,
    half_open: Arc<Semaphore>,
    /// The part of them that connections from strange addresses may have: a guest that invents its senders leaves the rest to
    /// those that have theirs from Docker.
    strange: Arc<Semaphore>,
    /// Where the search for a free port of the gateway goes on.
    next_port: Cell<u16>,
}

enum Entry {
    /// The host has not answered yet.
    Dialling(AbortHandle),
    Open(Rc<Flow>),
}

/// Who answers a connection of the guest.
enum Service {
    Dns,
    Host(Target),
}

impl Tcp {
    /// None yet. `flows` has a permit for each that there may be.
    pub(super) fn new(context: Rc<Context>, flows: Arc<Semaphore>) -> Rc<Tcp> {
        Rc::new(Tcp {
            table: RefCell::default(),
            pool: Pool::new(context.limits.tcp_memory, context.link_sums, context.clock().clone()),
            flows,
            half_open: Arc::new(Semaphore::new(context.limits.half_open)),
            strange: Arc::new(Semaphore::new(context.limits.half_open.div_ceil(4))),
            next_port: Cell::new(PORTS.0),
            context,
        })
    }

    /// Takes a segment from the guest.
    pub(super) fn packet(self: &Rc<Self>, packet: &IpPacket<'_>) {
        let counters = &self.context.counters;
        let Some(segment) = Segment::parse(packet) else { return counters.count(Reason::Malformed) };
        // The stack knows no extension headers, and nobody sends TCP with them.
        if packet.source.is_ipv6() && packet.header_length() != 40 {
            return counters.count(Reason::Unsupported);
        }
        match self.table.borrow().get(&segment.ends) {
            Some(Entry::Open(flow)) => return flow.receive(packet.bytes),
            Some(Entry::Dialling(dial)) => {
                if segment.rst {
                    dial.abort();
                }
                return;
            }
            None => {}
        }
        if segment.opens() {
            self.open(packet, &segment);
        } else if !segment.rst {
            counters.count(Reason::NoFlow);
            segment.refuse(&self.context.outbound);
        }
    }

    /// The guest says that what `sender` sent does not reach `receiver`. A connection that is being opened ends with that;
    /// one that is open goes on (RFC 1122, 4.2.3.9).
    pub(super) fn not_taken(&self, sender: SocketAddr, receiver: SocketAddr) {
        if let Some(Entry::Open(flow)) = self.table.borrow().get(&Ends { guest: receiver, peer: sender }) {
            flow.not_taken();
        }
    }

    /// Ends every connection: the guest's link is gone.
    pub(super) fn end_all(&self) {
        for entry in self.table.borrow().values() {
            match entry {
                Entry::Dialling(dial) => dial.abort(),
                Entry::Open(flow) => flow.end(),
            }
        }
    }

    /// The guest went to sleep, perhaps with something on its way that somebody waits for.
    pub(super) fn freeze(&self) {
        self.pool.shrink();
        for entry in self.table.borrow().values() {
            if let Entry::Open(flow) = entry
                && flow.expects()
            {
                self.context.clock().want();
            }
        }
    }

    /// The guest is awake: each connection looks at what has come meanwhile.
    pub(super) fn thaw(&self) {
        for entry in self.table.borrow().values() {
            if let Entry::Open(flow) = entry {
                flow.wake();
            }
        }
    }

    /// The guest asks for a connection.
    fn open(self: &Rc<Self>, packet: &IpPacket<'_>, segment: &Segment) {
        let context = &self.context;
        let counters = &context.counters;
        let refuse = |reason| {
            counters.count(reason);
            segment.refuse(&context.outbound);
        };
        let peer = segment.ends.peer;
        let service = match destination(peer.ip()) {
            Destination::Gateway if peer.port() == 53 => Service::Dns,
            Destination::Host | Destination::Gateway if context.host_loopback => {
                Service::Host(Target::Loopback(peer.port()))
            }
            Destination::Host | Destination::Gateway => return refuse(Reason::Denied),
            Destination::Outside(address) => {
                Service::Host(Target::Address(SocketAddr::new(address, peer.port())))
            }
            Destination::HostInterface | Destination::Martian => return counters.count(Reason::Martian),
        };
        if !source_is_sane(segment.ends.guest.ip()) {
            return counters.count(Reason::Martian);
        }
        let mut pump = Pump::default();
        match context.policy.decide(Protocol::Tcp, peer, Clock::host()) {
            Verdict::Allow => {}
            Verdict::Inspect(inspection) => {
                pump.judge = Some(Judge::new(inspection, context.policy.clone(), counters.clone()));
            }
            Verdict::Deny(denial) => {
                context.policy.log(&denial, Clock::host());
                return refuse(Reason::Denied);
            }
        }
        // A guest that has too many gets no answer and tries again.
        let Ok(strange) = self.strange(segment.ends.guest.ip()) else {
            return counters.count(Reason::HalfOpenLimit);
        };
        let Ok(half_open) = self.half_open.clone().try_acquire_owned() else {
            return counters.count(Reason::HalfOpenLimit);
        };
        let Ok(permit) = self.flows.clone().try_acquire_owned() else {
            return counters.count(Reason::FlowLimit);
        };
        let seat = Seat { tcp: self.clone(), ends: segment.ends, permit };
        let task =
            spawn_local(seat.outgoing(*segment, packet.bytes.to_vec(), service, pump, (half_open, strange)));
        self.table.borrow_mut().insert(segment.ends, Entry::Dialling(task.abort_handle()));
    }

    /// A place among the strangers, where an address is neither the guest's own nor in one of Docker's networks.
    fn strange(&self, address: IpAddr) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        let own = address == IpAddr::V4(network::GUEST) || address == IpAddr::V6(network::GUEST6);
        if own || self.context.is_guest(address) {
            return Ok(None);
        }
        self.strange.clone().try_acquire_owned().map(Some)
    }

    /// Opens a connection to the guest for an accepted client, and takes care of it. `permit` is one of the flows'.
    pub(super) fn connect(
        self: &Rc<Self>,
        client: TcpStream,
        from: SocketAddr,
        target: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) {
        let published = client.local_addr().map_or(0, |address| address.port());
        dial::prepare(&client);
        let client = End::from(client);
        if let Verdict::Deny(denial) = self.context.policy.accept(Protocol::Tcp, from, published) {
            self.context.policy.log(&denial, Clock::host());
            return self.context.counters.count(Reason::Denied);
        }
        let Some(ends) = self.ends(from, target) else {
            self.context.counters.count(Reason::FlowLimit);
            return;
        };
        let Some(mut stack) = self.pool.take() else {
            self.context.counters.count(Reason::FlowLimit);
            return;
        };
        if !stack.connect(ends.peer, ends.guest) {
            self.context.counters.count(Reason::Martian);
            return;
        }
        let flow = Rc::new(Flow::new(stack, self.context.outbound.clone()));
        self.context.clock().want();
        self.table.borrow_mut().insert(ends, Entry::Open(flow.clone()));
        let seat = Seat { tcp: self.clone(), ends, permit };
        let open = self.context.counters.open(Kind::TcpIn);
        spawn_local(async move {
            flow.run(client, Pump::default(), ()).await;
            drop((seat, open));
        });
    }

    /// The two ends of a connection to `target`, under the client's own address where the guest can answer to that.
    fn ends(&self, from: SocketAddr, target: SocketAddr) -> Option<Ends> {
        let guest = SocketAddr::new(canonical(target.ip()), target.port());
        let client = canonical(from.ip());
        let own = client.is_ipv4() == guest.is_ipv4()
            && source_is_sane(client)
            && !network::contains(client)
            && !self.context.is_guest(client);
        let address = if own { client } else { gateway(guest) };
        let peer = self.free_port(guest, address, from.port())?;
        Some(Ends { guest, peer })
    }

    /// `wished`, or the next port that makes a new pair of ends.
    fn free_port(&self, guest: SocketAddr, address: IpAddr, wished: u16) -> Option<SocketAddr> {
        let table = self.table.borrow();
        let free = |port: u16| {
            let peer = SocketAddr::new(address, port);
            (port != 0 && !table.contains_key(&Ends { guest, peer })).then_some(peer)
        };
        free(wished).or_else(|| {
            (PORTS.0..=PORTS.1).find_map(|_| {
                let port = self.next_port.get();
                self.next_port.set(if port == PORTS.1 { PORTS.0 } else { port + 1 });
                free(port)
            })
        })
    }
}

/// Ports that the gateway takes where the client's own cannot be used.
const PORTS: (u16, u16) = (1024, 65535);

/// A connection's place in the table, and among all that there may be. It leaves both when dropped.
struct Seat {
    tcp: Rc<Tcp>,
    ends: Ends,
    #[expect(dead_code, reason = "held for as long as the connection")]
    permit: OwnedSemaphorePermit,
}

impl Seat {
    /// A connection that the guest asks for, from its SYN to its end.
    async fn outgoing(
        self,
        segment: Segment,
        syn: Vec<u8>,
        service: Service,
        pump: Pump,
        half_open: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
    ) {
        let context = &self.tcp.context;
        let waiting = (half_open, context.counters.open(Kind::TcpHalfOpen));
        let end = match service {
            Service::Dns => dns_end(context),
            Service::Host(target) => dial::dial(target).await.map(End::from),
        };
        let end = match end {
            Ok(end) => end,
            Err(failure) => return self.tcp.fail(failure, &segment, &syn),
        };
        // It may sleep by now.
        context.clock().want();
        let Some(mut stack) = self.tcp.pool.take() else {
            context.counters.count(Reason::FlowLimit);
            return;
        };
        if !stack.listen(self.ends.peer) {
            return;
        }
        let flow = Rc::new(Flow::new(stack, context.outbound.clone()));
        self.tcp.table.borrow_mut().insert(self.ends, Entry::Open(flow.clone()));
        flow.receive(&syn);
        let _open = context.counters.open(Kind::TcpOut);
        flow.run(end, pump, waiting).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Slot::Occupied(entry) = self.tcp.table.borrow_mut().entry(self.ends) {
            entry.remove();
        }
    }
}

impl Tcp {
    /// Tells the guest why its connection cannot be, as a network would.
    fn fail(&self, failure: Failure, segment: &Segment, syn: &[u8]) {
        let context = &self.context;
        context.counters.count(failure.reason());
        let problem = match failure {
            Failure::TimedOut | Failure::Exhausted => return,
            Failure::Refused => None,
            Failure::Unreachable => Some(Problem::Host),
            Failure::Prohibited => Some(Problem::Prohibited),
        };
        context.clock().want();
        let Some(problem) = problem else { return segment.refuse(&context.outbound) };
        if let Some(error) = icmp::error(gateway(segment.ends.peer), syn, problem) {
            context.outbound.packet(error.len(), |packet| packet.copy_from_slice(&error));
        }
    }
}

/// The gateway's own address in the family of `other`.
fn gateway(other: SocketAddr) -> IpAddr {
    if other.is_ipv4() { network::GATEWAY.into() } else { network::GATEWAY6.into() }
}

/// One half of a pair whose other half is the resolver.
fn dns_end(context: &Context) -> Result<End, Failure> {
    let (ours, theirs) = UnixStream::pair().map_err(|_| Failure::Exhausted)?;
    // It ends with its stream: when our half is dropped, or after its own time limit.
    spawn_local(context.dns.clone().serve_stream(theirs, dns::From::Guest));
    Ok(ours.into())
}
