use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record};

use super::*;
use crate::dns::answer;
use crate::dns::message::{Parsed, parse};
use crate::dns::server::Over;

fn question(name: &str) -> Question {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    match parse(&message.to_vec().unwrap(), Over::Udp) {
        Parsed::Ask(question) => *question,
        other => panic!("{other:?}"),
    }
}

fn answered(question: &Question, ttl: u32, records: u8) -> Arc<Answer> {
    let asked = answer::question(question, 7, false);
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(question.name.clone(), question.kind));
    for n in 0..records {
        message.add_answer(Record::from_rdata(question.name.clone(), ttl, RData::A(A::new(192, 0, 2, n))));
    }
    Arc::new(Answer::read(&message.to_vec().unwrap(), &asked).unwrap())
}

/// Nothing that has expired is served.
#[test]
fn an_answer_is_kept_for_its_time_to_live_and_not_longer() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let asked = question("a.example.");
    let key = Key::of(&asked);
    cache.put(&key, &answered(&asked, 30, 1), 0, now);
    let at = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(cache.get(&key, 0, at(29)).unwrap().1, Duration::from_secs(29));
    assert!(cache.get(&key, 0, at(30)).is_none());
    assert_eq!((cache.entries.len(), cache.bytes, cache.keys.len(), cache.ends.len()), (0, 0, 0, 0));
    cache.put(&key, &answered(&asked, 0, 1), 0, now);
    assert!(cache.get(&key, 0, now).is_none(), "a time to live of nothing");
}

/// Spec 5.4: other resolvers, other answers.
#[test]
fn a_change_of_upstreams_forgets_what_the_earlier_ones_said() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let asked = question("a.example.");
    let key = Key::of(&asked);
    cache.put(&key, &answered(&asked, 30, 1), 0, now);
    assert!(cache.get(&key, 1, now).is_none());
    cache.put(&key, &answered(&asked, 30, 1), 0, now);
    assert!(cache.get(&key, 1, now).is_none(), "a late answer of the earlier ones");
    cache.put(&key, &answered(&asked, 30, 1), 1, now);
    assert!(cache.get(&key, 1, now).is_some());
}

#[test]
fn the_cache_stays_within_its_entries_and_bytes() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for n in 0..ENTRIES + 500 {
        let asked = question(&format!("n{n}.example."));
        let ttl = 60 + u32::try_from(n).unwrap();
        cache.put(&Key::of(&asked), &answered(&asked, ttl, if n % 2 == 0 { 1 } else { 200 }), 0, now);
        assert!(cache.entries.len() <= ENTRIES && cache.bytes <= BYTES);
    }
    let last = question(&format!("n{}.example.", ENTRIES + 499));
    assert!(cache.get(&Key::of(&last), 0, now).is_some(), "what lives longest stays");
    assert!(cache.get(&Key::of(&question("n0.example.")), 0, now).is_none());
    assert_eq!(cache.entries.len(), cache.keys.len());
    assert_eq!(cache.entries.len(), cache.ends.len());
    assert_eq!(cache.bytes, cache.entries.values().map(|e| e.cost).sum::<usize>());
}
