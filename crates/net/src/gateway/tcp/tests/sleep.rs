//! Connections of a guest that sleeps. Its clock is the gateway's, as a guest's stands still while it is not run.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

impl Bench {
    fn freeze(&self) {
        self.tcp.context.clock().freeze();
        self.tcp.freeze();
    }

    fn thaw(&self) {
        self.tcp.context.clock().thaw();
        self.tcp.context.outbound.pass_on();
        self.tcp.thaw();
    }

    fn wanted(&self) -> bool {
        self.tcp.context.clock().wanted()
    }

    fn guest(&mut self, port: u16) -> &mut Stack {
        self.guest.get_mut(&SocketAddr::new(network::GUEST.into(), port)).unwrap()
    }

    /// Lets the gateway do what it can, with what the host's sockets have.
    async fn settle(&mut self) {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The same with a guest that is awake.
    async fn run(&mut self) {
        for _ in 0..5 {
            self.exchange();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Spec 13.2: connections go on after a wake, with what was on its way both ways, and lose no byte.
#[test]
fn a_connection_with_bytes_on_their_way_survives_ten_hours() {
    run(async {
        let mut bench = Bench::new().await;
        let mut stream = bench.connect(10_000).await;
        bench.run().await;
        stream.write_all(&[1; 3000]).await.unwrap();
        bench.settle().await;
        bench.guest(10_000).socket().send_slice(&[2; 3000]).unwrap();
        bench.guest_sends();
        bench.freeze();
        assert!(bench.wanted(), "who sent this waits for an answer");
        pause();
        advance(10 * HOUR).await;
        bench.collect();
        bench.settle().await;
        let mut got = vec![0; 4000];
        assert_eq!(stream.try_read(&mut got).unwrap(), 3000, "what the guest sent before goes out");
        assert_eq!(bench.open(), 1);
        bench.thaw();
        bench.run().await;
        assert_eq!(bench.guest(10_000).socket().recv_slice(&mut got).unwrap(), 3000);
        assert_eq!(got[..3000], [1; 3000]);
    });
}

/// Spec 13.1: an idle connection neither wakes the guest nor ends, and only time awake counts for its keep-alives.
#[test]
fn a_silent_connection_is_left_alone_while_the_guest_sleeps() {
    run(async {
        let mut bench = Bench::new().await;
        let _stream = bench.connect(10_000).await;
        bench.run().await;
        pause();
        let asked = async |bench: &mut Bench, time: Duration| {
            for _ in 0..time.as_secs() / 5 {
                advance(Duration::from_secs(5)).await;
                bench.settle().await;
            }
            bench.tcp.context.outbound.frames().len()
        };
        assert_eq!(asked(&mut bench, Duration::from_secs(30)).await, 0);
        bench.freeze();
        for _ in 0..100 {
            advance(HOUR).await;
            bench.settle().await;
        }
        assert_eq!((bench.wanted(), bench.open(), bench.tcp.context.outbound.frames().len()), (false, 1, 0));
        bench.thaw();
        bench.settle().await;
        assert_eq!(asked(&mut bench, Duration::from_secs(20)).await, 0);
        assert_eq!(asked(&mut bench, Duration::from_secs(15)).await, 1, "after a minute awake it is asked");
        assert_eq!(bench.open(), 1);
    });
}

/// Spec 13.1: bytes, an end or a reset of the peer's wake the guest, and it learns of them.
#[test]
fn what_the_host_has_to_say_is_told_after_the_wake() {
    run(async {
        for case in ["bytes", "an end", "a reset"] {
            let mut bench = Bench::new().await;
            let mut stream = bench.connect(10_000).await;
            bench.run().await;
            bench.freeze();
            bench.settle().await;
            assert!(!bench.wanted(), "{case}");
            match case {
                "bytes" => stream.write_all(b"ping").await.unwrap(),
                "an end" => stream.shutdown().await.unwrap(),
                _ => stream.set_zero_linger().unwrap(),
            }
            let stream = (case != "a reset").then_some(stream);
            bench.settle().await;
            assert!(bench.wanted(), "{case}");
            assert!(bench.tcp.context.outbound.frames().is_empty(), "{case}");
            bench.thaw();
            bench.run().await;
            assert!(!bench.wanted());
            let guest = bench.guest(10_000);
            match case {
                "bytes" => assert_eq!(guest.socket().recv_queue(), 4),
                "an end" => assert!(pump::finished(guest.state())),
                _ => assert_eq!(guest.state(), smoltcp::socket::tcp::State::Closed),
            }
            drop(stream);
        }
    });
}

/// Spec 13.1: a guest that takes no more bytes is not woken for them, since they cannot be given to it.
#[test]
fn a_connection_that_the_guest_does_not_read_wakes_nobody() {
    run(async {
        let mut bench = Bench::new().await;
        let stream = bench.connect(10_000).await;
        let mut refused = 0;
        while refused < 5 {
            refused = if stream.try_write(&[0; 65_536]).is_ok() { 0 } else { refused + 1 };
            bench.run().await;
        }
        bench.freeze();
        bench.settle().await;
        assert!(!bench.wanted());
    });
}

/// Spec 13.1: "port connection [...] wakes it": the client waits, and is served.
#[test]
fn a_client_that_comes_while_the_guest_sleeps_is_served_after_the_wake() {
    run(async {
        let mut bench = Bench::new().await;
        let service = SocketAddr::new(network::GUEST.into(), 80);
        let mut stack = Stack::new(4096, 1, false, bench.tcp.context.clock().now());
        assert!(stack.listen(service));
        bench.guest.insert(service, stack);
        bench.freeze();
        let (client, from) =
            (TcpStream::connect(bench.listener.local_addr().unwrap()), bench.listener.accept());
        let (client, accepted) = tokio::join!(client, from);
        let ((accepted, from), mut client) = (accepted.unwrap(), client.unwrap());
        let permit = bench.tcp.flows.clone().acquire_owned().await.unwrap();
        bench.tcp.connect(accepted, from, service, permit);
        client.write_all(b"ping").await.unwrap();
        pause();
        advance(HOUR).await;
        bench.settle().await;
        assert!(bench.wanted() && bench.tcp.context.outbound.frames().is_empty());
        bench.thaw();
        bench.run().await;
        assert_eq!(bench.guest(80).socket().recv_queue(), 4);
    });
}

/// Spec 13.1: a guest that sleeps in the middle of a handshake has somebody who waits for it, on one side or the other.
#[test]
fn a_guest_that_sleeps_in_the_middle_of_a_handshake_is_wanted() {
    run(async {
        for answered in [false, true] {
            let mut bench = Bench::new().await;
            bench.ask(10_000, bench.listener.local_addr().unwrap().port());
            bench.guest_sends();
            bench.collect();
            if answered {
                // The answer is out, and the guest's last step is not here yet.
                bench.listener.accept().await.unwrap();
                bench.settle().await;
                bench.deliver();
                bench.guest_sends();
                bench.freeze();
            } else {
                bench.freeze();
                assert!(!bench.wanted(), "the host has said nothing yet");
                bench.listener.accept().await.unwrap();
                bench.settle().await;
            }
            assert!(bench.wanted(), "answered: {answered}");
            bench.thaw();
            bench.run().await;
            assert!(pump::established(bench.guest(10_000).state()));
            assert_eq!((bench.wanted(), bench.open()), (false, 1));
        }
    });
}

/// Spec 13.1: what the host refuses while the guest sleeps is told, too.
#[test]
fn a_refusal_that_comes_while_the_guest_sleeps_wakes_it() {
    run(async {
        let mut bench = Bench::new().await;
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        bench.ask(10_000, free.port());
        bench.guest_sends();
        bench.collect();
        bench.freeze();
        bench.settle().await;
        assert!(bench.wanted());
        bench.thaw();
        bench.run().await;
        assert_eq!(bench.guest(10_000).state(), smoltcp::socket::tcp::State::Closed);
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Freeze,
    Thaw,
    /// The hypervisor goes, and another comes.
    Replace,
    Settle,
    HostSends(usize),
    HostReads,
    HostEnds,
    GuestSends(usize),
    GuestReads,
    GuestEnds,
    ToGuest,
    FromGuest,
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Freeze),
        3 => Just(Step::Thaw),
        1 => Just(Step::Replace),
        3 => Just(Step::Settle),
        3 => (1..20_000_usize).prop_map(Step::HostSends),
        2 => Just(Step::HostReads),
        1 => Just(Step::HostEnds),
        3 => (1..5_000_usize).prop_map(Step::GuestSends),
        2 => Just(Step::GuestReads),
        1 => Just(Step::GuestEnds),
        4 => Just(Step::ToGuest),
        4 => Just(Step::FromGuest),
        1 => Just(Step::Pass),
    ]
}

/// The two ends of one connection, and what each of them has sent and got.
struct Talk {
    bench: Bench,
    stream: TcpStream,
    sent: [Vec<u8>; 2],
    got: [Vec<u8>; 2],
    ended: [bool; 2],
    next: u8,
}

const HOST: usize = 0;
const GUEST: usize = 1;

impl Talk {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| {
                self.next = self.next.wrapping_mul(77).wrapping_add(13);
                self.next
            })
            .collect()
    }

    async fn step(&mut self, step: Step) {
        let frozen = self.bench.tcp.context.clock().frozen();
        match step {
            Step::Freeze => self.bench.freeze(),
            Step::Thaw => self.bench.thaw(),
            Step::Replace if frozen => {
                self.bench.tcp.context.outbound.set_linked(false);
                self.bench.settle().await;
                self.bench.tcp.context.outbound.set_linked(true);
            }
            Step::Settle => self.bench.settle().await,
            Step::HostSends(count) if !self.ended[HOST] => {
                let bytes = self.bytes(count);
                let written = self.stream.try_write(&bytes).unwrap_or(0);
                self.sent[HOST].extend_from_slice(&bytes[..written]);
            }
            Step::HostReads => self.host_reads(),
            Step::HostEnds if !self.ended[HOST] => {
                self.ended[HOST] = true;
                self.stream.shutdown().await.unwrap();
            }
            Step::FromGuest => self.bench.collect(),
            Step::Pass if frozen => advance(HOUR).await,
            // What follows is the guest's doing.
            _ if frozen => {}
            Step::GuestSends(count) if !self.ended[GUEST] => {
                let bytes = self.bytes(count);
                let written = self.bench.guest(10_000).socket().send_slice(&bytes).unwrap_or(0);
                self.sent[GUEST].extend_from_slice(&bytes[..written]);
                self.bench.guest_sends();
            }
            Step::GuestReads => self.guest_reads(),
            Step::GuestEnds if !self.ended[GUEST] => {
                self.ended[GUEST] = true;
                self.bench.guest(10_000).socket().close();
                self.bench.guest_sends();
            }
            Step::ToGuest => {
                self.bench.deliver();
                self.bench.guest_sends();
            }
            _ => {}
        }
    }

    fn host_reads(&mut self) {
        let mut room = [0; 30_000];
        while let Ok(count) = self.stream.try_read(&mut room) {
            if count == 0 {
                break;
            }
            self.got[HOST].extend_from_slice(&room[..count]);
        }
    }

    fn guest_reads(&mut self) {
        let mut room = [0; 4096];
        while let Ok(count) = self.bench.guest(10_000).socket().recv_slice(&mut room) {
            if count == 0 {
                break;
            }
            self.got[GUEST].extend_from_slice(&room[..count]);
        }
        self.bench.guest_sends();
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    /// Spec 13.2, for whatever happens between sleep and wake: each byte comes once and in order, and so does each end.
    #[test]
    fn sleeps_cost_no_byte_and_double_none(steps in proptest::collection::vec(step(), 1..80)) {
        run(async {
            let mut bench = Bench::new().await;
            let stream = bench.connect(10_000).await;
            bench.run().await;
            pause();
            let mut talk = Talk {
                bench, stream, sent: Default::default(), got: Default::default(), ended: [false; 2], next: 1,
            };
            for step in steps.into_iter().chain([Step::Thaw, Step::HostEnds, Step::GuestEnds]) {
                talk.step(step).await;
            }
            for _ in 0..1000 {
                if talk.bench.open() == 0 {
                    break;
                }
                talk.bench.run().await;
                // A window that opens again may have to be asked for.
                advance(Duration::from_millis(200)).await;
                talk.host_reads();
                talk.guest_reads();
            }
            talk.host_reads();
            talk.guest_reads();
            assert!(talk.got[GUEST] == talk.sent[HOST], "{} of {}", talk.got[GUEST].len(), talk.sent[HOST].len());
            assert!(talk.got[HOST] == talk.sent[GUEST], "{} of {}", talk.got[HOST].len(), talk.sent[GUEST].len());
            assert_eq!(talk.bench.open(), 0, "both ended");
            // The last acknowledgement may come when all is over.
            let drops = talk.bench.counters.metrics().drops;
            assert!(drops.keys().all(|reason| *reason == "no_flow"), "{drops:?}");
        });
    }
}
