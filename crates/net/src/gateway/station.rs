//! The gateway as a station on the guest's link: looks at each frame once and gives it to the protocol that it belongs to.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dhow_model::network;
use tokio::sync::Semaphore;

use super::context::Context;
use super::counters::Reason;
use super::destination::{Destination, destination};
use super::icmp::{Icmp, Reports};
use super::ip::{IpPacket, protocol};
use super::outbound::Outbound;
use super::route::Route;
use super::tcp::Tcp;
use super::udp::Udp;
use crate::packet::ethernet::{Frame, Kind};
use crate::packet::fragments::Fragments;
use crate::packet::{arp, is_ours, ndp};

pub(super) struct Station {
    pub(super) context: Rc<Context>,
    pub(super) tcp: Rc<Tcp>,
    pub(super) udp: Udp,
    pub(super) route: Route,
    icmp: Icmp,
    fragments: RefCell<Fragments>,
}

impl Station {
    pub(super) fn new(context: Rc<Context>, flows: Arc<Semaphore>) -> Rc<Station> {
        let reports = Reports::new(context.outbound.clone(), context.counters.clone());
        let udp = Udp::new(context.clone(), reports.clone());
        let tcp = Tcp::new(context.clone(), flows);
        Rc::new(Station {
            icmp: Icmp::new(context.clone(), reports, udp.clone(), tcp.clone()),
            udp,
            tcp,
            route: Route::new(context.outbound.clone(), context.link_sums),
            fragments: RefCell::new(Fragments::new(context.counters.clone())),
            context,
        })
    }

    pub(super) fn outbound(&self) -> &Outbound {
        &self.context.outbound
    }

    /// The guest goes to sleep. Everything that looks at the clock, or for room in the queue, finds out by itself.
    pub(super) fn freeze(&self) {
        self.context.clock().freeze();
        self.tcp.freeze();
    }

    /// The guest is awake again.
    pub(super) fn thaw(&self) {
        self.context.clock().thaw();
        self.outbound().pass_on();
        self.tcp.thaw();
    }

    /// The hypervisor is gone: so is everything that the guest had open.
    pub(super) fn end_all(&self) {
        self.tcp.end_all();
        self.udp.end_all();
        self.icmp.end_all();
    }

    /// Takes one Ethernet frame from the guest.
    pub(super) fn frame(&self, bytes: &[u8]) {
        let counters = &self.context.counters;
        counters.receive(bytes.len());
        let Some(frame) = Frame::parse(bytes) else { return counters.count(Reason::Malformed) };
        let group = frame.destination[0] & 1 == 1;
        if frame.destination != network::GATEWAY_MAC && !group {
            return counters.count(Reason::NotForUs);
        }
        match frame.kind {
            Kind::Arp => {
                if let Some(answer) = arp::answer(bytes) {
                    self.outbound().frame(&answer);
                }
            }
            Kind::Ipv4 | Kind::Ipv6 => match IpPacket::parse(frame.payload) {
                Ok(packet) => self.packet(&packet),
                Err(reason) => counters.count(reason),
            },
            Kind::Other(_) => counters.count(Reason::NotForUs),
        }
    }

    fn packet(&self, packet: &IpPacket<'_>) {
        // Nobody else sends as one of us. What the host's interface sent to a container that is gone comes back like this,
        // and would go round for ever.
        if is_ours(packet.source) {
            return self.context.counters.count(Reason::Martian);
        }
        if !packet.fragment {
            return self.whole(packet);
        }
        let whole = self.fragments.borrow_mut().add(packet, self.context.clock().now().into_std());
        if let Some(whole) = whole {
            match IpPacket::parse(&whole) {
                // One that is still a fragment would come here for ever.
                Ok(packet) if !packet.fragment => self.whole(&packet),
                Ok(_) => self.context.counters.count(Reason::Malformed),
                Err(reason) => self.context.counters.count(reason),
            }
        }
    }

    fn whole(&self, packet: &IpPacket<'_>) {
        // First, since a neighbour that is known is asked again under its own address.
        if packet.protocol == protocol::ICMP6 && packet.destination.is_ipv6() && self.neighbours(packet) {
            return;
        }
        if destination(packet.destination) == Destination::HostInterface && self.route.packet(packet) {
            return;
        }
        match packet.protocol {
            protocol::TCP => self.tcp.packet(packet),
            protocol::UDP => self.udp.packet(packet),
            protocol::ICMP if packet.destination.is_ipv4() => self.icmp.packet(packet),
            protocol::ICMP6 if packet.destination.is_ipv6() => self.icmp.packet(packet),
            _ => self.context.counters.count(Reason::Unsupported),
        }
    }

    /// Whether a packet was a question of neighbour discovery, which is answered.
    fn neighbours(&self, packet: &IpPacket<'_>) -> bool {
        let Some(answer) = ndp::answer(packet.bytes) else { return false };
        if ndp::is_advertisement(&answer) {
            self.icmp.advertise();
        }
        self.outbound().packet(answer.len(), |room| room.copy_from_slice(&answer));
        true
    }
}
