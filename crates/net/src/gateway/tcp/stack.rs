//! One TCP endpoint facing the guest: a smoltcp interface with a single socket, which answers under whatever address the
//! guest believes it talks to. Segments go from the link's read buffer straight into its receive ring, and from its
//! send ring straight into the queue to the guest.

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant as Stamp;
use smoltcp::wire::{HardwareAddress, IpEndpoint, Ipv4Address, Ipv6Address};
use tokio::time::Instant;

use crate::gateway::clock::Clock;
use crate::gateway::outbound::{MTU, Outbound};

/// A guest that says nothing for this long is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// One that does not answer for this long is gone.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How long an acknowledgement waits for bytes that it could travel with: each packet less is an interrupt less in the guest.
/// More than one full segment is acknowledged at once.
const ACK_DELAY: Duration = Duration::from_millis(2);

/// What remains to be sent after [`Stack::emit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing for now.
    Nothing,
    /// More than the turn's share of packets.
    More,
    /// The queue to the guest is full.
    Blocked,
}

pub(super) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    /// Bytes of each of its two rings.
    ring: usize,
    /// Where its clock begins.
    epoch: Instant,
}

impl Stack {
    /// A closed endpoint with two rings of `ring` bytes. The memory is not touched before bytes arrive. With `link_sums` its
    /// segments leave without a checksum.
    pub(super) fn new(ring: usize, seed: u64, link_sums: bool, now: Instant) -> Stack {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut Nothing { link_sums }, Stamp::ZERO);
        interface.set_any_ip(true);
        // Any router will do: on an IP link it is not asked for an address. The table has room for two routes.
        let routes = interface.routes_mut();
        if routes.add_default_ipv4_route(Ipv4Address::new(0, 0, 0, 1)).is_err()
            || routes.add_default_ipv6_route(Ipv6Address::LOCALHOST).is_err()
        {
            tracing::error!("smoltcp's route table has no room for two routes: TCP will not work");
        }
        let mut socket = Socket::new(SocketBuffer::new(vec![0; ring]), SocketBuffer::new(vec![0; ring]));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACK_DELAY.into()));
        // The link loses nothing; its queue is what slows a sender down.
        socket.set_congestion_control(CongestionControl::None);
        socket.set_keep_alive(Some(KEEP_ALIVE.into()));
        socket.set_timeout(Some(TIMEOUT.into()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(socket);
        Stack { interface, sockets, socket, ring, epoch: now }
    }

    /// Bytes of its two rings together.
    pub(super) fn memory(&self) -> usize {
        2 * self.ring
    }

    /// Bytes of one ring.
    pub(super) fn ring(&self) -> usize {
        self.ring
    }

    /// Forgets what it did before and waits for a SYN to `local`. False: the port is 0.
    pub(super) fn listen(&mut self, local: SocketAddr) -> bool {
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        socket.abort();
        socket.set_tsval_generator(None);
        socket.listen(IpEndpoint::from(local)).is_ok()
    }

    /// Forgets what it did before and sends a SYN from `local` with the next [`Self::emit`]. False: an address or a
    /// port that cannot be connected.
    pub(super) fn connect(&mut self, local: SocketAddr, remote: SocketAddr) -> bool {
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        socket.abort();
        // Time stamps let the guest's kernel tell a new connection from an old one of the same ports that it still remembers
        // (RFC 6191). They wrap, as RFC 7323 has it, after more time than passes between two keep-alives; a whole
        // millisecond would be too coarse to tell two short connections apart.
        socket.set_tsval_generator(Some(Clock::ticks));
        socket.connect(self.interface.context(), IpEndpoint::from(remote), IpEndpoint::from(local)).is_ok()
    }

    /// The socket, to move data.
    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket>(self.socket)
    }

    pub(super) fn state(&self) -> State {
        self.sockets.get::<Socket>(self.socket).state()
    }

    /// Takes a packet that belongs to this connection. What it sets off leaves with the next [`Self::emit`].
    pub(super) fn receive(&mut self, packet: &[u8], outbound: &Outbound, now: Instant) {
        let stamp = self.stamp(now);
        let mut port = Port { inbound: Some(packet), outbound, share: 0, rest: Rest::Nothing };
        self.interface.poll_ingress_single(stamp, &mut port, &mut self.sockets);
    }

    /// Sends what may be sent, at most `share` packets.
    pub(super) fn emit(&mut self, outbound: &Outbound, now: Instant, share: usize) -> Rest {
        let stamp = self.stamp(now);
        let mut port = Port { inbound: None, outbound, share, rest: Rest::Nothing };
        while self.interface.poll_egress(stamp, &mut port, &mut self.sockets) != PollResult::None {}
        port.rest
    }

    /// When [`Self::emit`] has something to do even if nothing happens before.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let stamp = self.stamp(now);
        let at = self.interface.poll_at(stamp, &self.sockets)?;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        // Never now: what can be done now has been done.
        Some((self.epoch + Duration::from_micros(micros)).max(now + Duration::from_millis(1)))
    }

    fn stamp(&self, now: Instant) -> Stamp {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        Stamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// The stack's view of the link for one call.
struct Port<'a> {
    inbound: Option<&'a [u8]>,
    outbound: &'a Outbound,
    share: usize,
    rest: Rest,
}

struct Inbound<'a>(&'a [u8]);
struct Answer<'a>(&'a Outbound);

impl Device for Port<'_> {
    type RxToken<'b>
        = Inbound<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Answer<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Stamp) -> Option<(Inbound<'_>, Answer<'_>)> {
        Some((Inbound(self.inbound.take()?), Answer(self.outbound)))
    }

    fn transmit(&mut self, _: Stamp) -> Option<Answer<'_>> {
        if !self.outbound.has_room() {
            self.rest = Rest::Blocked;
            return None;
        }
        let Some(share) = self.share.checked_sub(1) else {
            self.rest = Rest::More;
            return None;
        };
        self.share = share;
        Some(Answer(self.outbound))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // Those that count were asked for at the interface's birth.
        capabilities(false)
    }
}

fn capabilities(link_sums: bool) -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::default();
    // The link has no way to damage bytes; what the guest's kernel gets is right.
    checksum.tcp = if link_sums { Checksum::None } else { Checksum::Tx };
    checksum.ipv4 = Checksum::Tx;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MTU;
    capabilities.checksum = checksum;
    capabilities
}

impl RxToken for Inbound<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Answer<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        // What has no room is dropped and counted; smoltcp sends again what matters.
        self.0.try_packet(length, f).unwrap_or_else(|f| f(&mut vec![0; length]))
    }
}

/// A device for the interface's birth, which only asks for its properties.
struct Nothing {
    link_sums: bool,
}

impl Device for Nothing {
    type RxToken<'b> = Inbound<'b>;
    type TxToken<'b> = Answer<'b>;

    fn receive(&mut self, _: Stamp) -> Option<(Inbound<'_>, Answer<'_>)> {
        None
    }

    fn transmit(&mut self, _: Stamp) -> Option<Answer<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.link_sums)
    }
}
