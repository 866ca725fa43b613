//! A guest's flow to the outside: a host socket, and the task that carries back what arrives on it until it has been silent for
//! too long.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use dhow_model::network::{GATEWAY, GATEWAY6, HOST, HOST6};
use tokio_util::sync::CancellationToken;

use super::Udp;
use super::life::Life;
use super::route::Way;
use super::socket::{HostSocket, Trouble};
use crate::gateway::Reason;
use crate::gateway::counters::Open;
use crate::gateway::destination::{Destination, destination};
use crate::packet::udp;

/// Datagrams that one flow carries before others have their turn.
const AT_ONCE: usize = 64;

/// Bytes that wait at once where much arrives.
const MUCH: usize = 64 << 10;

/// Who asked, and in which way.
pub(super) type Key = (SocketAddr, Way);

/// A flow.
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) socket: HostSocket,
    pub(super) life: RefCell<Life>,
    /// Peers that the guest has sent to, as it calls them: the last few.
    pub(super) peers: RefCell<VecDeque<SocketAddr>>,
    /// Cancelled when the flow has been given up for another.
    pub(super) given_up: CancellationToken,
    pub(super) _alive: Rc<()>,
    pub(super) _open: Open,
}

/// Peers that a flow remembers.
const PEERS: usize = 16;

impl Flow {
    /// Whether the guest has sent to a peer in this flow.
    pub(super) fn knows(&self, peer: SocketAddr) -> bool {
        self.peers.borrow().contains(&peer)
    }

    /// Notes that the guest sends to a peer.
    pub(super) fn remember(&self, peer: SocketAddr) {
        let mut peers = self.peers.borrow_mut();
        if peers.back() != Some(&peer) && !peers.contains(&peer) {
            if peers.len() == PEERS {
                peers.pop_front();
            }
            peers.push_back(peer);
        }
    }

    /// A peer as the guest knows it; `None`: the guest has no name for it, and could not have asked it in this way.
    fn seen(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let six = peer.is_ipv6();
        let alias: IpAddr = match self.key.1 {
            Way::Outside => match destination(peer.ip()) {
                Destination::Outside(address) => address,
                _ => return None,
            },
            _ if !peer.ip().is_loopback() => return None,
            Way::Loopback if six => HOST6.into(),
            Way::Loopback => HOST.into(),
            Way::Gateway if six => GATEWAY6.into(),
            Way::Gateway => GATEWAY.into(),
        };
        Some(SocketAddr::new(alias, peer.port()))
    }
}

impl Udp {
    /// Carries a flow's answers to the guest until the flow ends.
    pub(super) async fn run(self, flow: Rc<Flow>) {
        loop {
            let end = flow.life.borrow().end();
            if self.now() >= end {
                break;
            }
            tokio::select! {
                biased;
                () = flow.given_up.cancelled() => break,
                ready = self.ready(&flow) => {
                    if let Err(error) = ready {
                        tracing::debug!(%error, "waiting for a udp socket");
                        break;
                    }
                    self.drain(&flow);
                    tokio::task::yield_now().await;
                }
                () = self.0.context.clock().sleep_until(end) => {}
            }
        }
        self.forget(&flow);
    }

    /// Waits for a datagram or an error on a flow's socket, and for room to carry it.
    async fn ready(&self, flow: &Flow) -> io::Result<()> {
        self.room().await;
        flow.socket.ready().await
    }

    /// Waits for room in the queue to the guest.
    pub(super) async fn room(&self) {
        let outbound = &self.0.context.outbound;
        while !outbound.has_room() {
            outbound.room().await;
            outbound.pass_on();
        }
    }

    fn drain(&self, flow: &Flow) {
        let mut scratch = self.0.scratch.borrow_mut();
        let mut carried = 0;
        for _ in 0..AT_ONCE {
            // What is left is still there when this flow has its turn again.
            if !self.0.context.outbound.has_room() {
                break;
            }
            match flow.socket.inner.try_recv_from(&mut scratch[udp::HEADER..]) {
                Ok((length, peer)) => {
                    let message = &mut scratch[..udp::HEADER + length];
                    self.answer(flow, peer, message);
                    carried += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The error of a datagram that was sent; the queue below has the rest of it.
                Err(_) => {}
            }
        }
        drop(scratch);
        if carried >= MUCH {
            flow.socket.widen();
        }
        self.tell(flow, flow.socket.troubles());
    }

    /// Tells the guest what became of datagrams that it sent.
    pub(super) fn tell(&self, flow: &Flow, troubles: Vec<Trouble>) {
        for trouble in troubles.into_iter().filter(|trouble| trouble.to.port() != 0) {
            if let Some(to) = flow.seen(trouble.to) {
                let sent = (flow.key.0, to);
                self.0.reports.udp(sent, &trouble.begin, trouble.problem, trouble.offender);
            }
        }
    }

    /// Carries one datagram to the guest; its payload stands behind the room for the header.
    fn answer(&self, flow: &Flow, peer: SocketAddr, message: &mut [u8]) {
        let Some(from) = flow.seen(peer) else {
            self.0.context.counters.count(Reason::Martian);
            return;
        };
        if !flow.knows(from) && !self.allows(from) {
            self.0.context.counters.count(Reason::Denied);
            return;
        }
        flow.life.borrow_mut().received(self.now());
        self.deliver(from, flow.key.0, message);
    }
}
