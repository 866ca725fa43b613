//! Time: what happens to connections in an hour, in a moment. The guest is a second stack of the same kind.

mod sleep;

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::{Instant, advance, pause};

use super::stack::Stack;
use super::*;
use crate::dns::{Dns, Names, Open, Upstreams};
use crate::gateway::counters::Counters;
use crate::gateway::limits::Limits;
use crate::gateway::outbound::{ETHERNET, Outbound};
use crate::policy::Egress;

/// A gateway's TCP with a guest of stacks at the other end of its queue.
struct Bench {
    tcp: Rc<Tcp>,
    counters: Arc<Counters>,
    /// What the guest sends.
    outbound: Outbound,
    guest: HashMap<SocketAddr, Stack>,
    /// The guest's last packet.
    last: Vec<u8>,
    listener: TcpListener,
}

impl Bench {
    async fn new() -> Bench {
        let (to_guest, counters) = Outbound::for_test();
        let (outbound, _) = Outbound::for_test();
        let context = Rc::new(Context {
            outbound: to_guest,
            counters: counters.clone(),
            policy: Egress::new(dhow_model::egress::Policy::default()).unwrap(),
            dns: Dns::new(Names::new(), Upstreams::fixed(Vec::new()), Arc::new(Open)),
            host_loopback: true,
            limits: Limits::default(),
            link_sums: false,
            guest_networks: RefCell::default(),
        });
        let tcp = Tcp::new(context, Arc::new(Semaphore::new(4096)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Bench { tcp, counters, outbound, guest: HashMap::new(), last: Vec::new(), listener }
    }

    /// Lets the guest ask for a connection from one of its ports to one of the host's; its SYN has not left yet.
    fn ask(&mut self, port: u16, there: u16) -> SocketAddr {
        let here = SocketAddr::new(network::GUEST.into(), port);
        let mut stack = Stack::new(4096, u64::from(port), false, Instant::now());
        assert!(stack.connect(here, SocketAddr::new(network::HOST.into(), there)));
        self.guest.insert(here, stack);
        here
    }

    /// Opens a connection of the guest, from its SYN to its end on the host.
    async fn connect(&mut self, port: u16) -> TcpStream {
        let here = self.ask(port, self.listener.local_addr().unwrap().port());
        self.exchange();
        let (stream, _) = self.listener.accept().await.unwrap();
        for _ in 0..1000 {
            self.exchange();
            if pump::established(self.guest[&here].state()) {
                break;
            }
            tokio::task::yield_now().await;
        }
        stream
    }

    /// Carries packets both ways once.
    fn exchange(&mut self) {
        self.deliver();
        self.guest_sends();
        self.collect();
    }

    /// Carries what the gateway has queued.
    fn deliver(&mut self) {
        let now = self.tcp.context.clock().now();
        for frame in self.tcp.context.outbound.frames() {
            let packet = IpPacket::parse(&frame[ETHERNET..]).unwrap();
            let port = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
            let here = SocketAddr::new(packet.destination, port);
            if let Some(stack) = self.guest.get_mut(&here) {
                stack.receive(packet.bytes, &self.outbound, now);
            }
        }
    }

    /// Lets the guest send what it has.
    fn guest_sends(&mut self) {
        let now = self.tcp.context.clock().now();
        for stack in self.guest.values_mut() {
            stack.emit(&self.outbound, now, usize::MAX);
        }
    }

    /// Carries what the guest has sent.
    fn collect(&mut self) {
        for frame in self.outbound.frames() {
            self.tcp.packet(&IpPacket::parse(&frame[ETHERNET..]).unwrap());
            self.last = frame[ETHERNET..].to_vec();
        }
    }

    /// The same for one of the guest's ports; what is for others is lost.
    fn exchange_with(&mut self, port: u16) {
        let others: Vec<_> = self.guest.keys().copied().filter(|here| here.port() != port).collect();
        let others: Vec<_> = others.iter().filter_map(|here| self.guest.remove_entry(here)).collect();
        self.exchange();
        self.guest.extend(others);
    }

    /// Lets time pass in steps, with the guest awake or not.
    async fn pass(&mut self, time: Duration, guest_lives: bool) {
        const STEP: Duration = Duration::from_secs(5);
        for _ in 0..time.as_secs() / STEP.as_secs() {
            advance(STEP).await;
            for _ in 0..3 {
                tokio::task::yield_now().await;
                if guest_lives {
                    self.exchange();
                } else {
                    self.tcp.context.outbound.frames();
                }
            }
        }
    }

    fn open(&self) -> u64 {
        self.counters.flows(Kind::TcpOut)
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Issue 3: "200 idle connections kept an hour in simulated time", and each still carries bytes both ways.
#[test]
fn idle_connections_outlive_an_hour() {
    run(async {
        let mut bench = Bench::new().await;
        let mut streams = Vec::new();
        for port in 10_000..10_200 {
            streams.push((port, bench.connect(port).await));
        }
        assert_eq!(bench.open(), 200);
        pause();
        bench.pass(Duration::from_secs(3600), true).await;
        assert_eq!(bench.open(), 200);
        for (port, stream) in &mut streams {
            let here = SocketAddr::new(network::GUEST.into(), *port);
            bench.guest.get_mut(&here).unwrap().socket().send_slice(b"ping").unwrap();
            bench.exchange();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
            for _ in 0..1000 {
                tokio::task::yield_now().await;
                bench.exchange();
                if bench.guest.get_mut(&here).unwrap().socket().recv_queue() == 4 {
                    break;
                }
            }
            let mut answer = [0; 4];
            let count = bench.guest.get_mut(&here).unwrap().socket().recv_slice(&mut answer).unwrap();
            assert_eq!((count, &answer), (4, b"ping"));
        }
    });
}

/// Issue 3: a guest that floods cannot exhaust the gateway, and other flows live: those who invent their addresses take one
/// another's places and nobody else's.
#[test]
fn senders_that_are_invented_leave_room_for_those_that_are_known() {
    run(async {
        let mut bench = Bench::new().await;
        let there = SocketAddr::new(network::HOST.into(), bench.listener.local_addr().unwrap().port());
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let mut stack = Stack::new(4096, u64::from(number), false, Instant::now());
            assert!(stack.connect(SocketAddr::new([203, 0, 112 + high, low].into(), 4000), there));
            stack.emit(&bench.outbound, Instant::now(), 1);
            for frame in bench.outbound.frames() {
                bench.tcp.packet(&IpPacket::parse(&frame[ETHERNET..]).unwrap());
            }
        }
        let places = u64::try_from(Limits::default().half_open).unwrap();
        assert!(bench.counters.metrics().drops["half_open_limit"] >= 1000 - places);
        for port in 10_000..10_050 {
            bench.connect(port).await;
            let here = SocketAddr::new(network::GUEST.into(), port);
            assert!(pump::established(bench.guest[&here].state()), "{port}");
        }
    });
}

/// Issue 3: a guest that is gone leaves no connection behind.
#[test]
fn a_guest_that_falls_silent_is_noticed() {
    run(async {
        let mut bench = Bench::new().await;
        let mut stream = bench.connect(10_000).await;
        pause();
        bench.pass(Duration::from_secs(240), false).await;
        assert_eq!(bench.open(), 1, "a pause of some minutes is not death");
        bench.pass(Duration::from_secs(400), false).await;
        assert_eq!(bench.open(), 0);
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

/// Issue 3: a guest that never reads cannot hold what the host has ended.
#[test]
fn the_last_bytes_wait_for_a_minute() {
    run(async {
        let mut bench = Bench::new().await;
        let mut stream = bench.connect(10_000).await;
        // More than the guest's window, and then the end from both sides.
        stream.write_all(&[0; 20_000]).await.unwrap();
        let here = SocketAddr::new(network::GUEST.into(), 10_000);
        bench.guest.get_mut(&here).unwrap().socket().close();
        stream.shutdown().await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
            bench.exchange();
        }
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the guest's end came through");
        assert_eq!(bench.open(), 1);
        pause();
        bench.pass(Duration::from_secs(120), true).await;
        assert_eq!(bench.open(), 0);
    });
}

/// One segment that a hostile guest might send on a connection, by how it differs from its last honest one.
#[derive(Clone, Debug)]
struct Hostile {
    flags: u8,
    sequence: i32,
    acknowledgement: i32,
    window: u16,
    options: Vec<u8>,
    data: usize,
}

impl Hostile {
    fn any() -> impl proptest::strategy::Strategy<Value = Hostile> {
        use proptest::prelude::*;
        let near = prop_oneof![Just(0), -3..3i32, -70_000..70_000i32, any::<i32>()];
        let options = proptest::collection::vec(prop_oneof![0..9u8, any::<u8>()], 0..=40);
        (any::<u8>(), near.clone(), near, any::<u16>(), options, prop_oneof![0..4usize, 0..6000usize])
            .prop_map(|(flags, sequence, acknowledgement, window, options, data)| Hostile {
                flags,
                sequence,
                acknowledgement,
                window,
                options,
                data,
            })
    }

    fn packet(&self, honest: &[u8]) -> Vec<u8> {
        let mut packet = honest[..40].to_vec();
        let tcp = &mut packet[20..];
        let add = |field: &mut [u8], offset: i32| {
            let value = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
            field[..4].copy_from_slice(&value.wrapping_add_signed(offset).to_be_bytes());
        };
        add(&mut tcp[4..8], self.sequence);
        add(&mut tcp[8..12], self.acknowledgement);
        let words = self.options.len() / 4;
        tcp[12] = ((5 + words) as u8) << 4;
        tcp[13] = self.flags;
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        packet.extend_from_slice(&self.options[..4 * words]);
        packet.resize(packet.len() + self.data, 0x5a);
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    /// Issue 3: "fuzz targets for [...] TCP options": no sequence of segments breaks anything but its own connection.
    #[test]
    fn no_segments_of_one_connection_harm_another(
        segments in proptest::collection::vec(Hostile::any(), 1..60)
    ) {
        run(async {
            let mut bench = Bench::new().await;
            let mut victim = bench.connect(10_001).await;
            let mut stream = bench.connect(10_000).await;
            stream.write_all(&[1; 10_000]).await.unwrap();
            let honest = std::mem::take(&mut bench.last);
            for segment in &segments {
                bench.tcp.packet(&IpPacket::parse(&segment.packet(&honest)).unwrap());
                tokio::task::yield_now().await;
                bench.exchange_with(10_001);
            }
            let here = SocketAddr::new(network::GUEST.into(), 10_001);
            bench.guest.get_mut(&here).unwrap().socket().send_slice(b"ping").unwrap();
            bench.exchange_with(10_001);
            let mut word = [0; 4];
            victim.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"ping");
        });
    }
}
