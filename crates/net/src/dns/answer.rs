//! Answers of upstreams, kept as the bytes that came. Only what a forwarder must touch is found in them: the number, the
//! question (which takes the asker's spelling), the times to live, and the OPT record, which speaks of one hop only
//! (RFC 6891, 6.1.1) and is replaced by ours. Records of any type, signatures included, pass as they are.

use std::net::IpAddr;
use std::time::Duration;

use super::message::{Flags, PAYLOAD, Question};
use super::wire::{self, HEADER, IN, OPT, Record, SOA, TSIG};

const TC: u8 = 0x02;
const AA: u8 = 0x04;
const QR: u8 = 0x80;
const AD: u8 = 0x20;
const CD: u8 = 0x10;
/// The EDNS option that says why (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
/// Of an upstream's reasons, this much is passed on.
const REASONS: usize = 512;
/// The largest UDP answer that we ask an upstream for: what passes every path unfragmented (DNS flag day 2020).
pub(crate) const FROM_UPSTREAM: u16 = 1232;
/// The longest that anything is kept.
const KEPT: u32 = 24 * 3600;
/// The longest that an absence is kept (RFC 2308, 5).
const KEPT_ABSENT: u32 = 3600;

/// RCODEs that we look at.
pub(crate) mod rcode {
    /// It worked.
    pub(crate) const NO_ERROR: u8 = 0;
    /// The question was not understood.
    pub(crate) const FORM_ERR: u8 = 1;
    /// The server failed.
    pub(crate) const SERV_FAIL: u8 = 2;
    /// There is no such name.
    pub(crate) const NX_DOMAIN: u8 = 3;
    /// Something in the question is not known.
    pub(crate) const NOT_IMP: u8 = 4;
}

/// An upstream's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// All of it but OPT.
    bytes: Vec<u8>,
    /// Where the question's name ends.
    name_end: usize,
    /// Where times to live stand.
    ttls: Vec<usize>,
    /// The upper bits of the RCODE.
    rcode_high: u8,
    /// The upstream's reasons, as EDNS options.
    reasons: Vec<u8>,
    /// A and AAAA, with seconds to live.
    addresses: Vec<(IpAddr, u32)>,
    /// How long it may be kept, where it may.
    life: Option<Duration>,
}

/// Why a message is no answer to our question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It answers something else, or nobody asked: a forgery, or late.
    Unasked,
    /// It is damaged.
    Damaged,
}

/// The question as we put it to an upstream: our own number and our own EDNS, the rest as it was asked.
pub(crate) fn question(question: &Question, id: u16, edns: bool) -> Vec<u8> {
    let Flags { recursion, checking_disabled, authentic, dnssec, .. } = question.flags;
    let mut bytes = Vec::with_capacity(HEADER + 255 + 4 + 11);
    bytes.extend(id.to_be_bytes());
    bytes.extend([
        u8::from(recursion),
        if authentic { AD } else { 0 } | if checking_disabled { CD } else { 0 },
    ]);
    bytes.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    bytes.extend(spelled(question));
    bytes.extend(u16::from(question.kind).to_be_bytes());
    bytes.extend(IN.to_be_bytes());
    if edns {
        bytes.extend(opt(FROM_UPSTREAM, 0, dnssec, &[]));
    }
    bytes
}

/// The question's name, uncompressed, in the asker's spelling.
fn spelled(question: &Question) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(255);
    for label in &question.name {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

fn opt(size: u16, rcode_high: u8, dnssec: bool, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(OPT.to_be_bytes());
    bytes.extend(size.to_be_bytes());
    bytes.extend([rcode_high, 0, if dnssec { 0x80 } else { 0 }, 0]);
    bytes.extend(u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(options);
    bytes
}

impl Answer {
    /// Reads what came for `asked`, the bytes of our question.
    pub(crate) fn read(bytes: &[u8], asked: &[u8]) -> Result<Self, Wrong> {
        let header: [u8; HEADER] = bytes.first_chunk().copied().ok_or(Wrong::Unasked)?;
        let ours = asked.get(..HEADER).ok_or(Wrong::Unasked)?;
        let question =
            wire::question_end(asked).and_then(|end| asked.get(HEADER..end)).ok_or(Wrong::Unasked)?;
        if header[..2] != ours[..2] || header[2] & 0xf8 != QR {
            return Err(Wrong::Unasked);
        }
        // Servers that do not understand a question may leave it out.
        let code = header[3] & 0x0f;
        let without = header[4..6] == [0, 0] && (code == rcode::FORM_ERR || code == rcode::NOT_IMP);
        let mut out = Vec::with_capacity(bytes.len());
        out.extend(header);
        out.extend(question);
        let name_end = out.len() - 4;
        out[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        let mut answer = Self {
            bytes: out,
            name_end,
            ttls: Vec::new(),
            rcode_high: 0,
            reasons: Vec::new(),
            addresses: Vec::new(),
            life: None,
        };
        if without {
            return Ok(answer);
        }
        let theirs = bytes.get(HEADER..HEADER + question.len()).ok_or(Wrong::Unasked)?;
        if header[4..6] != [0, 1] || !theirs.eq_ignore_ascii_case(question) {
            return Err(Wrong::Unasked);
        }
        answer.take_records(bytes, &header)?;
        Ok(answer)
    }

    /// The records are copied as they stand, up to an OPT or TSIG: it stands last, and what follows would be additional at best.
    fn take_records(&mut self, bytes: &[u8], header: &[u8; HEADER]) -> Result<(), Wrong> {
        let kind = u16::from_be_bytes([self.bytes[self.name_end], self.bytes[self.name_end + 1]]);
        let (mut shortest, mut absence, mut answered) = (KEPT, None, false);
        let mut at = self.bytes.len();
        'sections: for section in 0..3 {
            let field = 6 + 2 * section;
            let count = u16::from_be_bytes([header[field], header[field + 1]]);
            let mut kept = 0u16;
            for _ in 0..count {
                let record = Record::read(bytes, at).ok_or(Wrong::Damaged)?;
                if section == 2 && (record.kind == OPT || record.kind == TSIG) {
                    self.take_hop(bytes, &record);
                    self.bytes[field..field + 2].copy_from_slice(&kept.to_be_bytes());
                    self.bytes.extend_from_slice(&bytes[self.bytes.len()..at]);
                    break 'sections;
                }
                let ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl };
                shortest = shortest.min(ttl);
                self.ttls.push(record.ttl_at);
                answered |= section == 0 && record.kind == kind;
                if section == 0 {
                    self.addresses.extend(record.address(bytes).map(|address| (address, ttl)));
                }
                if section == 1 && record.kind == SOA {
                    absence = record.minimum(bytes).map(|minimum| minimum.min(ttl));
                }
                at = record.end;
                kept += 1;
            }
            self.bytes[field..field + 2].copy_from_slice(&kept.to_be_bytes());
        }
        if self.bytes.len() < at {
            self.bytes.extend_from_slice(&bytes[self.bytes.len()..at]);
        }
        let seconds = match (self.code(), answered) {
            _ if self.truncated() || self.rcode_high != 0 => None,
            (rcode::NO_ERROR, true) => Some(shortest),
            // RFC 2308: an absence is known for as long as its zone says, and unknown without that.
            (rcode::NO_ERROR | rcode::NX_DOMAIN, _) => absence.map(|a| a.min(shortest).min(KEPT_ABSENT)),
            _ => None,
        };
        self.life = seconds.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
        Ok(())
    }

    /// What the OPT record says beyond this hop.
    fn take_hop(&mut self, bytes: &[u8], record: &Record) {
        if record.kind != OPT {
            return;
        }
        self.rcode_high = record.ttl.to_be_bytes()[0];
        let mut options = bytes.get(record.data..record.end).unwrap_or_default();
        while let Some((head, rest)) = options.split_first_chunk::<4>() {
            let code = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let Some((value, rest)) = rest.split_at_checked(length) else { return };
            if code == EXTENDED_ERROR && self.reasons.len() + 4 + length <= REASONS {
                self.reasons.extend(head);
                self.reasons.extend(value);
            }
            options = rest;
        }
    }

    /// The lower bits of its RCODE.
    pub(crate) fn code(&self) -> u8 {
        self.bytes[3] & 0x0f
    }

    /// Whether the upstream had more to say.
    pub(crate) fn truncated(&self) -> bool {
        self.bytes[2] & TC != 0
    }

    /// How long it may be kept, where it may.
    pub(crate) fn life(&self) -> Option<Duration> {
        self.life
    }

    /// What it costs to keep, bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + self.bytes.capacity()
            + self.ttls.capacity() * size_of::<usize>()
            + self.reasons.capacity()
            + self.addresses.capacity() * size_of::<(IpAddr, u32)>()
    }

    /// Releases what reading left over.
    pub(crate) fn shrunk(mut self) -> Self {
        self.bytes.shrink_to_fit();
        self.ttls.shrink_to_fit();
        self.reasons.shrink_to_fit();
        self.addresses.shrink_to_fit();
        self
    }

    /// Its addresses, with the time that each has left.
    pub(crate) fn addresses(&self, age: Duration) -> Vec<(IpAddr, Duration)> {
        let left = |ttl: u32| Duration::from_secs(ttl.into()).saturating_sub(age);
        self.addresses.iter().map(|(address, ttl)| (*address, left(*ttl))).collect()
    }

    /// The answer to `question`, after `age` in the cache.
    pub(crate) fn reply(&self, question: &Question, age: Duration) -> Vec<u8> {
        let Flags { recursion, checking_disabled, authentic, dnssec, edns } = question.flags;
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&question.id.to_be_bytes());
        bytes[2] = bytes[2] & !AA & !1 | u8::from(recursion);
        let authentic = if authentic || dnssec { bytes[3] & AD } else { 0 };
        let checking = if checking_disabled { CD } else { 0 };
        bytes[3] = 0x80 | authentic | checking | bytes[3] & 0x0f;
        if self.rcode_high != 0 && !edns {
            bytes[3] = bytes[3] & 0xf0 | rcode::SERV_FAIL;
        }
        let name = spelled(question);
        if let Some(place) = bytes.get_mut(HEADER..self.name_end).filter(|p| p.len() == name.len()) {
            place.copy_from_slice(&name);
        }
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for at in &self.ttls {
            if let Some(ttl) = bytes.get_mut(*at..).and_then(|b| b.first_chunk_mut::<4>()) {
                *ttl = u32::from_be_bytes(*ttl).min(i32::MAX as u32).saturating_sub(age).to_be_bytes();
            }
        }
        let opt = if edns { opt(PAYLOAD, self.rcode_high, dnssec, &self.reasons) } else { Vec::new() };
        if bytes.len() + opt.len() > question.limit() {
            bytes.truncate(self.name_end + 4);
            bytes[2] |= TC;
            bytes[6..12].fill(0);
        }
        if !opt.is_empty() {
            let count = u16::from_be_bytes([bytes[10], bytes[11]]).saturating_add(1);
            bytes[10..12].copy_from_slice(&count.to_be_bytes());
            bytes.extend(opt);
        }
        bytes
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
