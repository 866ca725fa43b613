//! Which packets may pass between the host's interface and the guest. Pure: time comes in, verdicts go out.
//!
//! The host's kernel takes whatever leaves the device for its own services, so that nothing may leave it but answers. A
//! TCP segment without a bare SYN opens nothing; a datagram must have been asked for; an ICMP error must be about a packet
//! of the host's to a container.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dhow_model::network::{GUEST, GUEST6, HOST_INTERFACE, HOST_INTERFACE6};
use dhow_route_helper::Network;

use crate::gateway::ip::{IpPacket, protocol};
use crate::named::named;

/// How long an answer to a datagram may take (RFC 5382's sibling RFC 4787 asks for at least two minutes).
const ANSWER: Duration = Duration::from_secs(180);
/// How many datagrams' senders are remembered at once, at least; twice as many at most.
const FLOWS: usize = 8192;
/// A bare SYN opens a connection.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

named! {
    /// Why a packet did not pass.
    Reason {
        /// Bytes that are not the packet that they claim to be.
        Malformed = "malformed",
        /// A fragment, an IP option or an extension header: nothing here needs them.
        Unsupported = "unsupported",
        /// Not from the one, or not to the other end of this way.
        NotOnThisWay = "not_on_this_way",
        /// The guest opens a connection to the host.
        NewConnection = "new_connection",
        /// A datagram, echo or error that nothing of the host's asked for.
        Unasked = "unasked",
        /// The other side does not take any more.
        Full = "full",
    }
}

/// The container's end of a datagram's way, and the host's port.
type Flow = (IpAddr, u16, u16);

/// What passes, given the guest's networks and what was sent before.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    networks: Vec<Network>,
    /// When each sender last sent. A full table becomes the old one, so that both are bounded and nothing is searched.
    young: HashMap<Flow, Instant>,
    old: HashMap<Flow, Instant>,
}

impl Filter {
    /// Says which networks are the guest's from now on.
    pub(crate) fn set_networks(&mut self, networks: Vec<Network>) {
        self.networks = networks;
    }

    /// Whether a packet that the host's kernel sent may go to the guest.
    pub(crate) fn admit_to_guest(&mut self, bytes: &[u8], now: Instant) -> Result<(), Reason> {
        let packet = plain(bytes)?;
        if !is_ours(packet.source) || !self.is_guests(packet.destination) {
            return Err(Reason::NotOnThisWay);
        }
        match packet.protocol {
            protocol::TCP => Ok(()),
            protocol::UDP => {
                let [source, destination] = ports(packet.payload)?;
                self.remember((packet.destination, destination, source), now);
                Ok(())
            }
            protocol::ICMP if packet.source.is_ipv4() => match packet.payload.first() {
                Some(8 | 3 | 11 | 12) => Ok(()),
                _ => Err(Reason::Unsupported),
            },
            protocol::ICMP6 if packet.source.is_ipv6() => match packet.payload.first() {
                Some(128 | 1..=4) => Ok(()),
                _ => Err(Reason::Unsupported),
            },
            _ => Err(Reason::Unsupported),
        }
    }

    /// Whether a packet of the guest's may go to the host's kernel.
    pub(crate) fn admit_to_host(&self, packet: &IpPacket<'_>, now: Instant) -> Result<(), Reason> {
        is_plain(packet)?;
        if !is_ours(packet.destination) {
            return Err(Reason::NotOnThisWay);
        }
        let from_container = self.is_guests(packet.source);
        match packet.protocol {
            protocol::TCP if from_container => match packet.payload.get(13) {
                None => Err(Reason::Malformed),
                Some(flags) if flags & (SYN | ACK) == SYN => Err(Reason::NewConnection),
                Some(_) => Ok(()),
            },
            protocol::UDP if from_container => {
                let [source, destination] = ports(packet.payload)?;
                let flow = (packet.source, source, destination);
                let sent = self.young.get(&flow).or_else(|| self.old.get(&flow));
                match sent {
                    Some(sent) if now.saturating_duration_since(*sent) <= ANSWER => Ok(()),
                    _ => Err(Reason::Unasked),
                }
            }
            protocol::ICMP if packet.source.is_ipv4() => self.icmp(packet, from_container, 0, &[3, 11, 12]),
            protocol::ICMP6 if packet.source.is_ipv6() => {
                self.icmp(packet, from_container, 129, &[1, 2, 3, 4])
            }
            _ if !from_container => Err(Reason::NotOnThisWay),
            _ => Err(Reason::Unsupported),
        }
    }

    /// Echo replies come from containers; errors may come from the guest itself, which routes to them.
    fn icmp(
        &self,
        packet: &IpPacket<'_>,
        from_container: bool,
        echo: u8,
        errors: &[u8],
    ) -> Result<(), Reason> {
        let kind = packet.payload.first().ok_or(Reason::Malformed)?;
        if *kind == echo {
            return if from_container { Ok(()) } else { Err(Reason::NotOnThisWay) };
        }
        if !errors.contains(kind) {
            return Err(Reason::Unsupported);
        }
        let from_guest = packet.source == GUEST || packet.source == GUEST6;
        if !from_container && !from_guest {
            return Err(Reason::NotOnThisWay);
        }
        let (source, destination) = packet.payload.get(8..).and_then(ends).ok_or(Reason::Malformed)?;
        if is_ours(source) && self.is_guests(destination) { Ok(()) } else { Err(Reason::Unasked) }
    }

    fn is_guests(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    fn remember(&mut self, flow: Flow, now: Instant) {
        if let Some(sent) = self.young.get_mut(&flow) {
            *sent = now;
            return;
        }
        if self.young.len() >= FLOWS {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(flow, now);
    }
}

/// A packet with nothing but its header before its payload.
fn plain(bytes: &[u8]) -> Result<IpPacket<'_>, Reason> {
    let packet = IpPacket::parse(bytes).map_err(|_| Reason::Malformed)?;
    is_plain(&packet).map(|()| packet)
}

fn is_plain(packet: &IpPacket<'_>) -> Result<(), Reason> {
    let header = if packet.source.is_ipv4() { 20 } else { 40 };
    if packet.fragment || packet.header_length() != header { Err(Reason::Unsupported) } else { Ok(()) }
}

fn is_ours(address: IpAddr) -> bool {
    address == HOST_INTERFACE || address == HOST_INTERFACE6
}

fn ports(payload: &[u8]) -> Result<[u16; 2], Reason> {
    let &[a, b, c, d] = payload.first_chunk().ok_or(Reason::Malformed)?;
    if payload.len() < 8 { Err(Reason::Malformed) } else { Ok([[a, b], [c, d]].map(u16::from_be_bytes)) }
}

/// The addresses of a packet of which an ICMP error quotes the beginning.
fn ends(quoted: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match quoted.first()? >> 4 {
        4 => Some((
            quoted.get(12..16)?.first_chunk::<4>().copied()?.into(),
            quoted.get(16..20)?.first_chunk::<4>().copied()?.into(),
        )),
        6 => Some((
            quoted.get(8..24)?.first_chunk::<16>().copied()?.into(),
            quoted.get(24..40)?.first_chunk::<16>().copied()?.into(),
        )),
        _ => None,
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
