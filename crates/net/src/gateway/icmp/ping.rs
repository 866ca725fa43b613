//! Echo requests to the outside on the host's own sockets: ping sockets (`net.ipv4.ping_group_range`), which the kernel keeps
//! apart by their identifier, or, for a user who may, raw ones, which get every echo reply of their peer.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Icmp;
use crate::gateway::counters::Open;
use crate::gateway::ip::IpPacket;
use crate::packet::icmp::{self, Echo};
use crate::packet::ip::{HOPS, Pair};
use crate::packet::word;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Replies that one conversation carries before others have their turn.
const AT_ONCE: usize = 16;

/// Who asks whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) guest: IpAddr,
    /// The guest's own.
    pub(super) identifier: u16,
    pub(super) peer: IpAddr,
}

/// One conversation.
pub(super) struct Ping {
    key: Key,
    /// The identifier on the host's side, which only a raw socket has to know.
    raw: Option<u16>,
    socket: UdpSocket,
    last: Cell<Instant>,
    given_up: CancellationToken,
    _open: Open,
}

impl Ping {
    /// Opens a socket that is connected to the peer. `identifier` is for a raw one.
    pub(super) fn open(key: Key, identifier: u16, open: Open, now: Instant) -> io::Result<Ping> {
        let (domain, protocol) = match key.peer {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (Socket::new(domain, Type::RAW, Some(protocol))?, Some(identifier))
            }
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        #[cfg(target_os = "linux")]
        if raw.is_none() {
            crate::gateway::udp::errors::ask(&socket, key.peer.is_ipv6())?;
        }
        socket.connect(&SocketAddr::new(key.peer, 0).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let last = Cell::new(now);
        Ok(Ping { key, raw, socket, last, given_up: CancellationToken::new(), _open: open })
    }

    /// Sends a request of the guest's on.
    pub(super) fn ask(
        &self,
        pair: Pair,
        echo: Echo<'_>,
        packet: &IpPacket<'_>,
        now: Instant,
    ) -> io::Result<()> {
        self.last.set(now);
        let socket = SockRef::from(&self.socket);
        let hops = if packet.hop_limit - 1 < HOPS / 2 { packet.hop_limit - 1 } else { HOPS };
        match self.key.peer {
            IpAddr::V4(_) => socket.set_ttl_v4(hops.into())?,
            IpAddr::V6(_) => socket.set_unicast_hops_v6(hops.into())?,
        }
        let echo = Echo { identifier: self.raw.unwrap_or(echo.identifier), ..echo };
        let message = icmp::request(pair, echo);
        // An error of a request before this one may stand in the way once.
        socket.send(&message).or_else(|_| socket.send(&message)).map(|_| ())
    }

    /// When anything was last said.
    pub(super) fn last(&self) -> Instant {
        self.last.get()
    }

    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    /// The reply in what the socket received, under the guest's own identifier.
    fn reply<'a>(&self, received: &'a [u8]) -> Option<Echo<'a>> {
        // With the IP header: raw IPv4 sockets everywhere, and macOS's ping sockets.
        let headed = self.key.peer.is_ipv4() && (self.raw.is_some() || cfg!(target_os = "macos"));
        let message =
            if headed { received.get(usize::from(received.first()? & 15) * 4..)? } else { received };
        let kind = if self.key.peer.is_ipv4() { 0 } else { 129 };
        if *message.first()? != kind || self.raw.is_some_and(|own| word(message, 4) != Some(own)) {
            return None;
        }
        Some(Echo { identifier: self.key.identifier, sequence: word(message, 6)?, data: message.get(8..)? })
    }
}

impl Icmp {
    /// Carries a conversation's replies to the guest until it is over.
    pub(super) async fn run(self, ping: Rc<Ping>) {
        #[cfg(target_os = "linux")]
        let interest = Interest::READABLE | Interest::ERROR;
        #[cfg(not(target_os = "linux"))]
        let interest = Interest::READABLE;
        let clock = self.0.context.clock();
        loop {
            let end = ping.last.get() + PATIENCE;
            if clock.now() >= end {
                break;
            }
            tokio::select! {
                biased;
                () = ping.given_up.cancelled() => break,
                ready = self.ready(&ping, interest) => {
                    if ready.is_err() {
                        break;
                    }
                    self.replies(&ping);
                    #[cfg(target_os = "linux")]
                    self.troubles(&ping);
                    tokio::task::yield_now().await;
                }
                () = clock.sleep_until(end) => {}
            }
        }
        let mut pings = self.0.pings.borrow_mut();
        if pings.get(&ping.key).is_some_and(|there| Rc::ptr_eq(there, &ping)) {
            pings.remove(&ping.key);
        }
    }

    /// Waits for a reply or an error. Those for a guest that sleeps wait with the host.
    async fn ready(&self, ping: &Ping, interest: Interest) -> io::Result<()> {
        self.0.context.clock().awake().await;
        ping.socket.ready(interest).await.map(|_| ())
    }

    fn replies(&self, ping: &Ping) {
        let mut scratch = self.0.scratch.borrow_mut();
        for _ in 0..AT_ONCE {
            match ping.socket.try_recv(&mut scratch) {
                Ok(length) => {
                    if let Some(echo) = ping.reply(&scratch[..length]) {
                        ping.last.set(self.0.context.clock().now());
                        self.reply(ping.key.peer, ping.key.guest, echo);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
    }

    /// Tells the guest what became of its requests. Only Linux knows.
    #[cfg(target_os = "linux")]
    fn troubles(&self, ping: &Ping) {
        for trouble in crate::gateway::udp::errors::take(&ping.socket) {
            let (Some(pair), Some(sequence)) =
                (Pair::new(ping.key.guest, ping.key.peer), word(&trouble.begin, 6))
            else {
                continue;
            };
            let data = trouble.begin.get(8..).unwrap_or_default();
            let echo = Echo { identifier: ping.key.identifier, sequence, data };
            let about = icmp::request(pair, echo);
            if let Some(about) = icmp::datagram(pair, 0, &about).to_vec() {
                self.0.reports.bytes(&about, ping.key.peer, trouble.problem, trouble.offender);
            }
        }
    }
}
