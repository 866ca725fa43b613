//! DHCP (RFC 2131) for guests whose network is not set up by Dhow's agent: one lease, the same for everyone who asks, since
//! the link has one station. Router, resolver, MTU and domain come with it.

use std::net::Ipv4Addr;

use dhow_model::network::{DOMAIN, GATEWAY, GUEST, MTU, PREFIX};

use super::take;

/// The port that servers listen on.
pub(crate) const SERVER: u16 = 67;
/// The port that clients listen on.
pub(crate) const CLIENT: u16 = 68;
/// Marks the options as DHCP's (RFC 2132, 2).
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// A day, seconds: a client asks again after half of it, and gets the same.
const LEASE: u32 = 86_400;
/// The smallest message that every client takes (RFC 1542, 2.1).
const SMALLEST: usize = 300;

/// An answer, to be sent from port 67 of the gateway to port 68.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// To whom: the client's address if it has one or can take packets for it already, else everyone.
    pub(crate) to: Ipv4Addr,
    /// The message.
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Offer = 2,
    Acknowledge = 5,
    Refuse = 6,
}

/// What matters of a request.
struct Request<'a> {
    header: &'a [u8],
    kind: u8,
    /// The address that the client has.
    client: Ipv4Addr,
    /// The address that it would like.
    wished: Option<Ipv4Addr>,
    /// The server that it chose.
    server: Option<Ipv4Addr>,
}

/// The answer to a message on port 67. `None`: not for this server, nothing to say, or no DHCP.
pub(crate) fn answer(udp_payload: &[u8]) -> Option<Reply> {
    let request = parse(udp_payload)?;
    let elsewhere = request.server.is_some_and(|server| server != GATEWAY);
    let kind = match request.kind {
        // Discover.
        1 => Kind::Offer,
        // Request: after an offer, after a reboot (both wish), to renew (an address that it has).
        3 if elsewhere => return None,
        3 => {
            let asked = request.wished.or(Some(request.client)).filter(|asked| !asked.is_unspecified())?;
            if asked == GUEST { Kind::Acknowledge } else { Kind::Refuse }
        }
        // Inform: only the options, for an address that it has from elsewhere.
        8 if !request.client.is_unspecified() => Kind::Acknowledge,
        // Decline and release change nothing: there is one lease, and it is for ever.
        _ => return None,
    };
    Some(reply(&request, kind))
}

fn parse(message: &[u8]) -> Option<Request<'_>> {
    let header = message.get(..240)?;
    // A request, on Ethernet, not through a relay.
    if header[..3] != [1, 1, 6] || header[24..28] != [0; 4] || header[236..] != COOKIE {
        return None;
    }
    let (mut kind, mut wished, mut server) = (None, None, None);
    let mut options = message.get(240..)?;
    loop {
        let (&code, rest) = options.split_first()?;
        match code {
            0 => {
                options = rest;
                continue;
            }
            255 => break,
            _ => {}
        }
        let (&length, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        let address = || take::<4>(value, 0).filter(|_| value.len() == 4).map(Ipv4Addr::from);
        match code {
            50 => wished = Some(address()?),
            53 => kind = value.first().copied().filter(|_| value.len() == 1),
            54 => server = Some(address()?),
            _ => {}
        }
        options = rest;
    }
    let client = Ipv4Addr::from(take::<4>(header, 12)?);
    Some(Request { header, kind: kind?, client, wished, server })
}

fn reply(request: &Request<'_>, kind: Kind) -> Reply {
    let inform = request.kind == 8;
    let refused = kind == Kind::Refuse;
    let everyone = request.header[10] & 0x80 != 0;
    let to = if refused {
        Ipv4Addr::BROADCAST
    } else if !request.client.is_unspecified() {
        request.client
    } else if everyone {
        Ipv4Addr::BROADCAST
    } else {
        GUEST
    };
    let mut payload = vec![0; 240];
    payload[..3].copy_from_slice(&[2, 1, 6]);
    // Transaction, flags, hardware address: as asked.
    payload[4..8].copy_from_slice(&request.header[4..8]);
    payload[10..12].copy_from_slice(&request.header[10..12]);
    payload[28..44].copy_from_slice(&request.header[28..44]);
    payload[236..].copy_from_slice(&COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        payload.extend_from_slice(&[code, value.len() as u8]);
        payload.extend_from_slice(value);
    };
    option(53, &[kind as u8]);
    option(54, &GATEWAY.octets());
    if !refused {
        let mask = u32::MAX << (32 - u32::from(PREFIX));
        option(1, &mask.to_be_bytes());
        option(3, &GATEWAY.octets());
        option(6, &GATEWAY.octets());
        option(15, DOMAIN.as_bytes());
        option(26, &(MTU as u16).to_be_bytes());
        option(28, &(u32::from(GATEWAY) | !mask).to_be_bytes());
        if !inform {
            option(51, &LEASE.to_be_bytes());
        }
    }
    payload.push(255);
    payload.resize(payload.len().max(SMALLEST), 0);
    if !refused && request.kind == 3 {
        payload[12..16].copy_from_slice(&request.client.octets());
    }
    if inform {
        payload[12..16].copy_from_slice(&request.client.octets());
    } else if !refused {
        payload[16..20].copy_from_slice(&GUEST.octets());
    }
    Reply { to, payload }
}
