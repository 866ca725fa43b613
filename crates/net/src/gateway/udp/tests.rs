//! Flows with a clock that the test turns, and a guest that is a queue of frames.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dhow_model::egress::Policy;
use dhow_model::network::{GATEWAY, GUEST, HOST};
use tokio::net::UdpSocket;
use tokio::task::LocalSet;

use super::*;
use crate::dns::{Dns, Names, Open, Upstreams};
use crate::gateway::outbound::Outbound;
use crate::gateway::{Context, Counters, Limits};
use crate::policy::Egress;

struct Guest {
    udp: Udp,
    outbound: Outbound,
    counters: Arc<Counters>,
}

impl Guest {
    fn new(flows: usize) -> Guest {
        let (outbound, counters) = Outbound::for_test();
        let policy = Egress::new(Policy::allow_all()).unwrap();
        let context = Rc::new(Context {
            outbound: outbound.clone(),
            counters: counters.clone(),
            policy,
            dns: Dns::new(Names::new(), Upstreams::fixed(Vec::new()), Arc::new(Open)),
            host_loopback: true,
            limits: Limits { udp: 2 * flows, ..Limits::default() },
            link_sums: false,
            guest_networks: RefCell::default(),
        });
        let reports = Reports::new(outbound.clone(), counters.clone());
        Guest { udp: Udp::new(context, reports), outbound, counters }
    }

    fn send(&self, from: u16, to: SocketAddr, payload: &[u8]) {
        let from = SocketAddr::new(GUEST.into(), from);
        let pair = Pair::new(from.ip(), to.ip()).unwrap();
        let mut message = vec![0; udp::HEADER];
        message.extend_from_slice(payload);
        assert!(udp::write(from, to, &mut message, true));
        let datagram =
            Datagram { pair, protocol: udp::PROTOCOL, hops: 64, identification: 0, message: &message };
        let packet = datagram.to_vec().unwrap();
        self.udp.packet(&IpPacket::parse(&packet).unwrap());
    }

    fn flows(&self) -> u64 {
        self.counters.metrics().flows[Kind::UdpOut.name()]
    }

    /// What the guest got: who sent it, to which port, and what.
    fn received(&self) -> Vec<(SocketAddr, u16, Vec<u8>)> {
        let datagram = |frame: Vec<u8>| {
            let packet = IpPacket::parse(&frame[14..]).unwrap();
            let datagram = udp::Udp::parse(packet.payload).filter(|_| packet.protocol == udp::PROTOCOL)?;
            let from = SocketAddr::new(packet.source, datagram.source);
            Some((from, datagram.destination, datagram.payload.to_vec()))
        };
        self.outbound.frames().into_iter().filter_map(datagram).collect()
    }
}

fn alias(port: u16) -> SocketAddr {
    SocketAddr::new(HOST.into(), port)
}

async fn service() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, alias(port))
}

/// Lets every task go as far as it can without time going on.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    settle().await;
}

const SECOND: Duration = Duration::from_secs(1);

/// Issue 3: "UDP with per-flow time-outs": silence after one exchange, and after a conversation.
#[tokio::test(start_paused = true)]
async fn a_silent_flow_ends_after_its_time() {
    LocalSet::new()
        .run_until(async {
            let guest = Guest::new(10);
            let (socket, service) = service().await;
            guest.send(4000, service, b"question");
            let mut buffer = [0; 100];
            let (_, flow) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(b"answer", flow).await.unwrap();
            while guest.received().is_empty() {
                settle().await;
            }
            pass(29 * SECOND).await;
            assert_eq!(guest.flows(), 1);
            pass(2 * SECOND).await;
            assert_eq!(guest.flows(), 0);
            (0..3).for_each(|_| guest.send(4001, service, b"talk"));
            pass(179 * SECOND).await;
            assert_eq!(guest.flows(), 1);
            pass(2 * SECOND).await;
            assert_eq!(guest.flows(), 0);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_question_to_a_dns_server_is_forgotten_in_ten_seconds() {
    LocalSet::new()
        .run_until(async {
            let guest = Guest::new(10);
            guest.send(4000, alias(53), b"?");
            settle().await;
            pass(9 * SECOND).await;
            assert_eq!(guest.flows(), 1);
            pass(2 * SECOND).await;
            assert_eq!(guest.flows(), 0);
        })
        .await;
}

/// Issue 3: "bounded memory and descriptors": conversations are kept, and when all are, new flows are refused.
#[tokio::test(start_paused = true)]
async fn a_full_table_gives_up_exchanges_and_keeps_conversations() {
    LocalSet::new()
        .run_until(async {
            let guest = Guest::new(10);
            let (_socket, service) = service().await;
            for port in 0..5 {
                (0..3).for_each(|_| guest.send(5000 + port, service, b"talk"));
            }
            for port in 0..100 {
                guest.send(6000 + port, service, b"scan");
                // Those that were given up have their turn to end.
                if port % 5 == 4 {
                    settle().await;
                }
            }
            assert_eq!(guest.flows(), 10);
            let kept = |key| guest.udp.0.flows.borrow().contains_key(&key);
            assert!((5000..5005).all(|port| kept((SocketAddr::new(GUEST.into(), port), Way::Loopback))));
            for port in 6095..6100 {
                (0..3).for_each(|_| guest.send(port, service, b"talk"));
            }
            guest.send(7000, service, b"one too many");
            assert_eq!(guest.counters.drops(Reason::FlowLimit), 1);
            pass(31 * SECOND).await;
            guest.send(7000, service, b"now");
            settle().await;
            assert_eq!((guest.flows(), guest.counters.drops(Reason::FlowLimit)), (10, 1));
        })
        .await;
}

/// Issue 3: what counts is descriptors. A burst before anything could end stays within twice the limit.
#[tokio::test]
async fn a_burst_is_bounded_before_anything_can_end() {
    LocalSet::new()
        .run_until(async {
            let guest = Guest::new(10);
            let (_socket, service) = service().await;
            for port in 0..100 {
                guest.send(6000 + port, service, b"scan");
            }
            assert_eq!(guest.counters.drops(Reason::FlowLimit), 80);
            settle().await;
            assert_eq!(guest.flows(), 10);
        })
        .await;
}

/// 5.1: the gateway's own resolver answers, from the address that was asked.
#[tokio::test]
async fn a_question_to_the_gateway_is_answered_by_its_resolver() {
    LocalSet::new()
        .run_until(async {
            let guest = Guest::new(10);
            // host.docker.internal, A.
            let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in ["host", "docker", "internal"] {
                query.push(label.len() as u8);
                query.extend_from_slice(label.as_bytes());
            }
            query.extend_from_slice(&[0, 0, 1, 0, 1]);
            let gateway = SocketAddr::new(GATEWAY.into(), 53);
            guest.send(4000, gateway, &query);
            settle().await;
            let received = guest.received();
            let (from, to, answer) = &received[0];
            assert_eq!((*from, *to, &answer[..2]), (gateway, 4000, &[0x12, 0x34][..]));
            assert!(answer.ends_with(&HOST.octets()));
            assert_eq!(guest.flows(), 0);
        })
        .await;
}

/// 5.4: a flood of slow questions does not keep a name of ours from its answer.
#[tokio::test]
async fn questions_that_wait_too_long_make_room() {
    LocalSet::new()
        .run_until(async {
            let guest = Guest::new(10);
            for _ in 0..QUESTIONS + 5 {
                guest.send(4000, SocketAddr::new(GATEWAY.into(), 53), b"no dns");
            }
            assert_eq!(guest.counters.drops(Reason::FlowLimit), 5);
            settle().await;
            assert_eq!(guest.flows(), 0);
        })
        .await;
}

/// 4.5, and bounded: clients of a published port that say nothing more make room.
#[tokio::test(start_paused = true)]
async fn silent_clients_of_a_published_port_are_forgotten() {
    LocalSet::new()
        .run_until(async {
            let guest = Guest::new(10);
            let bound = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = bound.local_addr().unwrap();
            let target = SocketAddr::new(IpAddr::from([172, 17, 0, 2]), 53);
            let serving = tokio::task::spawn_local(guest.udp.clone().publish(bound, target));
            settle().await;
            for number in 1..=30 {
                let client = UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 0, number), 0)).await.unwrap();
                client.send_to(b"hello", port).await.unwrap();
            }
            let mut seen = Vec::new();
            while seen.len() < 30 {
                seen.extend(guest.received());
                settle().await;
            }
            assert!(seen.iter().all(|(from, to, _)| from.ip() == IpAddr::V4(GATEWAY) && *to == 53));
            assert_eq!(guest.counters.metrics().flows[Kind::UdpIn.name()], 10);
            for _ in 0..8 {
                pass(5 * SECOND).await;
            }
            assert_eq!(guest.counters.metrics().flows[Kind::UdpIn.name()], 0);
            serving.abort();
        })
        .await;
}
