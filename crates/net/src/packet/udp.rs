//! The UDP header (RFC 768): eight bytes before a payload.

use std::net::SocketAddr;

use super::ip::Pair;
use super::word;

/// Length of the header, bytes.
pub(crate) const HEADER: usize = 8;
/// UDP's number in an IP header.
pub(crate) const PROTOCOL: u8 = 17;

/// A datagram from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Udp<'a> {
    /// The sender's port.
    pub(crate) source: u16,
    /// The receiver's port.
    pub(crate) destination: u16,
    /// What it carries.
    pub(crate) payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Cuts a message. Its checksum is not looked at: the link cannot damage it, and with offloads it is not there yet.
    pub(crate) fn parse(message: &'a [u8]) -> Option<Udp<'a>> {
        let length = usize::from(word(message, 4)?);
        let payload = message.get(..length)?.get(HEADER..)?;
        Some(Udp { source: word(message, 0)?, destination: word(message, 2)?, payload })
    }
}

/// Writes the header into the first eight bytes of a message whose payload already stands behind them. False when the
/// message is longer than UDP can say, or the families differ. Without `sum` there is no checksum, for a link that puts it in.
pub(crate) fn write(source: SocketAddr, destination: SocketAddr, message: &mut [u8], sum: bool) -> bool {
    let (Some(pair), Ok(length)) = (Pair::new(source.ip(), destination.ip()), u16::try_from(message.len()))
    else {
        return false;
    };
    if message.len() < HEADER {
        return false;
    }
    message[..2].copy_from_slice(&source.port().to_be_bytes());
    message[2..4].copy_from_slice(&destination.port().to_be_bytes());
    message[4..6].copy_from_slice(&length.to_be_bytes());
    message[6..8].fill(0);
    if !sum {
        return true;
    }
    // Zero says "no checksum", so a sum of zero is sent as its other spelling.
    let sum = match pair.checksum(PROTOCOL, message) {
        0 => 0xffff,
        sum => sum,
    };
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    true
}
