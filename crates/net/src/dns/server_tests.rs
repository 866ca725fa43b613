use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;

use super::*;
use crate::dns::testing::{
    Deed, Upstream, address, ask, ask_with, dns, failing, last_bytes, names, query, response, settings, with,
};

const A: RecordType = RecordType::A;

/// A port on which nobody listens, or one on which nobody answers.
async fn dead(keep: bool) -> (SocketAddr, Option<UdpSocket>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    (socket.local_addr().unwrap(), keep.then_some(socket))
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn an_answer_is_fetched_once_and_then_kept() {
    let upstream = Upstream::start(|q, _, n| vec![Deed::Send(address(q, n as u8))]).await;
    let dns = dns(&[upstream.address]);
    for name in ["www.example.", "WWW.example.", "www.EXAMPLE."] {
        let answer = ask(&dns, name, A).await;
        assert_eq!(last_bytes(&answer), [0]);
        assert!(answer.queries[0].name().eq_case(&Name::from_ascii(name).unwrap()), "the asker's spelling");
    }
    assert_eq!(upstream.asked(), 1);
    ask(&dns, "www.example.", RecordType::AAAA).await;
    let mut checking = query("www.example.", A);
    checking.metadata.checking_disabled = true;
    assert!(ask_with(&dns, &checking).await.metadata.checking_disabled);
    assert_eq!(upstream.asked(), 3, "another type and another flag are other questions");
}

/// Spec 5.4: in their order; a resolver that does not answer costs its time limit once.
#[tokio::test]
async fn a_silent_resolver_is_passed_over_and_then_asked_last() {
    let (silent, _socket) = dead(true).await;
    let second = Upstream::start(|q, _, _| vec![Deed::Send(address(q, 2))]).await;
    let dns = dns(&[silent, second.address]);
    let began = std::time::Instant::now();
    assert_eq!(last_bytes(&ask(&dns, "a.example.", A).await), [2]);
    assert!(began.elapsed() >= Duration::from_millis(500));
    let began = std::time::Instant::now();
    assert_eq!(last_bytes(&ask(&dns, "b.example.", A).await), [2]);
    assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_resolver_that_is_not_there_or_fails_is_passed_over_at_once() {
    let (gone, _) = dead(false).await;
    let failing = Upstream::start(|q, _, _| vec![Deed::Send(failing(q, ResponseCode::ServFail))]).await;
    let third = Upstream::start(|q, _, _| vec![Deed::Send(address(q, 3))]).await;
    let began = std::time::Instant::now();
    let dns = dns(&[gone, failing.address, third.address]);
    assert_eq!(last_bytes(&ask(&dns, "a.example.", A).await), [3]);
    assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
}

#[tokio::test]
async fn when_all_fail_the_asker_is_told_in_time() {
    let (silent, _socket) = dead(true).await;
    let began = std::time::Instant::now();
    assert_eq!(code(&ask(&dns(&[silent]), "a.example.", A).await), ResponseCode::ServFail);
    assert!(began.elapsed() < Duration::from_secs(3));
    let refusing = Upstream::start(|q, _, _| vec![Deed::Send(failing(q, ResponseCode::Refused))]).await;
    let two = dns(&[refusing.address, refusing.address]);
    assert_eq!(code(&ask(&two, "a.example.", A).await), ResponseCode::Refused);
    assert_eq!(refusing.asked(), 2, "an error is not asked for again");
    let began = std::time::Instant::now();
    let nobody = ask(&dns(&[]), "a.example.", A).await;
    assert_eq!(code(&nobody), ResponseCode::ServFail);
    assert!(began.elapsed() < Duration::from_millis(450));
}

#[tokio::test]
async fn a_truncated_answer_is_fetched_over_tcp() {
    let upstream = Upstream::start(|q, over, _| {
        let mut message = response(q);
        match over {
            Over::Udp => message.metadata.truncation = true,
            Over::Tcp => {
                let text = RData::TXT(TXT::new(vec!["x".repeat(250)]));
                let record = Record::from_rdata(q.queries[0].name().clone(), 60, text);
                message.add_answers(vec![record; 8]);
            }
        }
        vec![Deed::Send(message.to_vec().unwrap())]
    })
    .await;
    let dns = dns(&[upstream.address]);
    let asked = query("big.example.", RecordType::TXT).to_vec().unwrap();
    let udp = dns.answer(&asked, From::Guest, Over::Udp).await.unwrap();
    assert!(udp.len() <= 512 && Message::from_vec(&udp).unwrap().metadata.truncation);
    let tcp = dns.answer(&asked, From::Guest, Over::Tcp).await.unwrap();
    assert_eq!(Message::from_vec(&tcp).unwrap().answers.len(), 8);
    assert_eq!(upstream.asked(), 2, "the asker's second question is answered from the cache");
}

/// RFC 5452: whoever does not know the number cannot answer.
#[tokio::test]
async fn answers_with_another_number_or_question_are_passed_over() {
    let upstream = Upstream::start(|q, over, n| {
        let mut wrong = with(q, &[[6, 6, 6, 6].into()]);
        wrong.metadata.id ^= 1;
        let mut other = query("other.example.", A);
        other.metadata.id = q.metadata.id;
        let wrong = Deed::Send(wrong.to_vec().unwrap());
        let other = Deed::Send(address(&other, 66));
        match (over, n) {
            (Over::Udp, 0) => vec![wrong, other, Deed::Send(address(q, 1)), Deed::Send(address(q, 2))],
            // A flood of guesses: TCP knows who speaks.
            (Over::Udp, _) => (0..40).map(|_| Deed::Send(vec![0; 12])).collect(),
            (Over::Tcp, _) => vec![Deed::Send(address(q, 3))],
        }
    })
    .await;
    let dns = dns(&[upstream.address]);
    assert_eq!(last_bytes(&ask(&dns, "a.example.", A).await), [1]);
    assert_eq!(last_bytes(&ask(&dns, "b.example.", A).await), [3]);
}

#[tokio::test]
async fn numbers_and_ports_differ_from_question_to_question() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let numbers = Arc::clone(&seen);
    let upstream = Upstream::start(move |q, _, _| {
        lock(&numbers).insert(q.metadata.id);
        vec![Deed::Send(address(q, 1))]
    })
    .await;
    let dns = dns(&[upstream.address]);
    for n in 0..40 {
        ask(&dns, &format!("n{n}.example."), A).await;
    }
    assert!(lock(&seen).len() > 35);
}

#[tokio::test]
async fn a_resolver_that_does_not_know_edns_is_asked_without() {
    let upstream = Upstream::start(|q, _, _| {
        vec![Deed::Send(match q.edns {
            Some(_) => {
                let mut bytes = failing(q, ResponseCode::FormErr);
                bytes.truncate(12);
                bytes[4..12].fill(0);
                bytes
            }
            None => address(q, 1),
        })]
    })
    .await;
    let mut asked = query("a.example.", A);
    asked.set_edns(hickory_proto::op::Edns::new());
    let answer = ask_with(&dns(&[upstream.address]), &asked).await;
    assert_eq!(last_bytes(&answer), [1]);
    assert!(answer.edns.is_some());
}

#[tokio::test]
async fn an_absence_is_kept_too() {
    let upstream = Upstream::start(|q, _, _| {
        let mut message = response(q);
        message.metadata.response_code = ResponseCode::NXDomain;
        let zone = Name::from_ascii("example.").unwrap();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 300);
        message.add_authority(Record::from_rdata(zone, 300, RData::SOA(soa)));
        vec![Deed::Send(message.to_vec().unwrap())]
    })
    .await;
    let dns = dns(&[upstream.address]);
    for _ in 0..3 {
        let answer = ask(&dns, "gone.example.", A).await;
        assert_eq!((code(&answer), answer.authorities.len()), (ResponseCode::NXDomain, 1));
    }
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn equal_questions_are_asked_once_and_survive_the_first_asker() {
    let slow = Duration::from_millis(100);
    let upstream = Upstream::start(move |q, _, _| vec![Deed::Wait(slow), Deed::Send(address(q, 1))]).await;
    let dns = dns(&[upstream.address]);
    let first = timeout(Duration::from_millis(20), ask(&dns, "a.example.", A));
    let others = futures_util::future::join_all((0..50).map(|_| ask(&dns, "A.example.", A)));
    let (first, others) = tokio::join!(first, others);
    assert!(first.is_err());
    assert!(others.iter().all(|answer| last_bytes(answer) == [1]));
    assert!(upstream.asked() <= 2, "the second asker takes over: {}", upstream.asked());
}

/// Spec 5.4: no upstream delays local names; and what is under way is bounded.
#[tokio::test]
async fn local_names_do_not_wait_for_upstreams_however_many_are_asked() {
    let (silent, _socket) = dead(true).await;
    let dns = dns(&[silent]);
    let mut hanging = tokio::task::JoinSet::new();
    for n in 0..600 {
        let dns = Arc::clone(&dns);
        hanging.spawn(async move { ask(&dns, &format!("n{n}.example."), A).await });
    }
    // All have begun: those that find no place are done.
    while hanging.try_join_next().is_none() {
        tokio::task::yield_now().await;
    }
    let began = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(last_bytes(&ask(&dns, "db.dhow.internal.", A).await), [2]);
    }
    assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
    let refused = ask(&dns, "one.more.example.", A);
    let answer =
        timeout(Duration::from_millis(450), refused).await.expect("more than enough is refused at once");
    assert_eq!(code(&answer), ResponseCode::ServFail);
    let answers = hanging.join_all().await;
    assert!(answers.iter().all(|answer| code(answer) == ResponseCode::ServFail));
}

/// Spec 5.4: followed as they change, also while questions are under way.
#[tokio::test]
async fn resolvers_that_change_in_mid_flight_are_followed() {
    let slow = Duration::from_millis(100);
    let old = Upstream::start(move |q, _, _| vec![Deed::Wait(slow), Deed::Send(address(q, 1))]).await;
    let port = old.address.port();
    let new = SocketAddr::from(([127, 0, 0, 2], port));
    let new = Upstream::start_at(new, |q, _, _| vec![Deed::Send(address(q, 2))]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let put = |text: &str| {
        let other = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
        std::io::Write::write_all(&mut other.as_file(), text.as_bytes()).unwrap();
        other.persist(&path).unwrap();
    };
    put("nameserver 127.0.0.1\n");
    let upstreams = Upstreams::with(Some(path.clone()), port, settings(&[]));
    let dns = Dns::new(names(), upstreams, Arc::new(crate::dns::Open));
    let under_way = ask(&dns, "a.example.", A);
    let change = async { put("nameserver 127.0.0.2\n") };
    let (answer, ()) = tokio::join!(under_way, change);
    assert_eq!(last_bytes(&answer), [1], "who was asked answers");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(last_bytes(&ask(&dns, "a.example.", A).await), [2], "and is not believed any more");
    put("# nobody\n");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(code(&ask(&dns, "a.example.", A).await), ResponseCode::ServFail);
    put("nameserver 127.0.0.1\n");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(last_bytes(&ask(&dns, "a.example.", A).await), [1], "back sooner than a second");
    assert_eq!((old.asked(), new.asked()), (2, 1));
}

/// A name and its addresses.
type Pinned = (String, Vec<(IpAddr, Duration)>);

#[derive(Default)]
struct Guard {
    pinned: Mutex<Vec<Pinned>>,
}

impl Gate for Guard {
    fn resolve(&self, name: &str) -> Option<Box<dyn std::fmt::Display + Send>> {
        name.ends_with(".denied.example").then(|| Box::new("not allowed") as _)
    }

    fn pin(
        &self,
        name: &str,
        addresses: &[(IpAddr, Duration)],
        _: std::time::Instant,
    ) -> Option<Box<dyn std::fmt::Display + Send>> {
        lock(&self.pinned).push((name.to_owned(), addresses.to_vec()));
        let private = |(a, _): &(IpAddr, Duration)| matches!(a, IpAddr::V4(a) if a.is_private());
        addresses.iter().any(private).then(|| Box::new("rebinding") as _)
    }
}

/// Spec 12.4: names are refused before anybody is asked, and addresses are known to the policy before they are told.
#[tokio::test]
async fn the_policy_decides_on_names_and_sees_their_addresses_first() {
    let upstream = Upstream::start(|q, _, _| {
        let private = q.queries[0].name().to_string().starts_with("rebind");
        let address: IpAddr = if private { [10, 0, 0, 1] } else { [192, 0, 2, 1] }.into();
        vec![Deed::Send(with(q, &[address]).to_vec().unwrap())]
    })
    .await;
    let guard = Arc::new(Guard::default());
    let dns = Dns::new(names(), Upstreams::fixed(vec![upstream.address]), Arc::clone(&guard) as _);
    let mut asked = query("X.Denied.Example.", A);
    asked.set_edns(hickory_proto::op::Edns::new());
    let denied = ask_with(&dns, &asked).await;
    assert_eq!((code(&denied), upstream.asked()), (ResponseCode::Refused, 0));
    let why = denied.edns.unwrap();
    assert!(format!("{:?}", why.option(15.into())).contains("[0, 15]"), "{why:?}");

    assert_eq!(last_bytes(&ask(&dns, "Www.example.", A).await), [1]);
    assert_eq!(last_bytes(&ask(&dns, "www.example.", A).await), [1]);
    assert_eq!(code(&ask(&dns, "rebind.example.", A).await), ResponseCode::Refused);
    ask(&dns, "db.dhow.internal.", A).await;
    let pinned = lock(&guard.pinned);
    let names: Vec<_> = pinned.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["www.example", "www.example", "rebind.example"], "from the cache too");
    let [(address, lifetime)] = pinned[0].1[..] else { panic!("{:?}", pinned[0]) };
    assert_eq!(address, IpAddr::from([192, 0, 2, 1]));
    // On a busy machine a second may have passed since the answer came.
    assert!((Duration::from_secs(55)..=Duration::from_secs(60)).contains(&lifetime), "{lifetime:?}");
}

/// The host's own resolver may forward to us, so we never forward for it.
#[tokio::test]
async fn the_host_is_answered_about_our_names_only() {
    let upstream = Upstream::start(|q, _, _| vec![Deed::Send(address(q, 1))]).await;
    let dns = dns(&[upstream.address]);
    for (name, expected) in [
        ("db.dhow.internal.", ResponseCode::NoError),
        ("x.dhow.internal.", ResponseCode::NXDomain),
        ("2.0.17.172.in-addr.arpa.", ResponseCode::NoError),
        ("9.0.17.172.in-addr.arpa.", ResponseCode::Refused),
        ("example.com.", ResponseCode::Refused),
        (".", ResponseCode::Refused),
    ] {
        let asked = query(name, A).to_vec().unwrap();
        let answer = dns.answer(&asked, From::Host, Over::Udp).await.unwrap();
        assert_eq!(code(&Message::from_vec(&answer).unwrap()), expected, "{name}");
    }
    assert_eq!(upstream.asked(), 0);
}
