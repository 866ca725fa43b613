//! Published UDP ports: each client of a bound socket, an address and a port, is a flow to the container, under the client's
//! own address where the container can answer to it (spec 4.5). What the container answers goes back to that client, from
//! the address of the host that it asked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use dhow_model::network::{self, GATEWAY, GATEWAY6};
use tokio::time::Instant;

use super::Udp;
use super::bound::{Bound, Local};
use super::life::Life;
use crate::gateway::clock::Clock;
use crate::gateway::counters::Open;
use crate::gateway::destination::{canonical, source_is_sane};
use crate::gateway::{Kind, Reason};
use crate::packet::udp;
use crate::policy::{Protocol, Verdict};

/// Datagrams that one port carries before others have their turn.
const AT_ONCE: usize = 64;
/// How often silent clients are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Ports that the gateway takes where a client's own cannot be used.
const PORTS: (u16, u16) = (1024, 65_535);

/// A client as its socket sees it. Two sockets may have the same client, hence the socket's number.
type Caller = (u64, SocketAddr, Option<Local>);
/// The two ends of a client's flow as the guest sees it: the container's, and the client's.
type Ends = (SocketAddr, SocketAddr);

struct Client {
    caller: Caller,
    bound: Rc<Bound>,
    life: Life,
    _open: Open,
}

/// Every client of every published port.
pub(super) struct Clients {
    limit: usize,
    by_ends: HashMap<Ends, Client>,
    by_caller: HashMap<Caller, Ends>,
    next_socket: u64,
    next_port: u16,
}

impl Clients {
    /// None, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Clients {
        Clients {
            limit,
            by_ends: HashMap::new(),
            by_caller: HashMap::new(),
            next_socket: 0,
            next_port: PORTS.0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_ends.clear();
        self.by_caller.clear();
    }

    fn forget(&mut self, ends: &Ends) {
        if let Some(client) = self.by_ends.remove(ends) {
            self.by_caller.remove(&client.caller);
        }
    }

    /// Forgets each client that a rule names.
    fn forget_where(&mut self, rule: impl Fn(&Client) -> bool) {
        let by_caller = &mut self.by_caller;
        self.by_ends.retain(|_, client| {
            let gone = rule(client);
            if gone {
                by_caller.remove(&client.caller);
            }
            !gone
        });
    }

    /// Makes room for one more, if need be at the cost of the one that is missed least.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.by_ends.len() < self.limit {
            return true;
        }
        let least = self
            .by_ends
            .iter()
            .filter_map(|(ends, client)| Some((client.life.expendable(now)?, *ends)))
            .min_by_key(|(expendable, _)| *expendable);
        if let Some((_, ends)) = least {
            self.forget(&ends);
        }
        least.is_some()
    }

    /// `wished`, or the next port that makes a new pair of ends. The gateway's own services have ports below 1,024, and
    /// no client has one of them under the gateway's address.
    fn free_port(&mut self, target: SocketAddr, address: IpAddr, wished: u16) -> Option<SocketAddr> {
        let usable = wished >= PORTS.0 || wished != 0 && !network::contains(address);
        let own = SocketAddr::new(address, wished);
        if usable && !self.by_ends.contains_key(&(target, own)) {
            return Some(own);
        }
        (PORTS.0..=PORTS.1).find_map(|_| {
            let free = SocketAddr::new(address, self.next_port);
            self.next_port = if self.next_port == PORTS.1 { PORTS.0 } else { self.next_port + 1 };
            (!self.by_ends.contains_key(&(target, free))).then_some(free)
        })
    }
}

impl Udp {
    /// Carries datagrams between a bound socket of the host and a service in the guest. Ends when it is dropped, and with
    /// an error when the socket cannot be used.
    pub(crate) async fn publish(self, socket: std::net::UdpSocket, target: SocketAddr) -> io::Result<()> {
        let bound = Rc::new(Bound::new(socket)?);
        let number = {
            let mut clients = self.0.clients.borrow_mut();
            clients.next_socket += 1;
            clients.next_socket
        };
        let port = Published {
            udp: self.clone(),
            bound,
            number,
            target: SocketAddr::new(canonical(target.ip()), target.port()),
        };
        let clock = self.0.context.clock();
        let sweep = clock.sleep(SWEEP);
        tokio::pin!(sweep);
        loop {
            tokio::select! {
                ready = port.ready() => {
                    ready?;
                    port.drain();
                    tokio::task::yield_now().await;
                }
                () = &mut sweep => {
                    let now = clock.now();
                    let of_ours = |client: &Client| client.caller.0 == number && now >= client.life.end();
                    self.0.clients.borrow_mut().forget_where(of_ours);
                    sweep.set(clock.sleep(SWEEP));
                }
            }
        }
    }

    /// Whether a guest's datagram is an answer to a client of a published port, to whom it goes then.
    pub(super) fn to_client(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        let mut clients = self.0.clients.borrow_mut();
        let Some(client) = clients.by_ends.get_mut(&(from, to)) else { return false };
        client.life.received(self.now());
        let (_, address, local) = client.caller;
        if let Err(error) = client.bound.send(payload, address, local) {
            tracing::trace!(%error, client = %address, "answering a client of a published port");
            self.0.context.counters.count(Reason::HostUnreachable);
        }
        true
    }
}

impl Udp {
    /// The guest has no use for a datagram that came from `sender` to `receiver`. Who published the port lets nobody
    /// listen on it now: the client's place is free for others, and it begins anew if it comes again.
    pub(crate) fn not_taken(&self, sender: SocketAddr, receiver: SocketAddr) {
        self.0.clients.borrow_mut().forget(&(receiver, sender));
    }
}

/// One published port while it is served. Its clients go with it.
struct Published {
    udp: Udp,
    bound: Rc<Bound>,
    number: u64,
    target: SocketAddr,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.udp.0.clients.borrow_mut().forget_where(|client| client.caller.0 == self.number);
    }
}

impl Published {
    /// Waits for a datagram, and for room to carry it. One for a guest that sleeps stays where it is, with as many after it as
    /// the host keeps for this socket.
    async fn ready(&self) -> io::Result<()> {
        let clock = self.udp.0.context.clock();
        if clock.frozen() {
            tokio::select! {
                () = clock.awake() => {}
                asked = self.asked() => {
                    asked?;
                    clock.want();
                    clock.awake().await;
                }
            }
        }
        self.udp.room().await;
        self.bound.inner.readable().await
    }

    /// Waits for a datagram of a client that may come in; others are thrown away.
    async fn asked(&self) -> io::Result<()> {
        let context = &self.udp.0.context;
        loop {
            self.bound.inner.readable().await?;
            let Ok(client) = self.bound.inner.try_peek_sender() else { continue };
            let plain = SocketAddr::new(canonical(client.ip()), client.port());
            if !matches!(context.policy.accept(Protocol::Udp, plain, self.bound.port), Verdict::Deny(_)) {
                return Ok(());
            }
            context.counters.count(Reason::Denied);
            // An error is told again by the next look.
            self.bound.receive(&mut []).ok();
        }
    }

    fn drain(&self) {
        let inner = &self.udp.0;
        let mut scratch = inner.scratch.borrow_mut();
        for _ in 0..AT_ONCE {
            if !inner.context.outbound.has_room() {
                break;
            }
            match self.bound.receive(&mut scratch[udp::HEADER..]) {
                Ok((length, client, local)) => {
                    if let Some(from) = self.client(client, local) {
                        let message = &mut scratch[..udp::HEADER + length];
                        self.udp.deliver(from, self.target, message);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // About an answer before: a client that does not listen any more.
                Err(_) => {}
            }
        }
    }

    /// As whom the guest sees a client; a new one is judged first. `None`: it is not let in.
    fn client(&self, address: SocketAddr, local: Option<Local>) -> Option<SocketAddr> {
        let context = &self.udp.0.context;
        let now = self.udp.now();
        let caller = (self.number, address, local);
        let mut clients = self.udp.0.clients.borrow_mut();
        let clients = &mut *clients;
        if let Some(ends) = clients.by_caller.get(&caller) {
            let client = clients.by_ends.get_mut(ends)?;
            client.life.sent(0, now);
            return Some(ends.1);
        }
        let plain = SocketAddr::new(canonical(address.ip()), address.port());
        if let Verdict::Deny(denial) = context.policy.accept(Protocol::Udp, plain, self.bound.port) {
            context.policy.log(&denial, Clock::host());
            context.counters.count(Reason::Denied);
            return None;
        }
        let seen = self.seen(plain.ip());
        let room = clients.make_room(now);
        let Some(seen) = room.then(|| clients.free_port(self.target, seen, plain.port())).flatten() else {
            context.counters.count(Reason::FlowLimit);
            return None;
        };
        let mut life = Life::new(now);
        life.sent(0, now);
        let client =
            Client { caller, bound: self.bound.clone(), life, _open: context.counters.open(Kind::UdpIn) };
        clients.by_ends.insert((self.target, seen), client);
        clients.by_caller.insert(caller, (self.target, seen));
        Some(seen)
    }

    /// A client's own address, or the gateway's where the guest could not answer to it.
    fn seen(&self, client: IpAddr) -> IpAddr {
        let own = client.is_ipv4() == self.target.is_ipv4()
            && source_is_sane(client)
            && !matches!(client, IpAddr::V6(address) if address.is_unicast_link_local())
            && !network::contains(client)
            && !self.udp.0.context.is_guest(client);
        match self.target {
            _ if own => client,
            SocketAddr::V4(_) => GATEWAY.into(),
            SocketAddr::V6(_) => GATEWAY6.into(),
        }
    }
}
