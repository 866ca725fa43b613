//! Containers' own addresses, reached from the host through the real program, the real gateway and a real kernel on the
//! guest's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::stream::{accept, check, connect, send};
use common::{CONTAINER, CONTAINER6, Net, Setup, run, until};
use dhow_model::network::{HOST_INTERFACE, HOST_INTERFACE6};
use dhow_net::route::{Network, Place, Route};

const SECONDS: Duration = Duration::from_secs(10);
const LARGE: usize = if cfg!(debug_assertions) { 64 << 20 } else { 1 << 30 };

fn container(port: u16) -> SocketAddr {
    SocketAddr::new(CONTAINER.into(), port)
}

fn container6(port: u16) -> SocketAddr {
    SocketAddr::new(CONTAINER6.parse().unwrap(), port)
}

fn networks() -> [Network; 2] {
    ["172.17.0.0/16".parse().unwrap(), "fd17::/64".parse().unwrap()]
}

/// Everything of the host's network that the program could touch.
fn trace(net: &Net) -> String {
    net.host.sh("ip -br link; ip -br addr; ip route show table all; ip -6 route show table all")
}

/// The program as cargo built it: `cargo nextest run -p dhow-net` alone does not.
fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let built = exe.ancestors().nth(2).unwrap().join(dhow_route_helper::PROGRAM);
    assert!(built.is_file(), "cargo build -p dhow-route-helper first: {}", built.display());
    built
}

/// A way that is open: the program is installed below a directory that goes with the test.
async fn open(net: &Net) -> (Route, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let place = Place::below(root.path());
    place.install(&program(), 0, "test").unwrap();
    let route = Route::start(place, Arc::new(net.handle())).unwrap();
    route.networks(&networks());
    until("the routes are set", SECONDS, || route.status().routes.len() == 2).await;
    (route, root)
}

/// Issue 3, point 5: containers' own addresses are reachable from the host.
#[test]
fn the_host_reaches_containers_by_tcp_udp_and_ping_in_both_families() {
    run(Setup::default(), async |net| {
        let before = trace(net);
        let (route, _root) = open(net).await;
        for (to, from) in
            [(container(80), IpAddr::from(HOST_INTERFACE)), (container6(80), IpAddr::from(HOST_INTERFACE6))]
        {
            let (up, down) = net.guest.inside(|| {
                (TcpListener::bind(to).unwrap(), TcpListener::bind(SocketAddr::new(to.ip(), 81)).unwrap())
            });
            let server = net.guest.spawn(move || {
                let (stream, peer) = accept(&up);
                assert_eq!(peer.ip(), from);
                let received = check(stream);
                send(accept(&down).0, LARGE).unwrap();
                received
            });
            let client = net.host.spawn(move || {
                send(connect(to).unwrap(), LARGE).unwrap();
                check(connect(SocketAddr::new(to.ip(), 81)).unwrap())
            });
            assert_eq!((server.join().unwrap(), client.join().unwrap()), (LARGE, LARGE), "{to}");

            let echo = net.guest.inside(|| UdpSocket::bind(SocketAddr::new(to.ip(), 53)).unwrap());
            let server = net.guest.spawn(move || {
                let mut bytes = vec![0; 9000];
                let (length, peer) = echo.recv_from(&mut bytes).unwrap();
                echo.send_to(&bytes[..length], peer).unwrap();
            });
            let client = UdpSocket::bind(SocketAddr::new(from, 0)).unwrap();
            client.set_read_timeout(Some(SECONDS)).unwrap();
            client.send_to(&[7; 8000], SocketAddr::new(to.ip(), 53)).unwrap();
            let mut bytes = vec![0; 9000];
            assert_eq!(client.recv_from(&mut bytes).unwrap().0, 8000, "{to}");
            server.join().unwrap();
            net.host.sh(&format!("busybox ping -c 1 -W 3 {}", to.ip()));
            // A port that nobody has says so at once.
            let nobody = connect(SocketAddr::new(to.ip(), 82)).unwrap_err();
            assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
        let metrics = route.status().metrics;
        assert!(metrics.to_guest.1 > LARGE as u64 && metrics.to_host.1 > LARGE as u64, "{metrics:?}");
        // Spec 16.3: without trace.
        route.stop().await;
        assert_eq!(trace(net), before);
    });
}

/// Issue 3, point 5: a way for the host to containers is none for containers to the host.
#[test]
fn no_container_reaches_the_host_by_it() {
    run(Setup::default(), async |net| {
        let (route, _root) = open(net).await;
        let listener = TcpListener::bind("[::]:7000").unwrap();
        listener.set_nonblocking(true).unwrap();
        let datagrams = UdpSocket::bind("[::]:7000").unwrap();
        datagrams.set_nonblocking(true).unwrap();
        net.guest.inside(|| {
            for to in [IpAddr::from(HOST_INTERFACE), IpAddr::from(HOST_INTERFACE6)] {
                let to = SocketAddr::new(to, 7000);
                assert!(TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_err(), "{to}");
                let from = if to.is_ipv4() { container(9) } else { container6(9) };
                UdpSocket::bind(from).unwrap().send_to(b"hello", to).unwrap();
            }
        });
        for address in [HOST_INTERFACE.to_string(), HOST_INTERFACE6.to_string()] {
            assert!(!net.guest.try_sh(&format!("busybox ping -c 1 -W 1 {address}")).status.success());
        }
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(datagrams.recv_from(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let drops = route.status().metrics.drops;
        assert!(drops["not_on_this_way"] + drops["unasked"] >= 2, "{drops:?}");
        route.stop().await;
    });
}

/// A container that is gone leaves a route to the guest for a while, and the guest a route to us: nothing goes round.
#[test]
fn a_packet_for_a_container_that_is_gone_comes_back_once() {
    run(Setup::default(), async |net| {
        let (route, _root) = open(net).await;
        net.guest.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        net.guest
            .sh("ip route replace default via 198.19.68.1; ip route replace default via fd64:686f:7700::1");
        for to in ["172.17.0.9", "fd17::9"] {
            let to = SocketAddr::new(to.parse().unwrap(), 80);
            assert!(TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_err(), "{to}");
        }
        let metrics = net.metrics();
        assert!(metrics.drops["martian"] >= 2, "{metrics:?}");
        assert!(
            ["tcp_out", "tcp_half_open"].iter().all(|kind| metrics.flows_total[*kind] == 0),
            "{metrics:?}"
        );
        route.stop().await;
    });
}

/// The guest's kernel asks again by unicast whether a neighbour is still there, and must not lose it.
#[test]
fn the_guest_keeps_the_hosts_interface_as_a_neighbour() {
    run(Setup::default(), async |net| {
        let (route, _root) = open(net).await;
        for address in ["198.19.68.253", "fd64:686f:7700::fd"] {
            net.guest.sh(&format!("ip neigh replace {address} dev eth0 lladdr 02:64:68:6f:77:01 nud probe"));
            let state = || net.guest.sh(&format!("ip neigh show {address} dev eth0"));
            until("it answered", SECONDS, || state().contains("REACHABLE")).await;
        }
        route.stop().await;
    });
}

/// A hypervisor that comes and goes, and a machine that ends, take no part of the host's network with them.
#[test]
fn a_connection_outlives_neither_the_guest_nor_the_way() {
    run(Setup::default(), async |net| {
        let before = trace(net);
        let (route, _root) = open(net).await;
        let listener = net.guest.inside(|| TcpListener::bind(container(80)).unwrap());
        let mut client = connect(container(80)).unwrap();
        let (mut server, _) = accept(&listener);
        server.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        client.read_exact(&mut bytes).unwrap();
        net.unplug();
        client.write_all(b"into the void").unwrap();
        route.stop().await;
        assert_eq!(trace(net), before);
        client.shutdown(Shutdown::Both).ok();
    });
}
