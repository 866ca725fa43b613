use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{self, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record as Entry, RecordType};
use proptest::prelude::*;

use super::*;
use crate::dns::message::{Parsed, parse};
use crate::dns::server::Over;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn asking(text: &str, kind: RecordType, edns: Option<u16>, over: Over) -> Question {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    if let Some(size) = edns {
        let mut opt = Edns::new();
        opt.set_max_payload(size).set_dnssec_ok(true);
        message.set_edns(opt);
    }
    match parse(&message.to_vec().unwrap(), over) {
        Parsed::Ask(question) => *question,
        other => panic!("{other:?}"),
    }
}

fn response(question: &Question) -> Message {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.metadata.recursion_available = true;
    message.add_query(Query::query(question.name.clone(), question.kind));
    message
}

fn a(owner: &str, ttl: u32, last: u8) -> Entry {
    Entry::from_rdata(name(owner), ttl, RData::A(rdata::A::new(192, 0, 2, last)))
}

fn soa(ttl: u32, minimum: u32) -> Entry {
    let zone = name("example.");
    let soa = rdata::SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, minimum);
    Entry::from_rdata(zone, ttl, RData::SOA(soa))
}

fn read(question: &Question, message: &Message) -> Result<Answer, Wrong> {
    Answer::read(&message.to_vec().unwrap(), &super::question(question, 7, true))
}

fn decoded(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap()
}

#[test]
fn an_answer_comes_back_as_it_was_with_the_askers_number_spelling_and_lower_ttls() {
    let question = asking("wWw.ExAmPlE.", RecordType::A, Some(1232), Over::Udp);
    let mut message = response(&question);
    message.queries = vec![Query::query(name("www.example."), RecordType::A)];
    message.metadata.authoritative = true;
    message.metadata.authentic_data = true;
    let cname = Entry::from_rdata(name("www.example."), 300, RData::CNAME(CNAME(name("b.example."))));
    message.add_answers([cname, a("b.example.", 60, 1), a("b.example.", 60, 2)]);
    let mut opt = Edns::new();
    opt.options_mut().insert(EdnsOption::Unknown(15, vec![0, 3, b'o', b'l', b'd']));
    opt.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    message.set_edns(opt);

    let answer = read(&question, &message).unwrap();
    assert_eq!(answer.life(), Some(Duration::from_secs(60)));
    let reply = decoded(&answer.reply(&question, Duration::from_secs(10)));
    assert_eq!(reply.metadata.id, 4711);
    assert!(reply.queries[0].name().eq_case(&name("wWw.ExAmPlE.")));
    assert!(!reply.metadata.authoritative && reply.metadata.authentic_data);
    assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available);
    assert_eq!(reply.answers.iter().map(|r| r.ttl).collect::<Vec<_>>(), [290, 50, 50]);
    assert!(reply.answers[0].name.eq_case(&name("wWw.ExAmPlE.")), "compressed names follow the question");
    let edns = reply.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.max_payload() == PAYLOAD);
    assert_eq!(edns.option(15.into()), Some(&EdnsOption::Unknown(15, vec![0, 3, b'o', b'l', b'd'])));
    assert_eq!(edns.option(10.into()), None, "a cookie is for one hop");
    let addresses = answer.addresses(Duration::from_secs(10));
    assert_eq!(addresses[0], (Ipv4Addr::new(192, 0, 2, 1).into(), Duration::from_secs(50)));
    assert_eq!(addresses.len(), 2);
}

#[test]
fn whoever_does_not_speak_edns_gets_none_and_512_bytes() {
    let question = asking("big.example.", RecordType::TXT, None, Over::Udp);
    let mut message = response(&question);
    for _ in 0..6 {
        let text = RData::TXT(TXT::new(vec!["x".repeat(200)]));
        message.add_answer(Entry::from_rdata(name("big.example."), 60, text));
    }
    let answer = read(&question, &message).unwrap();
    let reply = answer.reply(&question, Duration::ZERO);
    assert!(reply.len() <= 512);
    let reply = decoded(&reply);
    assert!(reply.metadata.truncation && reply.answers.is_empty() && reply.edns.is_none());
    let tcp = asking("big.example.", RecordType::TXT, None, Over::Tcp);
    assert_eq!(decoded(&answer.reply(&tcp, Duration::ZERO)).answers.len(), 6);
    let large = asking("big.example.", RecordType::TXT, Some(4096), Over::Udp);
    assert_eq!(decoded(&answer.reply(&large, Duration::ZERO)).answers.len(), 6);
}

/// RFC 2308: an absence is kept as long as its zone says.
#[test]
fn absences_are_kept_by_their_zone_and_errors_not_at_all() {
    let question = asking("x.example.", RecordType::A, None, Over::Udp);
    let with = |code, authorities: Vec<Entry>, answers: Vec<Entry>| {
        let mut message = response(&question);
        message.metadata.response_code = code;
        message.authorities = authorities;
        message.answers = answers;
        read(&question, &message).unwrap().life().map(|l| l.as_secs())
    };
    assert_eq!(with(ResponseCode::NXDomain, vec![soa(600, 30)], vec![]), Some(30));
    assert_eq!(with(ResponseCode::NXDomain, vec![soa(20, 300)], vec![]), Some(20));
    assert_eq!(with(ResponseCode::NXDomain, vec![soa(9_000, 9_000)], vec![]), Some(u64::from(KEPT_ABSENT)));
    assert_eq!(with(ResponseCode::NoError, vec![soa(600, 30)], vec![]), Some(30));
    let cname = Entry::from_rdata(name("x.example."), 5, RData::CNAME(CNAME(name("y.example."))));
    assert_eq!(with(ResponseCode::NoError, vec![soa(600, 30)], vec![cname]), Some(5));
    assert_eq!(with(ResponseCode::NXDomain, vec![], vec![]), None);
    assert_eq!(with(ResponseCode::NoError, vec![], vec![]), None);
    assert_eq!(with(ResponseCode::ServFail, vec![soa(600, 30)], vec![]), None);
    assert_eq!(
        with(ResponseCode::NoError, vec![], vec![a("x.example.", 1_000_000, 1)]),
        Some(u64::from(KEPT))
    );
    assert_eq!(with(ResponseCode::NoError, vec![], vec![a("x.example.", u32::MAX, 1)]), None);
}

/// RFC 5452: what was not asked for is no answer.
#[test]
fn forgeries_are_told_from_answers() {
    let question = asking("x.example.", RecordType::A, None, Over::Udp);
    let forged = |change: &dyn Fn(&mut Message)| {
        let mut message = response(&question);
        message.add_answer(a("x.example.", 60, 1));
        change(&mut message);
        read(&question, &message).map(|_| ())
    };
    let query = |text, kind| vec![Query::query(name(text), kind)];
    assert_eq!(forged(&|_| {}), Ok(()));
    assert_eq!(forged(&|m| m.queries = query("X.example.", RecordType::A)), Ok(()));
    for change in [
        (&|m: &mut Message| m.metadata.id = 8) as &dyn Fn(&mut Message),
        &|m| m.metadata.message_type = MessageType::Query,
        &|m| m.metadata.op_code = OpCode::Notify,
        &|m| m.queries = query("y.example.", RecordType::A),
        &|m| m.queries = query("x.example.", RecordType::AAAA),
        &|m| m.queries.clear(),
        &|m| m.queries.push(m.queries[0].clone()),
    ] {
        assert_eq!(forged(change), Err(Wrong::Unasked));
    }
}

#[test]
fn extended_rcodes_need_edns() {
    let question = asking("x.example.", RecordType::A, None, Over::Udp);
    let mut message = response(&question);
    message.metadata.response_code = ResponseCode::BADCOOKIE;
    message.set_edns(Edns::new());
    let answer = read(&question, &message).unwrap();
    assert_eq!(answer.life(), None);
    let plain = decoded(&answer.reply(&question, Duration::ZERO));
    assert_eq!(plain.metadata.response_code, ResponseCode::ServFail);
    let edns = asking("x.example.", RecordType::A, Some(1232), Over::Udp);
    let full = decoded(&answer.reply(&edns, Duration::ZERO));
    assert_eq!(full.metadata.response_code, ResponseCode::BADCOOKIE);
}

#[test]
fn what_follows_the_opt_record_is_left_out_with_it() {
    let question = asking("x.example.", RecordType::A, Some(1232), Over::Udp);
    let mut message = response(&question);
    message.add_answer(a("x.example.", 60, 1));
    let opt = Entry::from_rdata(Name::root(), 0, RData::OPT(rdata::OPT::new(vec![])));
    message.add_additionals([a("glue.example.", 60, 2), opt, a("late.example.", 60, 3)]);
    let reply = decoded(&read(&question, &message).unwrap().reply(&question, Duration::ZERO));
    assert_eq!((reply.answers.len(), reply.additionals.len()), (1, 1));
    assert!(reply.edns.is_some());
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let question = asking("x.example.", RecordType::A, Some(1232), Over::Udp);
    let mut message = response(&question);
    message.add_answers((0..5).map(|n| a("x.example.", 60, n)));
    message.add_authority(soa(1, 2));
    message.set_edns(Edns::new());
    let valid = message.to_vec().unwrap();
    let changed = (
        Just(valid.clone()),
        prop::collection::vec((12..valid.len(), any::<u8>()), 0..12),
        0..valid.len() + 1,
    )
        .prop_map(|(mut bytes, changes, length)| {
            for (at, value) in changes {
                bytes[at] = value;
            }
            bytes.truncate(length);
            bytes
        });
    prop_oneof![changed, prop::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    /// Whatever an upstream sends, reading it ends, and what is told stays within what the asker takes.
    #[test]
    fn any_bytes_of_an_upstream_are_an_answer_or_none(bytes in any_message(), size in 0u16.., tcp in any::<bool>()) {
        let over = if tcp { Over::Tcp } else { Over::Udp };
        let question = asking("x.example.", RecordType::A, Some(size), over);
        let asked = super::question(&question, 7, true);
        if let Ok(answer) = Answer::read(&bytes, &asked) {
            let reply = answer.reply(&question, Duration::from_secs(1 << 40));
            prop_assert!(reply.len() <= question.limit());
            prop_assert!(reply.len() <= bytes.len() + 600 || reply.len() <= 600);
            prop_assert!(answer.life().is_none_or(|l| l <= Duration::from_secs(KEPT.into())));
            let header = &reply[..12];
            prop_assert!(header[2] & 0x80 != 0 && header[4..6] == [0, 1]);
            let again = Answer::read(&reply, &super::question(&question, 4711, true)).unwrap();
            prop_assert!(again.bytes.len() <= reply.len());
        }
    }

    /// An independent decoder reads what we make of what an independent encoder wrote.
    #[test]
    fn what_hickory_writes_comes_back_as_hickory_reads_it(
        ttls in prop::collection::vec(0u32..100_000, 0..20), age in 0u32..100_000, edns in any::<bool>(),
    ) {
        let question = asking("x.example.", RecordType::A, edns.then_some(4096), Over::Tcp);
        let mut message = response(&question);
        message.add_answers(ttls.iter().enumerate().map(|(n, ttl)| a("x.example.", *ttl, n as u8)));
        message.set_edns(Edns::new());
        let reply = decoded(&read(&question, &message).unwrap().reply(&question, Duration::from_secs(age.into())));
        let left: Vec<_> = reply.answers.iter().map(|r| r.ttl).collect();
        prop_assert_eq!(left, ttls.iter().map(|t| t.saturating_sub(age)).collect::<Vec<_>>());
        prop_assert!(reply.answers.iter().zip(&message.answers).all(|(r, m)| r.data == m.data && r.name == m.name));
        prop_assert_eq!(reply.edns.is_some(), edns);
    }
}

/// The same corpus, as what an upstream sends.
#[test]
fn the_corpus_of_hostile_messages_is_read_as_answers_or_not() {
    let question = asking("db.dhow.internal.", RecordType::A, Some(1232), Over::Udp);
    let asked = super::question(&question, 0x1267, true);
    for line in include_str!("corpus.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let mut bytes: Vec<u8> =
            (0..line.len() / 2).map(|n| u8::from_str_radix(&line[2 * n..2 * n + 2], 16).unwrap()).collect();
        bytes[2] |= QR;
        if let Ok(answer) = Answer::read(&bytes, &asked) {
            assert!(answer.reply(&question, Duration::ZERO).len() <= question.limit());
        }
    }
}
