//! Telling the guest why a packet of its own went nowhere, not more often than a network should (RFC 1812, 4.3.2.8).

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use dhow_model::network::{GATEWAY, GATEWAY6};

use super::rate::Rate;
use crate::gateway::ip::IpPacket;
use crate::gateway::outbound::Outbound;
use crate::gateway::{Counters, Reason};
use crate::packet::icmp::{self, Problem};

/// Errors told in a second, and at once after a pause: what a port scan of a guest's own needs, and a flood does not get.
const PER_SECOND: u32 = 200;
const AT_ONCE: u32 = 400;

/// Sends ICMP errors to the guest. A clone is the same.
#[derive(Clone)]
pub(crate) struct Reports(Rc<Inner>);

struct Inner {
    outbound: Outbound,
    counters: Arc<Counters>,
    rate: RefCell<Rate>,
}

impl Reports {
    pub(crate) fn new(outbound: Outbound, counters: Arc<Counters>) -> Reports {
        let rate = RefCell::new(Rate::new(PER_SECOND, AT_ONCE, outbound.clock().now()));
        Reports(Rc::new(Inner { outbound, counters, rate }))
    }

    /// Tells the sender of a packet what became of it.
    pub(crate) fn packet(&self, about: &IpPacket<'_>, problem: Problem) {
        let from = teller(about.destination, problem, None);
        self.send(|| icmp::error(from, about.bytes, problem));
    }

    /// The same about a packet's bytes, with the station on the way that had the problem, if that is known.
    #[cfg(target_os = "linux")]
    pub(crate) fn bytes(&self, about: &[u8], to: IpAddr, problem: Problem, offender: Option<IpAddr>) {
        let from = teller(to, problem, offender);
        self.send(|| icmp::error(from, about, problem));
    }

    /// Tells the sender of a UDP datagram, which is not at hand any more, what became of it: from whom to whom it was sent,
    /// how it began, and which station on the way had the problem, if that is known.
    pub(crate) fn udp(
        &self,
        sent: (SocketAddr, SocketAddr),
        begin: &[u8],
        problem: Problem,
        offender: Option<IpAddr>,
    ) {
        let from = teller(sent.1.ip(), problem, offender);
        self.send(|| icmp::udp_error(from, sent, begin.len(), begin, problem));
    }

    fn send(&self, error: impl FnOnce() -> Option<Vec<u8>>) {
        if !self.0.rate.borrow_mut().take(self.0.outbound.clock().now()) {
            self.0.counters.count(Reason::RateLimit);
            return;
        }
        if let Some(error) = error() {
            self.0.outbound.packet(error.len(), |packet| packet.copy_from_slice(&error));
        }
    }
}

/// Who tells: the destination itself where only it can know, the station that had the problem, else the gateway.
fn teller(destination: IpAddr, problem: Problem, offender: Option<IpAddr>) -> IpAddr {
    let gateway = if destination.is_ipv4() { IpAddr::V4(GATEWAY) } else { IpAddr::V6(GATEWAY6) };
    match problem {
        Problem::Port | Problem::Protocol => destination,
        Problem::Hops => {
            offender.filter(|offender| offender.is_ipv4() == destination.is_ipv4()).unwrap_or(gateway)
        }
        _ => gateway,
    }
}
