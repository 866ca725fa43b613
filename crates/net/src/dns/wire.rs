//! Places in a message as bytes (RFC 1035, 4). Nothing is decompressed and nothing is allocated, so that a message costs no
//! more than its length.

use std::net::IpAddr;

/// A header's length.
pub(crate) const HEADER: usize = 12;
/// Types and the one class that we look at.
const A: u16 = 1;
pub(crate) const SOA: u16 = 6;
const AAAA: u16 = 28;
pub(crate) const OPT: u16 = 41;
pub(crate) const TSIG: u16 = 250;
pub(crate) const IN: u16 = 1;

/// One record's place in a message.
pub(crate) struct Record {
    /// Its type.
    pub(crate) kind: u16,
    /// Its class; in OPT, a size.
    pub(crate) class: u16,
    /// Its time to live; in OPT, flags.
    pub(crate) ttl: u32,
    /// Where that stands.
    pub(crate) ttl_at: usize,
    /// Where its data begins.
    pub(crate) data: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

impl Record {
    /// The record that begins at `at`.
    pub(crate) fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let fixed = name_end(bytes, at)?;
        let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *bytes.get(fixed..)?.first_chunk::<10>()?;
        let data = fixed + 10;
        let end = data + usize::from(u16::from_be_bytes([l0, l1]));
        (end <= bytes.len()).then_some(Self {
            kind: u16::from_be_bytes([k0, k1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32::from_be_bytes([t0, t1, t2, t3]),
            ttl_at: fixed + 4,
            data,
            end,
        })
    }

    /// Its address, if it is A or AAAA.
    pub(crate) fn address(&self, bytes: &[u8]) -> Option<IpAddr> {
        let data = bytes.get(self.data..self.end)?;
        match self.kind {
            _ if self.class != IN => None,
            A => Some(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            AAAA => Some(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            _ => None,
        }
    }

    /// The last field of an SOA record: how long an absence may be remembered.
    pub(crate) fn minimum(&self, bytes: &[u8]) -> Option<u32> {
        bytes.get(self.data..self.end)?.last_chunk().map(|last| u32::from_be_bytes(*last))
    }
}

/// Where the question of a message of ours ends.
pub(crate) fn question_end(bytes: &[u8]) -> Option<usize> {
    Some(name_end(bytes, HEADER)? + 4).filter(|end| *end <= bytes.len())
}

/// Where a name ends that begins at `at`: after its root label or its first pointer, which must point back.
fn name_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut here = at;
    loop {
        let length = *bytes.get(here)?;
        match length {
            0 => return Some(here + 1),
            1..=63 => here += 1 + usize::from(length),
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*bytes.get(here + 1)?);
                return (HEADER..at.max(HEADER)).contains(&target).then_some(here + 2);
            }
            _ => return None,
        }
        if here - at > 255 {
            return None;
        }
    }
}
