//! The Ethernet header: 14 bytes before every packet on the guest's link.

use super::{take, word};

/// Length of the header, bytes.
pub(crate) const HEADER: usize = 14;

/// What a frame carries, by its type field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 0x0806.
    Arp,
    /// 0x0800.
    Ipv4,
    /// 0x86dd.
    Ipv6,
    /// Anything else, tagged frames (VLAN) and 802.3 lengths among them: not for this network.
    Other(u16),
}

/// A frame, cut into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The station that the frame is for: the gateway's address, a group or everyone.
    pub(crate) destination: [u8; 6],
    /// The station that sent it, as it says.
    pub(crate) source: [u8; 6],
    /// What follows.
    pub(crate) kind: Kind,
    /// Everything behind the header; padding included.
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Cuts a frame; `None` when it is shorter than its header, or comes from a group of stations, which none may claim to be.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Frame<'a>> {
        let source: [u8; 6] = take(bytes, 6)?;
        if source[0] & 1 == 1 {
            return None;
        }
        let kind = match word(bytes, 12)? {
            0x0800 => Kind::Ipv4,
            0x0806 => Kind::Arp,
            0x86dd => Kind::Ipv6,
            other => Kind::Other(other),
        };
        Some(Frame { destination: take(bytes, 0)?, source, kind, payload: bytes.get(HEADER..)? })
    }
}
