//! UDP through the gateway, with a real kernel on the guest's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{CONTAINER, CONTAINER6, Net, SILENT, Setup, WORLD, WORLD6, run, until};
use dhow_model::egress::{Action, Policy};
use dhow_net::gateway::Limits;

const SECONDS: Duration = Duration::from_secs(10);
const HOST: &str = "198.19.68.254";
const HOST6: &str = "fd64:686f:7700::fe";

fn address(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn bind(local: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(SECONDS)).unwrap();
    socket
}

/// A socket that speaks with one peer.
fn connect(peer: SocketAddr) -> UdpSocket {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse().unwrap() };
    let socket = bind(SocketAddr::new(any, 0));
    socket.connect(peer).unwrap();
    socket
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251) as u8).collect()
}

/// Answers so many datagrams with themselves.
fn echo(socket: UdpSocket, count: usize) -> impl FnOnce() + Send + 'static {
    move || {
        let mut buffer = vec![0; 65_536];
        for _ in 0..count {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], peer).unwrap();
        }
    }
}

/// Sends a datagram and takes its answer.
fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// Issue 3: "UDP echo at 1, 1,400 and 8,000 bytes", and the largest there are, in both families, on the host's loopback and on
/// an address of the host.
#[test]
fn datagrams_of_every_size_come_back() {
    run(Setup::default(), async |net| {
        let sizes = [0, 1, 1400, 8000, 65_507];
        for (bound, asked) in [
            (address("127.0.0.1", 7), address(HOST, 7)),
            (address("::1", 7), address(HOST6, 7)),
            (SocketAddr::new(WORLD.into(), 7), SocketAddr::new(WORLD.into(), 7)),
            (address(WORLD6, 7), address(WORLD6, 7)),
        ] {
            let server = net.host.spawn(echo(bind(bound), sizes.len()));
            net.guest.inside(|| {
                let socket = connect(asked);
                for size in sizes {
                    assert!(ask(&socket, &bytes(size)) == bytes(size), "{asked} {size}");
                }
            });
            server.join().unwrap();
        }
        assert!(net.metrics().drops.is_empty(), "{:?}", net.metrics().drops);
        assert_eq!(net.metrics().flows["udp_out"], 4);
    });
}

/// RFC 4787, REQ-1 and REQ-8: one mapping for all peers, and anyone may answer, as STUN wants.
#[test]
fn one_socket_of_the_guest_is_one_port_of_the_host_for_everybody() {
    run(Setup::default(), async |net| {
        let (one, other) =
            (bind(SocketAddr::new(WORLD.into(), 5000)), bind(SocketAddr::new(WORLD.into(), 5001)));
        let stranger = bind(SocketAddr::new(WORLD.into(), 5002));
        let guest = net.guest.inside(|| bind(address("0.0.0.0", 0)));
        let mut buffer = [0; 100];
        guest.send_to(b"a", one.local_addr().unwrap()).unwrap();
        guest.send_to(b"b", other.local_addr().unwrap()).unwrap();
        let (_, first) = one.recv_from(&mut buffer).unwrap();
        let (_, second) = other.recv_from(&mut buffer).unwrap();
        assert_eq!(first.port(), second.port());
        stranger.send_to(b"hello", first).unwrap();
        let (length, from) = guest.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"hello"[..], stranger.local_addr().unwrap()));
    });
}

/// What faces the outside is not reached from the host's loopback, nor the other way round.
#[test]
fn loopback_cannot_reach_into_a_flow_to_the_outside() {
    run(Setup::default(), async |net| {
        let outside = bind(SocketAddr::new(WORLD.into(), 5000));
        let guest = net.guest.inside(|| bind(address("0.0.0.0", 0)));
        guest.send_to(b"a", outside.local_addr().unwrap()).unwrap();
        let (_, flow) = outside.recv_from(&mut [0; 10]).unwrap();
        bind(address("127.0.0.1", 0)).send_to(b"x", address("127.0.0.1", flow.port())).unwrap();
        until("it was dropped", SECONDS, || net.drops("martian") == 1).await;
        guest.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(guest.recv_from(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// Who asks a closed port is told so, by the host's own ICMP or its error.
#[test]
fn a_closed_port_is_refused() {
    run(Setup::default(), async |net| {
        for closed in
            [address(HOST, 9), address(HOST6, 9), SocketAddr::new(WORLD.into(), 9), address(WORLD6, 9)]
        {
            net.guest.inside(|| {
                let socket = connect(closed);
                socket.send(b"anybody?").unwrap();
                let error = socket.recv(&mut [0; 10]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{closed}");
            });
        }
    });
}

/// Where the host has no way, the guest learns it at once; the flow goes on for other destinations.
#[test]
fn a_destination_without_a_route_is_told_and_others_go_on() {
    run(Setup::default(), async |net| {
        let outside = bind(SocketAddr::new(WORLD.into(), 5000));
        let guest = net.guest.inside(|| bind(address("0.0.0.0", 0)));
        guest.send_to(b"nowhere", address("192.0.2.1", 9)).unwrap();
        until("it was told", SECONDS, || net.drops("host_unreachable") == 1).await;
        guest.send_to(b"somewhere", outside.local_addr().unwrap()).unwrap();
        outside.recv_from(&mut [0; 100]).unwrap();
        let told = net.guest.sh("cat /proc/net/snmp | grep '^Icmp:' | tail -1 | cut -d' ' -f5");
        assert_eq!(told.trim(), "1", "destinations unreachable");
    });
}

/// Issue 3: "path MTU". A datagram that must not be cut and does not fit is told with the size that does; the next one of
/// the guest comes in fragments, and leaves the host.
#[test]
fn a_path_with_a_smaller_mtu_is_told_to_the_guest() {
    run(Setup::default(), async |net| {
        for (far, count) in [
            (SocketAddr::new(SILENT.into(), 9), "cat /sys/class/net/world0/statistics/tx_packets"),
            (address("2001:db8:113::99", 9), "cat /sys/class/net/world0/statistics/tx_packets"),
        ] {
            net.host
                .sh("ip neigh replace 2001:db8:113::99 lladdr 02:00:00:00:00:99 dev world0 nud permanent");
            let socket = net.guest.inside(|| connect(far));
            socket.send(&bytes(3000)).unwrap();
            until("the guest knows the path's MTU", SECONDS, || {
                net.guest.sh(&format!("ip route get {}", far.ip())).contains("mtu 1500")
            })
            .await;
            let before: u64 = net.host.sh(count).trim().parse().unwrap();
            // An error of the first may come first.
            socket.send(&bytes(3000)).or_else(|_| socket.send(&bytes(3000))).unwrap();
            until("the host sends three fragments", SECONDS, || {
                net.host.sh(count).trim().parse::<u64>().unwrap() >= before + 3
            })
            .await;
        }
        assert_eq!(net.drops("too_big"), 2);
    });
}

/// Issue 3: a guest that opens flows without end exhausts nothing, and a conversation that goes on survives it.
#[test]
fn five_thousand_flows_stay_within_their_bounds() {
    let limits = Limits { udp: 512, ..Limits::default() };
    run(Setup { limits, ..Setup::default() }, async |net| {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let server = net.host.spawn(echo(bind(address("127.0.0.1", 7)), 13));
        let live = net.guest.inside(|| connect(address(HOST, 7)));
        for _ in 0..3 {
            assert_eq!(ask(&live, b"x"), b"x");
        }
        let before = descriptors();
        for round in 0..10 {
            net.guest.inside(|| {
                for number in 0..500 {
                    let port = 10_000 + round * 500 + number;
                    let socket = bind(address("0.0.0.0", port));
                    socket.send_to(b"flood", SocketAddr::new(SILENT.into(), 9)).unwrap();
                }
            });
            assert_eq!(ask(&live, b"still here"), b"still here");
        }
        server.join().unwrap();
        assert!(net.metrics().flows_total["udp_out"] >= 4000, "{:?}", net.metrics());
        assert!(net.metrics().flows["udp_out"] <= 256);
        assert!(descriptors() <= before + 256, "{} descriptors after {before}", descriptors());
    });
}

/// 12.4: what the policy denies does not leave, and the guest is told.
#[test]
fn a_denied_destination_is_told() {
    let policy = Policy { default: Action::Deny, ..Policy::default() };
    run(Setup { policy, ..Setup::default() }, async |net| {
        let outside = bind(SocketAddr::new(WORLD.into(), 443));
        net.guest.inside(|| {
            let socket = connect(SocketAddr::new(WORLD.into(), 443));
            socket.send(b"quic").unwrap();
            let error = socket.recv(&mut [0; 10]).unwrap_err();
            // "Communication administratively prohibited".
            assert!(
                matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::PermissionDenied),
                "{error:?}"
            );
        });
        outside.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(outside.recv_from(&mut [0; 10]).is_err());
        assert_eq!(net.drops("denied"), 1);
    });
}

/// The guest's link is gone: so are its flows, and the next link begins afresh.
#[test]
fn flows_end_with_the_link() {
    run(Setup::default(), async |net| {
        let _server = bind(address("127.0.0.1", 7));
        net.guest.inside(|| connect(address(HOST, 7)).send(b"x").unwrap());
        until("a flow", SECONDS, || net.flows() == 1).await;
        net.unplug();
        until("no flow", SECONDS, || net.flows() == 0).await;
    });
}

/// A service in the guest that answers with the address that it sees its client under.
fn mirror(net: &Net, local: SocketAddr, count: usize) -> JoinHandle<()> {
    let (ready, bound) = mpsc::channel();
    let thread = net.guest.spawn(move || {
        let socket = bind(local);
        ready.send(()).unwrap();
        let mut buffer = vec![0; 65_536];
        for _ in 0..count {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            let mut answer = format!("{peer} ").into_bytes();
            answer.extend_from_slice(&buffer[..length]);
            socket.send_to(&answer, peer).unwrap();
        }
    });
    bound.recv().unwrap();
    thread
}

/// 4.5: each client is seen under its own address, and hears from the address of the host that it asked.
#[test]
fn clients_of_a_published_port_keep_their_addresses() {
    run(Setup::default(), async |net| {
        net.host.sh("ip addr add 203.0.113.2/24 dev world0");
        let target = SocketAddr::new(CONTAINER.into(), 5353);
        let service = mirror(net, target, 6);
        let published = UdpSocket::bind("0.0.0.0:8053").unwrap();
        let forward = net.handle().udp(published, target);
        for (client, asked, seen) in [
            ("203.0.113.2", "203.0.113.1", "203.0.113.2"),
            ("203.0.113.1", "203.0.113.2", "203.0.113.1"),
            ("127.0.0.1", "127.0.0.1", "198.19.68.1"),
        ] {
            // Connected: an answer from another address would not be taken.
            let client = bind(address(client, 0));
            client.connect(address(asked, 8053)).unwrap();
            for size in [1, 8000] {
                let answer = ask(&client, &bytes(size));
                let expected = format!("{seen}:{} ", client.local_addr().unwrap().port());
                let (begin, rest) = answer.split_at(expected.len());
                assert_eq!(String::from_utf8_lossy(begin), expected);
                assert!(rest == bytes(size), "{size} bytes came back as they were");
            }
        }
        service.join().unwrap();
        assert_eq!(net.metrics().flows["udp_in"], 3);
        forward.close().await;
        assert_eq!(net.metrics().flows["udp_in"], 0);
        UdpSocket::bind("0.0.0.0:8053").expect("the port is free again");
    });
}

/// 4.5: families may differ between the client and the container; then the client is the gateway.
#[test]
fn a_published_port_joins_families() {
    run(Setup::default(), async |net| {
        for (listen, asked, target, seen) in [
            ("[::]:8053", address(WORLD6, 8053), address(CONTAINER6, 5353), WORLD6),
            ("[::]:8054", address(WORLD6, 8054), SocketAddr::new(CONTAINER.into(), 5353), "198.19.68.1"),
            (
                "[::]:8055",
                SocketAddr::new(WORLD.into(), 8055),
                SocketAddr::new(CONTAINER.into(), 5353),
                "203.0.113.1",
            ),
            (
                "0.0.0.0:8056",
                SocketAddr::new(WORLD.into(), 8056),
                address(CONTAINER6, 5353),
                "fd64:686f:7700::1",
            ),
        ] {
            let service = mirror(net, target, 1);
            let _forward = net.handle().udp(UdpSocket::bind(listen).unwrap(), target);
            let client = connect(asked);
            let answer = String::from_utf8(ask(&client, b"hi")).unwrap();
            let expected = SocketAddr::new(seen.parse().unwrap(), client.local_addr().unwrap().port());
            assert_eq!(answer, format!("{expected} hi"), "{listen}");
            service.join().unwrap();
        }
    });
}

/// Two clients on loopback with the same port are two flows under the gateway's address.
#[test]
fn clients_with_equal_ports_are_kept_apart() {
    run(Setup::default(), async |net| {
        let target = SocketAddr::new(CONTAINER.into(), 5353);
        let service = mirror(net, target, 2);
        let _forward = net.handle().udp(UdpSocket::bind("0.0.0.0:8053").unwrap(), target);
        let mut seen = Vec::new();
        let clients: Vec<_> = ["127.0.0.1", "127.0.0.2"]
            .iter()
            .map(|client| {
                let socket = bind(address(client, 6000));
                socket.connect(address("127.0.0.1", 8053)).unwrap();
                socket
            })
            .collect();
        for (number, client) in clients.iter().enumerate() {
            let answer = String::from_utf8(ask(client, number.to_string().as_bytes())).unwrap();
            let (peer, word) = answer.split_once(' ').unwrap();
            assert_eq!(word, number.to_string());
            seen.push(peer.to_owned());
        }
        assert_ne!(seen[0], seen[1]);
        service.join().unwrap();
    });
}

/// A foreign guest is told everything by DHCP.
#[test]
fn a_foreign_guest_gets_its_address_by_dhcp() {
    run(Setup::default(), async |net| {
        if !net.guest.try_sh("busybox udhcpc --help").status.success() {
            eprintln!("skipped: this test needs busybox with udhcpc");
            return;
        }
        net.guest.sh("ip addr flush dev eth0; ip route flush table main");
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        let text = b"#!/bin/sh\n[ \"$1\" = bound ] && env > \"$0.env\"\nexit 0\n";
        std::fs::File::create(&script).unwrap().write_all(text).unwrap();
        let script = script.display().to_string();
        net.guest
            .sh(&format!("chmod +x {script}; busybox udhcpc -i eth0 -n -q -f -t 3 -T 2 -O mtu -s {script}"));
        let told = std::fs::read_to_string(format!("{script}.env")).unwrap();
        for line in [
            "ip=198.19.68.2",
            "subnet=255.255.255.0",
            "router=198.19.68.1",
            "dns=198.19.68.1",
            "domain=dhow.internal",
            "mtu=65520",
            "serverid=198.19.68.1",
            "lease=86400",
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is not in\n{told}");
        }
    });
}

/// Issue 3: "sends garbage": the gateway lives on and still answers.
#[test]
fn garbage_on_the_link_does_no_harm() {
    run(Setup::default(), async |net| {
        net.unplug();
        let mut link = net.connect();
        link.set_read_timeout(Some(SECONDS)).unwrap();
        let mut answers = link.try_clone().unwrap();
        let (found, answered) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut prefix = [0; 4];
            while answers.read_exact(&mut prefix).is_ok() {
                let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
                answers.read_exact(&mut frame).unwrap();
                if frame[12..14] == [8, 6] && frame[38..42] == [198, 19, 68, 2] {
                    found.send(()).unwrap();
                    break;
                }
            }
        });
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..30_000 {
            let length = 14 + (random() % 300) as usize;
            let mut frame: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            // Half of it looks like something.
            frame[..6].copy_from_slice(&dhow_model::network::GATEWAY_MAC);
            frame[6] &= 0xfe;
            let kind = [[8, 0], [8, 6], [0x86, 0xdd], [random() as u8, 0]][(random() % 4) as usize];
            frame[12..14].copy_from_slice(&kind);
            if random() % 2 == 0 && length > 60 {
                let version = if kind == [8, 0] { 0x45 } else { 0x60 };
                frame[14] = version;
                if kind == [8, 0] {
                    frame[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
                    frame[23] = [1, 6, 17, random() as u8][(random() % 4) as usize];
                    frame[30..34].copy_from_slice(&[198, 19, 68, [1, 254, 253, 9][(random() % 4) as usize]]);
                } else {
                    frame[18..20].copy_from_slice(&((length - 54) as u16).to_be_bytes());
                    frame[20] = [58, 6, 17, 44, 0, 43, random() as u8][(random() % 7) as usize];
                }
            }
            link.write_all(&(length as u32).to_be_bytes()).unwrap();
            link.write_all(&frame).unwrap();
        }
        until("all frames were taken", SECONDS, || net.metrics().frames_from_guest >= 30_000).await;
        let metrics = net.metrics();
        assert!(metrics.drops["malformed"] > 1000, "{metrics:?}");
        // Who has 198.19.68.1? Tell 198.19.68.2.
        let mut question = vec![0xff; 6];
        question.extend_from_slice(&dhow_model::network::GUEST_MAC);
        question.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        question.extend_from_slice(&dhow_model::network::GUEST_MAC);
        question.extend_from_slice(&[198, 19, 68, 2, 0, 0, 0, 0, 0, 0, 198, 19, 68, 1]);
        link.write_all(&(question.len() as u32).to_be_bytes()).unwrap();
        link.write_all(&question).unwrap();
        answered.recv_timeout(SECONDS).unwrap();
        reader.join().unwrap();
    });
}
