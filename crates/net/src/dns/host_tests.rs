use std::process::Output;
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::*;
use crate::dns::testing::{self, Deed, Upstream, address, last_bytes, query, settings, with};
use crate::dns::{Container, Names, Open, Upstreams};

/// A served port of the host, stopped with its owner.
struct Served {
    dns: Arc<Dns>,
    address: SocketAddr,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Served {
    async fn start(dns: Arc<Dns>) -> Self {
        let cancel = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&dns).serve_host(0, cancel.clone()));
        let address = listening(&dns).await;
        Self { dns, address, cancel, task }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
        assert_eq!(*self.dns.host_port().borrow(), HostPort::Off);
        UdpSocket::bind(self.address).await.expect("the port is free again");
        TcpListener::bind(self.address).await.expect("the port is free again");
    }
}

async fn listening(dns: &Arc<Dns>) -> SocketAddr {
    let mut port = dns.host_port();
    let listens = port.wait_for(|p| matches!(p, HostPort::Listening(_)));
    match timeout(Duration::from_secs(5), listens).await.unwrap().unwrap().clone() {
        HostPort::Listening(address) => address,
        other => panic!("{other:?}"),
    }
}

/// The guest's side as the gateway offers it: each datagram answered in a task of its own.
async fn guest_side(dns: Arc<Dns>) -> (SocketAddr, tokio::task::JoinSet<()>) {
    let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    let streams = Arc::clone(&dns);
    tasks.spawn(async move {
        let mut clients = JoinSet::new();
        loop {
            let (stream, _) = tcp.accept().await.unwrap();
            clients.spawn(Arc::clone(&streams).serve_stream(stream, From::Guest));
        }
    });
    tasks.spawn(async move {
        let mut answers = JoinSet::new();
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let (udp, dns, query) = (Arc::clone(&udp), Arc::clone(&dns), buffer[..length].to_vec());
            answers.spawn(async move {
                if let Some(answer) = dns.answer(&query, From::Guest, Over::Udp).await {
                    udp.send_to(&answer, client).await.unwrap();
                }
            });
            while answers.try_join_next().is_some() {}
        }
    });
    (address, tasks)
}

async fn run(program: &str, words: &str) -> Option<String> {
    let command = Command::new(program).args(words.split_whitespace()).kill_on_drop(true).output();
    match timeout(Duration::from_secs(30), command).await.expect("it ends") {
        Ok(Output { stdout, stderr, .. }) => {
            Some(format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
        }
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}

async fn dig(server: SocketAddr, words: &str) -> Option<String> {
    run("dig", &format!("@{} -p {} +tries=1 +time=5 +nocookie {words}", server.ip(), server.port())).await
}

/// Spec 5.1 and 5.2, seen by a standard tool from the host and from the guest.
#[tokio::test]
async fn dig_finds_containers_from_the_host_and_from_the_guest() {
    let served = Served::start(testing::dns(&[])).await;
    let (guest, _tasks) = guest_side(Arc::clone(&served.dns)).await;
    for side in [served.address, guest] {
        for (words, expected) in [
            ("+short db.dhow.internal", vec!["172.17.0.2"]),
            ("+short DB.dHOW.internal AAAA", vec!["fd00::2"]),
            ("+short +tcp web.shop.dhow.internal", vec!["172.18.0.2", "172.18.0.3"]),
            ("+short -x 172.17.0.2", vec!["db.dhow.internal."]),
            ("x.dhow.internal", vec!["NXDOMAIN", "SOA", "flags: qr aa rd ra"]),
            ("db.dhow.internal MX", vec!["NOERROR", "ANSWER: 0", "SOA"]),
            ("+noedns db.dhow.internal", vec!["172.17.0.2", "ADDITIONAL: 0"]),
            (
                "+edns=0 +dnssec db.dhow.internal",
                vec!["172.17.0.2", "EDNS: version: 0, flags: do; udp: 4096"],
            ),
            ("+edns=1 +noednsnegotiation db.dhow.internal", vec!["BADVERS", "EDNS: version: 0"]),
            ("+bufsize=512 web.shop.dhow.internal", vec!["172.18.0.2"]),
            ("+subnet=192.0.2.0/24 +nsid db.dhow.internal", vec!["172.17.0.2"]),
            ("+noall +comments +answer dhow.internal AXFR", vec!["Transfer failed"]),
            ("db.dhow.internal ANY", vec!["HINFO", "RFC8482"]),
            ("version.bind TXT CH", vec!["REFUSED"]),
            ("+opcode=update dhow.internal", vec!["NOTIMP"]),
            ("+opcode=9 dhow.internal", vec!["NOTIMP"]),
            ("+header-only", vec!["FORMERR"]),
            ("a\\.b\\000c.dhow.internal", vec!["NXDOMAIN"]),
            ("+norecurse db.dhow.internal", vec!["flags: qr aa ra;", "172.17.0.2"]),
            ("db.dhow.internal TYPE65534", vec!["NOERROR", "ANSWER: 0"]),
        ] {
            let Some(said) = dig(side, words).await else { return };
            for word in expected {
                assert!(said.contains(word), "{side} {words}: {said}");
            }
        }
    }
    for (words, expected) in [
        ("+short host.docker.internal", "198.19.68.254"),
        ("+short gateway.docker.internal AAAA", "fd64:686f:7700::1"),
    ] {
        assert!(dig(guest, words).await.unwrap().contains(expected));
    }
    for (words, expected) in [
        ("+short host.dhow.internal", "127.0.0.1"),
        ("+short host.docker.internal AAAA", "::1"),
        ("example.com", "REFUSED"),
        (". NS", "REFUSED"),
    ] {
        assert!(dig(served.address, words).await.unwrap().contains(expected), "{words}");
    }
    served.stop().await;
}

#[tokio::test]
async fn dig_gets_a_large_answer_of_others_in_the_size_that_it_asks_for() {
    let upstream = Upstream::start(|q, over, _| {
        let addresses: Vec<_> = (0..100).map(|n| [192, 0, 2, n].into()).collect();
        let mut message = with(q, &addresses);
        if over == Over::Udp {
            message = message.truncate();
        }
        vec![Deed::Send(message.to_vec().unwrap())]
    })
    .await;
    let (guest, _tasks) = guest_side(testing::dns(&[upstream.address])).await;
    for (words, expected) in [
        ("+ignore +noedns big.example", vec!["flags: qr tc rd ra", "ANSWER: 0"]),
        ("+ignore +bufsize=4096 big.example", vec!["ANSWER: 100", "flags: qr rd ra"]),
        ("+ignore +bufsize=1232 big.example", vec!["flags: qr tc rd ra", "ANSWER: 0"]),
        ("+tcp big.example", vec!["ANSWER: 100"]),
        ("+bufsize=512 big.example", vec!["ANSWER: 100", "retrying in TCP mode"]),
    ] {
        let Some(said) = dig(guest, words).await else { return };
        for word in expected {
            assert!(said.contains(word), "{words}: {said}");
        }
    }
}

/// A port in use is a clear error, and it is taken over when it becomes free.
#[tokio::test]
async fn a_port_in_use_is_told_and_tried_again() {
    for udp in [false, true] {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let holder = UdpSocket::bind(address).await.unwrap();
        let holder: Box<dyn Send> = if udp {
            drop(tcp);
            Box::new(holder)
        } else {
            drop(holder);
            Box::new(tcp)
        };
        let dns = testing::dns(&[]);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&dns).serve_host(address.port(), cancel.clone()));
        let mut port = dns.host_port();
        let waits = port.wait_for(|p| matches!(p, HostPort::Waiting(_)));
        let HostPort::Waiting(words) = timeout(Duration::from_secs(5), waits).await.unwrap().unwrap().clone()
        else {
            panic!("it waits")
        };
        let protocol = if udp { "UDP" } else { "TCP" };
        assert!(words.contains(&format!("another program listens on {address} ({protocol})")), "{words}");
        drop(holder);
        assert_eq!(listening(&dns).await, address);
        cancel.cancel();
        task.await.unwrap().unwrap();
    }
}

/// RFC 7766: several questions at once, answers as they come, and answers after half a close.
#[tokio::test]
async fn a_stream_carries_many_questions_and_survives_half_a_close() {
    let slow = Duration::from_millis(100);
    let upstream = Upstream::start(move |q, _, _| vec![Deed::Wait(slow), Deed::Send(address(q, 9))]).await;
    let dns = testing::dns(&[upstream.address]);
    let (client, server) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(Arc::clone(&dns).serve_stream(server, From::Guest));
    let (mut reader, mut writer) = tokio::io::split(client);
    let names = ["slow.example.", "db.dhow.internal.", "x.dhow.internal."];
    let mut bytes = Vec::new();
    for (id, name) in (0u16..).zip(names) {
        let mut message = query(name, RecordType::A);
        message.metadata.id = id;
        let message = message.to_vec().unwrap();
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    for part in bytes.chunks(7) {
        writer.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    writer.shutdown().await.unwrap();
    let mut order = Vec::new();
    for _ in names {
        let length = timeout(Duration::from_secs(5), reader.read_u16()).await.unwrap().unwrap();
        let mut bytes = vec![0; usize::from(length)];
        reader.read_exact(&mut bytes).await.unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        order.push((message.metadata.id, last_bytes(&message)));
    }
    assert_eq!(order.pop().unwrap(), (0, vec![9]), "the slow one comes last");
    order.sort();
    assert_eq!(order, [(1, vec![2]), (2, vec![])]);
    assert_eq!(timeout(Duration::from_secs(5), reader.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn scraps_on_a_stream_end_it_and_nothing_else() {
    let served = Served::start(testing::dns(&[])).await;
    for scrap in [&b""[..], b"\0", b"\0\x05abc", b"\0\0\0\0", b"\xff\xff", &[0xff; 70_000]] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // The server may hang up in the middle.
        stream.write_all(scrap).await.ok();
        stream.shutdown().await.ok();
        let mut rest = Vec::new();
        timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap().ok();
        assert!(rest.len() < 100, "{scrap:?}");
    }
    assert_eq!(last_bytes(&testing::ask(&served.dns, "db.dhow.internal.", RecordType::A).await), [2]);
    served.stop().await;
}

/// Spec 5.2: a change of the table is seen by the next question.
#[tokio::test]
async fn a_renamed_container_moves_at_once() {
    let names = Names::new();
    let dns = Dns::new(Arc::clone(&names), Upstreams::fixed(Vec::new()), Arc::new(Open));
    let container = |name: &str| {
        vec![Container {
            name: name.to_owned(),
            addresses: vec![[172, 17, 0, 2].into()],
            ..Default::default()
        }]
    };
    for (now, before) in [("a", "b"), ("b", "a"), ("a", "b")] {
        names.replace(container(now));
        let code = async |name: &str| {
            testing::ask(&dns, &format!("{name}.dhow.internal."), RecordType::A).await.metadata.response_code
        };
        assert_eq!(code(now).await, ResponseCode::NoError);
        assert_eq!(code(before).await, ResponseCode::NXDomain);
    }
}

/// Queries per second, printed: `cargo nextest run -p dhow-net --run-ignored only --no-capture dnsperf`.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement"]
async fn dnsperf_measures_local_and_kept_names() {
    let upstream = Upstream::start(|q, _, _| vec![Deed::Send(address(q, 1))]).await;
    let upstreams = Upstreams::with(None, 53, settings(&[upstream.address]));
    let dns = Dns::new(testing::names(), upstreams, Arc::new(Open));
    let served = Served::start(Arc::clone(&dns)).await;
    let (guest, _tasks) = guest_side(dns).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, lines: String| {
        let path = dir.path().join(name);
        std::fs::File::create(&path)
            .and_then(|mut f| std::io::Write::write_all(&mut f, lines.as_bytes()))
            .unwrap();
        path.display().to_string()
    };
    let local = file("local", "db.dhow.internal A\nweb.shop.dhow.internal A\nx.dhow.internal AAAA\n".into());
    let kept = file("kept", (0..100).map(|n| format!("n{n}.example A\n")).collect());
    let fresh = file("fresh", (0..200_000).map(|n| format!("f{n}.example A\n")).collect());
    for (what, side, names, more) in [
        ("host, local names, UDP", served.address, &local, "-l 3"),
        ("host, local names, TCP", served.address, &local, "-l 3 -m tcp -c 4"),
        ("guest, local names, UDP", guest, &local, "-l 3"),
        ("guest, kept names, UDP", guest, &kept, "-l 3"),
        ("guest, new names each time, UDP", guest, &fresh, "-l 3 -q 50 -n 1"),
    ] {
        let began = Instant::now();
        let words = format!("-s {} -p {} -d {names} {more}", side.ip(), side.port());
        let Some(said) = run("dnsperf", &words).await else { return };
        let line = |start: &str| {
            said.lines().find(|l| l.trim().starts_with(start)).unwrap_or_default().trim().to_owned()
        };
        println!(
            "{what}: {} | {} | {} | {:.1} s",
            line("Queries per second"),
            line("Queries lost"),
            line("Average Latency"),
            began.elapsed().as_secs_f64()
        );
    }
    served.stop().await;
}
