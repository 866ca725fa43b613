use hickory_proto::op::Message;
use proptest::prelude::*;

use hickory_proto::rr::Record;

use super::*;
use crate::dns::server::From;
use crate::dns::testing;

fn refused(bytes: &[u8]) -> Message {
    match parse(bytes, Over::Udp) {
        Parsed::Refuse(answer) => Message::from_vec(&answer).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn bytes(change: impl Fn(&mut Message)) -> Vec<u8> {
    let mut message = testing::query("db.dhow.internal.", RecordType::A);
    message.metadata.id = 4711;
    change(&mut message);
    message.to_vec().unwrap()
}

#[test]
fn mistakes_get_the_code_that_they_deserve() {
    let kind = |kind: u16| bytes(|m| m.queries[0].query_type = kind.into());
    let class = |class| bytes(|m| m.queries[0].query_class = class);
    let cases: Vec<(&str, Vec<u8>, ResponseCode)> = vec![
        ("an update", bytes(|m| m.metadata.op_code = OpCode::Update), ResponseCode::NotImp),
        ("an unknown operation", bytes(|m| m.metadata.op_code = OpCode::Unknown(15)), ResponseCode::NotImp),
        ("no question", bytes(|m| m.queries.clear()), ResponseCode::FormErr),
        ("two questions", bytes(|m| m.queries.push(m.queries[0].clone())), ResponseCode::FormErr),
        ("half a question", bytes(|_| ())[..20].to_vec(), ResponseCode::FormErr),
        ("a header only", vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], ResponseCode::FormErr),
        (
            "a name that leads to itself",
            vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1],
            ResponseCode::FormErr,
        ),
        ("another class", class(DNSClass::CH), ResponseCode::Refused),
        ("any class", class(DNSClass::ANY), ResponseCode::Refused),
        ("a zone", kind(252), ResponseCode::Refused),
        ("a zone's changes", kind(251), ResponseCode::Refused),
        ("mailboxes", kind(253), ResponseCode::NotImp),
        ("a signature", kind(250), ResponseCode::NotImp),
        ("type 0", kind(0), ResponseCode::FormErr),
        ("EDNS itself", kind(41), ResponseCode::FormErr),
    ];
    for (what, bytes, expected) in cases {
        let answer = refused(&bytes);
        assert_eq!(answer.metadata.response_code, expected, "{what}");
        assert_eq!(answer.metadata.message_type, MessageType::Response, "{what}");
        assert_eq!(answer.metadata.id, u16::from_be_bytes([bytes[0], bytes[1]]), "{what}");
    }
}

#[test]
fn an_unknown_version_of_edns_is_told_ours() {
    let answer = refused(&bytes(|m| {
        m.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
    }));
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
}

#[test]
fn answers_and_scraps_are_met_with_silence() {
    let answer = bytes(|m| m.metadata.message_type = MessageType::Response);
    for scrap in [&answer[..], &[], &[0; 11]] {
        assert!(matches!(parse(scrap, Over::Udp), Parsed::Silence));
    }
}

/// RFC 8482.
#[test]
fn a_question_for_everything_gets_little() {
    let answer = refused(&bytes(|m| m.queries[0].query_type = RecordType::ANY));
    assert!(matches!(&answer.answers[..], [Record { data: RData::HINFO(_), .. }]));
}

#[tokio::test]
async fn what_exists_without_the_type_is_empty_and_what_does_not_exist_is_not_there() {
    let dns = testing::dns(&[]);
    for (name, kind, code, answers) in [
        ("DB.Dhow.Internal.", RecordType::A, ResponseCode::NoError, 1),
        ("db.dhow.internal.", RecordType::AAAA, ResponseCode::NoError, 1),
        ("web.shop.dhow.internal.", RecordType::A, ResponseCode::NoError, 2),
        ("web.shop.dhow.internal.", RecordType::AAAA, ResponseCode::NoError, 0),
        ("shop.dhow.internal.", RecordType::A, ResponseCode::NoError, 0),
        ("db.dhow.internal.", RecordType::HTTPS, ResponseCode::NoError, 0),
        ("db.dhow.internal.", RecordType::Unknown(1234), ResponseCode::NoError, 0),
        ("x.dhow.internal.", RecordType::A, ResponseCode::NXDomain, 0),
        ("dhow.internal.", RecordType::SOA, ResponseCode::NoError, 1),
        ("2.0.17.172.in-addr.arpa.", RecordType::PTR, ResponseCode::NoError, 1),
        ("2.0.17.172.in-addr.arpa.", RecordType::A, ResponseCode::NoError, 0),
        ("77.68.19.198.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain, 0),
    ] {
        let answer = testing::ask(&dns, name, kind).await;
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, answers), "{name} {kind}");
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        let soa = answer.authorities.iter().filter(|r| matches!(&r.data, RData::SOA(s) if s.minimum <= 5));
        assert_eq!(soa.count(), usize::from(answers == 0), "{name} {kind}");
        assert!(answer.answers.iter().chain(&answer.authorities).all(|r| r.ttl <= 5));
    }
}

/// Only one of several engines has the port that the host's resolver knows.
#[tokio::test]
async fn the_domain_says_whose_it_is() {
    let names = crate::dns::Names::new();
    names.of_engine("1234abcd");
    names.of_engine("another");
    let upstreams = crate::dns::Upstreams::fixed(Vec::new());
    let dns = crate::dns::Dns::new(names, upstreams, std::sync::Arc::new(crate::dns::Open));
    let answer = testing::ask(&dns, "dhow.internal.", RecordType::TXT).await;
    assert!(matches!(&answer.answers[0].data, RData::TXT(t) if t.to_string() == "engine=1234abcd"));
    let other = testing::ask(&dns, "host.dhow.internal.", RecordType::TXT).await;
    assert!(other.answers.is_empty());
}

#[tokio::test]
async fn the_answer_repeats_the_question_as_it_was_spelled() {
    let dns = testing::dns(&[]);
    let answer = testing::ask(&dns, "dB.dHOW.iNTERNAL.", RecordType::A).await;
    let spelled = Name::from_ascii("dB.dHOW.iNTERNAL.").unwrap();
    assert!(answer.queries[0].name().eq_case(&spelled) && answer.answers[0].name.eq_case(&spelled));
}

#[tokio::test]
async fn many_addresses_are_cut_to_what_the_asker_takes() {
    let names = crate::dns::Names::new();
    names.replace(vec![crate::dns::Container {
        name: "many".to_owned(),
        addresses: (0..150).map(|n| IpAddr::from([172, 17, 1, n])).collect(),
        ..Default::default()
    }]);
    let dns = crate::dns::Dns::new(
        names,
        crate::dns::Upstreams::fixed(Vec::new()),
        std::sync::Arc::new(crate::dns::Open),
    );
    let mut query = testing::query("many.dhow.internal.", RecordType::A);
    let ask = async |query: &Message, over| {
        let answer = dns.answer(&query.to_vec().unwrap(), From::Guest, over).await.unwrap();
        (answer.len(), Message::from_vec(&answer).unwrap())
    };
    let (length, answer) = ask(&query, Over::Udp).await;
    assert!(length <= 512 && answer.metadata.truncation && answer.answers.is_empty());
    assert_eq!(ask(&query, Over::Tcp).await.1.answers.len(), 150);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns);
    let (length, answer) = ask(&query, Over::Udp).await;
    assert!(length <= 4096 && !answer.metadata.truncation && answer.answers.len() == 150);
}

/// Issue 3: a corpus of messages that were made to hurt, each line one in hexadecimal.
#[tokio::test]
async fn the_corpus_of_hostile_messages_is_answered_or_dropped() {
    let dns = testing::dns(&[]);
    let mut count = 0;
    for line in include_str!("corpus.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let digits: Vec<u8> = line.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect();
        for (from, over) in [(From::Guest, Over::Udp), (From::Guest, Over::Tcp), (From::Host, Over::Udp)] {
            check(&bytes, dns.answer(&bytes, from, over).await, over);
        }
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

fn check(query: &[u8], answer: Option<Vec<u8>>, over: Over) {
    let Some(answer) = answer else { return };
    let message = Message::from_vec(&answer).unwrap();
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(answer[..2], query[..2]);
    assert!(over == Over::Tcp || answer.len() <= usize::from(PAYLOAD));
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let valid = bytes(|m| {
        m.set_edns(Edns::new())
            .edns
            .as_mut()
            .unwrap()
            .options_mut()
            .insert(EdnsOption::Unknown(8, vec![0, 1, 24, 0, 1, 2, 3]));
    });
    let mutated = (
        prop::collection::vec((2..valid.len(), any::<u8>()), 0..8),
        0..valid.len() + 1,
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(move |(changes, length, more)| {
            let mut bytes = valid.clone();
            for (at, value) in changes {
                bytes[at] = value;
            }
            bytes.truncate(length);
            bytes.extend(more);
            bytes
        });
    prop_oneof![mutated, prop::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    /// Whatever a guest sends is answered or dropped, within what it takes.
    #[test]
    fn any_message_is_answered_or_dropped(bytes in hostile(), tcp in any::<bool>(), host in any::<bool>()) {
        let over = if tcp { Over::Tcp } else { Over::Udp };
        let from = if host { From::Host } else { From::Guest };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let answer = runtime.block_on(testing::dns(&[]).answer(&bytes, from, over));
        check(&bytes, answer, over);
    }
}
