//! Questions as they come in, and the answers that we make ourselves. What a guest sends is hostile: anything but one plain
//! question gets the RCODE that its mistake deserves, or nothing.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, HINFO, PTR, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record as Entry, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

use super::server::Over;
use super::table;
use super::wire::{self, HEADER, Record};

/// How long whoever asks may keep an answer of ours, seconds: a container that is renamed or moves to another network answers
/// at its new place at once (spec 5.2).
pub(crate) const TTL: u32 = 1;
/// The largest UDP answer we give or ask for our own side of EDNS, bytes.
pub(crate) const PAYLOAD: u16 = 4096;
/// The largest UDP answer to somebody without EDNS (RFC 1035, 4.2.1).
const PLAIN: u16 = 512;

/// One question that deserves an answer.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// The asker's number for it.
    pub(crate) id: u16,
    /// The name as it was written, its case included.
    pub(crate) name: Name,
    /// The name to compare, see [`table`].
    pub(crate) key: String,
    /// What is asked for.
    pub(crate) kind: RecordType,
    class: DNSClass,
    /// Flags of the header that lead to other answers.
    pub(crate) flags: Flags,
    /// What the asker says in its OPT record.
    pub(crate) edns: Option<Client>,
    over: Over,
}

/// Flags that choose the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flags {
    /// RD.
    pub(crate) recursion: bool,
    /// CD.
    pub(crate) checking_disabled: bool,
    /// AD.
    pub(crate) authentic: bool,
    /// DO.
    pub(crate) dnssec: bool,
    /// Whether there is an OPT record.
    pub(crate) edns: bool,
}

/// The asker's side of EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    size: u16,
    dnssec: bool,
}

/// What a message turned out to be.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A question to answer.
    Ask(Box<Question>),
    /// Something to refuse, with these bytes.
    Refuse(Vec<u8>),
    /// Nothing that deserves an answer.
    Silence,
}

/// What to say about something that cannot be answered (RFC 8914).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The policy forbids it: 15, Blocked.
    Blocked,
    /// No upstream could be reached: 22, No Reachable Authority.
    Unreachable,
    /// Too much is asked at once or nobody is there to ask: 14, Not Ready.
    NotReady,
}

impl Why {
    const fn code(self) -> u16 {
        match self {
            Self::NotReady => 14,
            Self::Blocked => 15,
            Self::Unreachable => 22,
        }
    }
}

/// Reads a message.
pub(crate) fn parse(bytes: &[u8], over: Over) -> Parsed {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Parsed::Silence };
    let [high, low, first, _, questions @ ..] = header;
    let id = u16::from_be_bytes([*high, *low]);
    // Answering answers would let two servers talk to each other for ever.
    if first & 0x80 != 0 {
        return Parsed::Silence;
    }
    let op_code = OpCode::from_u8(first >> 3 & 0x0f);
    let refuse = |code| Parsed::Refuse(encode(&Message::error_msg(id, op_code, code)));
    if op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    // RFC 9619: exactly one.
    if questions[..2] != [0, 1] {
        return refuse(ResponseCode::FormErr);
    }
    match read(bytes, over) {
        Some(question) => understand(question),
        None => refuse(ResponseCode::FormErr),
    }
}

/// The question, and the one OPT record among what follows; `None` where it is damaged. Other records say nothing to us and are
/// passed over unread.
fn read(bytes: &[u8], over: Over) -> Option<(Question, u8)> {
    let [id0, id1, first, second, _, _, counts @ ..] = *bytes.first_chunk::<HEADER>()?;
    let mut decoder = BinDecoder::new(bytes);
    decoder.read_slice(HEADER).ok()?;
    let query = Query::read(&mut decoder).ok()?;
    let (mut at, mut edns, mut version) = (decoder.index(), None, 0);
    for (section, count) in counts.chunks(2).enumerate() {
        for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
            let record = Record::read(bytes, at)?;
            if record.kind == wire::OPT {
                // RFC 6891, 6.1.1: one, at the root, in the last section.
                if edns.is_some() || section != 2 || bytes.get(at) != Some(&0) {
                    return None;
                }
                let [_, ours, flags, _] = record.ttl.to_be_bytes();
                edns = Some(Client { size: record.class, dnssec: flags & 0x80 != 0 });
                version = ours;
            }
            at = record.end;
        }
    }
    let question = Question {
        id: u16::from_be_bytes([id0, id1]),
        key: key(query.name()),
        kind: query.query_type(),
        class: query.query_class(),
        flags: Flags {
            recursion: first & 0x01 != 0,
            checking_disabled: second & 0x10 != 0,
            authentic: second & 0x20 != 0,
            dnssec: edns.is_some_and(|e| e.dnssec),
            edns: edns.is_some(),
        },
        name: query.name,
        edns,
        over,
    };
    Some((question, version))
}

fn understand((question, version): (Question, u8)) -> Parsed {
    if version > 0 {
        return Parsed::Refuse(question.fail(ResponseCode::BADVERS, None));
    }
    let kind = u16::from(question.kind);
    match question.kind {
        _ if question.class != DNSClass::IN => Parsed::Refuse(question.fail(ResponseCode::Refused, None)),
        // Whole zones and transactions are not for us (RFC 5936, 8945).
        RecordType::AXFR | RecordType::IXFR => Parsed::Refuse(question.fail(ResponseCode::Refused, None)),
        RecordType::OPT | RecordType::ZERO => Parsed::Refuse(question.fail(ResponseCode::FormErr, None)),
        // RFC 8482, 4.2: a small answer to a question that asks for everything.
        RecordType::ANY => Parsed::Refuse(question.answer(vec![question.hinfo()])),
        // RFC 6895, 3.1: 128 to 255 ask for something that is no record.
        _ if (128..=255).contains(&kind) => Parsed::Refuse(question.fail(ResponseCode::NotImp, None)),
        _ => Parsed::Ask(Box::new(question)),
    }
}

/// The key of a name, see [`table`].
pub(crate) fn key(name: &Name) -> String {
    let mut key = String::with_capacity(name.len());
    for label in name {
        if !key.is_empty() {
            key.push('.');
        }
        for byte in label {
            if table::plain(*byte) {
                key.push(char::from(byte.to_ascii_lowercase()));
            } else {
                key.push_str(&format!("\\{byte:03}"));
            }
        }
    }
    key
}

impl Question {
    /// The most bytes that the asker takes in one message.
    pub(crate) fn limit(&self) -> usize {
        match self.over {
            Over::Tcp => usize::from(u16::MAX),
            Over::Udp => usize::from(self.edns.map_or(PLAIN, |e| e.size.clamp(PLAIN, PAYLOAD))),
        }
    }

    /// A and AAAA of a name that is ours.
    pub(crate) fn addresses(&self, addresses: &[IpAddr]) -> Vec<Entry> {
        let record = |data| Entry::from_rdata(self.name.clone(), TTL, data);
        addresses
            .iter()
            .filter_map(|address| match (address, self.kind) {
                (IpAddr::V4(a), RecordType::A) => Some(record(RData::A(A(*a)))),
                (IpAddr::V6(a), RecordType::AAAA) => Some(record(RData::AAAA(AAAA(*a)))),
                _ => None,
            })
            .collect()
    }

    /// PTR of an address that is ours.
    pub(crate) fn pointers(&self, names: &[String]) -> Vec<Entry> {
        let records = names.iter().filter_map(|name| {
            Some(Entry::from_rdata(self.name.clone(), TTL, RData::PTR(PTR(absolute(name)?))))
        });
        if self.kind == RecordType::PTR { records.collect() } else { Vec::new() }
    }

    /// SOA of a zone that is ours: what does not exist may be remembered as briefly as what does (RFC 2308).
    pub(crate) fn start_of(zone: &str) -> Option<Entry> {
        let zone = absolute(zone)?;
        let soa = SOA::new(zone.clone(), absolute("hostmaster.dhow.internal")?, 1, 60, 60, 60, TTL);
        Some(Entry::from_rdata(zone, TTL, RData::SOA(soa)))
    }

    /// TXT that names the engine, see [`super::Names::of_engine`].
    pub(crate) fn engine(&self, tag: &str) -> Entry {
        let text = TXT::new(vec![format!("engine={tag}")]);
        Entry::from_rdata(self.name.clone(), TTL, RData::TXT(text))
    }

    fn hinfo(&self) -> Entry {
        Entry::from_rdata(self.name.clone(), TTL, RData::HINFO(HINFO::new("RFC8482".into(), String::new())))
    }

    /// An answer of ours.
    pub(crate) fn answer(&self, records: Vec<Entry>) -> Vec<u8> {
        let mut message = self.reply(ResponseCode::NoError, None);
        message.metadata.authoritative = true;
        message.answers = records;
        self.fitted(message)
    }

    /// The name exists without such a record (`NoError`), or does not exist (`NXDomain`), says its zone.
    pub(crate) fn nothing(&self, code: ResponseCode, zone: &str) -> Vec<u8> {
        let mut message = self.reply(code, None);
        message.metadata.authoritative = true;
        message.authorities.extend(Self::start_of(zone));
        self.fitted(message)
    }

    /// No answer, and why.
    pub(crate) fn fail(&self, code: ResponseCode, why: Option<Why>) -> Vec<u8> {
        self.fitted(self.reply(code, why))
    }

    /// Cuts what does not fit: the asker comes again over TCP.
    fn fitted(&self, message: Message) -> Vec<u8> {
        let bytes = encode(&message);
        if bytes.len() <= self.limit() { bytes } else { encode(&message.truncate()) }
    }

    fn reply(&self, code: ResponseCode, why: Option<Why>) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.flags.recursion;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.flags.checking_disabled;
        message.metadata.response_code = code;
        let mut query = Query::query(self.name.clone(), self.kind);
        query.set_query_class(self.class);
        message.add_query(query);
        message.edns = self.opt(why);
        message
    }

    /// Our side of EDNS, for those who speak it.
    fn opt(&self, why: Option<Why>) -> Option<Edns> {
        let client = self.edns?;
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_dnssec_ok(client.dnssec);
        if let Some(why) = why {
            edns.options_mut().insert(EdnsOption::Unknown(15, why.code().to_be_bytes().to_vec()));
        }
        Some(edns)
    }
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A message of ours always has an encoding: few records, each from a checked name.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
