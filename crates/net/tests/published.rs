//! TCP that clients of published ports open: from the host into the guest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::stream::{accept, check, connect, reset, send};
use common::{CONTAINER, CONTAINER6, Net, Setup, WORLD, WORLD6, run, until};

fn container(port: u16) -> SocketAddr {
    SocketAddr::new(CONTAINER.into(), port)
}

/// Accepts on the host and hands the client to the gateway, as a published port does.
async fn publish(net: &Net, listener: &TcpListener, target: SocketAddr) {
    let (stream, from) = accept(listener);
    net.handle().tcp(stream, from, target).await;
}

async fn no_flows(net: &Net) {
    until("every flow is gone", Duration::from_secs(10), || net.flows() == 0).await;
}

/// 4.5: a client that is not on loopback is seen with its own address; one that is, with the gateway's.
#[test]
fn the_container_sees_who_connects() {
    run(Setup::default(), async |net| {
        let (v4, v6): (IpAddr, IpAddr) = (CONTAINER.into(), CONTAINER6.parse().unwrap());
        let world6: IpAddr = WORLD6.parse().unwrap();
        for (listen, target, seen) in [
            (IpAddr::from(WORLD), v4, Some(IpAddr::from(WORLD))),
            (world6, v6, Some(world6)),
            ("127.0.0.1".parse().unwrap(), v4, None),
            ("::1".parse().unwrap(), v6, None),
            // Another family: the container cannot answer to the client's own address.
            (world6, v4, None),
        ] {
            let target = SocketAddr::new(target, 80);
            let service = net.guest.inside(|| TcpListener::bind(target).unwrap());
            let listener = TcpListener::bind(SocketAddr::new(listen, 8080)).unwrap();
            let mut client = connect(listener.local_addr().unwrap()).unwrap();
            publish(net, &listener, target).await;
            let (mut served, from) = accept(&service);
            let gateway = if target.is_ipv4() { "198.19.68.1" } else { "fd64:686f:7700::1" };
            assert_eq!(
                from.ip(),
                seen.unwrap_or(gateway.parse().unwrap()),
                "client {listen}, target {target}"
            );
            if seen.is_some() {
                assert_eq!(from, client.local_addr().unwrap());
            }
            client.write_all(b"ping").unwrap();
            let mut word = [0; 4];
            served.read_exact(&mut word).unwrap();
            served.write_all(b"pong").unwrap();
            drop(served);
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!((&word, answer.as_str()), (b"ping", "pong"));
        }
        no_flows(net).await;
    });
}

/// 4.5: an address of one of Docker's networks would not find its way back.
#[test]
fn a_client_from_a_network_of_the_guest_is_shown_as_the_gateway() {
    run(Setup::default(), async |net| {
        net.handle().guest_networks(vec![("203.0.113.0".parse().unwrap(), 24)]);
        let service = net.guest.inside(|| TcpListener::bind(container(80)).unwrap());
        let listener = TcpListener::bind(SocketAddr::new(WORLD.into(), 8080)).unwrap();
        let _client = connect(listener.local_addr().unwrap()).unwrap();
        publish(net, &listener, container(80)).await;
        assert_eq!(accept(&service).1.ip(), "198.19.68.1".parse::<IpAddr>().unwrap());
    });
}

/// Issue 3: published ports carry large bodies both ways, with half-close.
#[test]
fn large_bodies_pass_both_ways() {
    run(Setup::default(), async |net| {
        const SIZE: usize = 64 << 20;
        let service = net.guest.inside(|| TcpListener::bind(container(80)).unwrap());
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let address = listener.local_addr().unwrap();
        let client = net.host.spawn(move || {
            let stream = connect(address).unwrap();
            send(&stream, SIZE).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            check(&stream)
        });
        publish(net, &listener, container(80)).await;
        let served = net.guest.spawn(move || {
            let (stream, _) = accept(&service);
            let read = check(&stream);
            send(&stream, SIZE).unwrap();
            read
        });
        assert_eq!((served.join().unwrap(), client.join().unwrap()), (SIZE, SIZE));
        no_flows(net).await;
    });
}

/// A container that refuses: the client gets a reset, not an empty answer.
#[test]
fn a_container_that_refuses_resets_the_client() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let mut client = connect(listener.local_addr().unwrap()).unwrap();
        publish(net, &listener, container(80)).await;
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        no_flows(net).await;
    });
}

/// A container that cannot be reached, as the guest's kernel says by ICMP: the client hears it at once instead of after the
/// time for a handshake.
#[test]
fn a_container_that_cannot_be_reached_resets_the_client_at_once() {
    run(Setup::default(), async |net| {
        net.guest.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        net.guest.sh("ip route add unreachable 172.31.7.7; ip route add prohibit 172.31.7.8");
        net.guest.sh("ip -6 route add unreachable fd77::7");
        for target in ["172.31.7.7:80", "172.31.7.8:80", "[fd77::7]:80"] {
            let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
            let mut client = connect(listener.local_addr().unwrap()).unwrap();
            let began = std::time::Instant::now();
            publish(net, &listener, target.parse().unwrap()).await;
            assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{target}");
            assert!(began.elapsed() < Duration::from_secs(3), "{target}: {:?}", began.elapsed());
            no_flows(net).await;
        }
    });
}

/// Resets pass both ways.
#[test]
fn resets_pass_both_ways() {
    run(Setup::default(), async |net| {
        let service = net.guest.inside(|| TcpListener::bind(container(80)).unwrap());
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        for client_resets in [true, false] {
            let client = connect(listener.local_addr().unwrap()).unwrap();
            publish(net, &listener, container(80)).await;
            let (served, _) = accept(&service);
            let (gone, mut left) = if client_resets { (client, served) } else { (served, client) };
            reset(gone);
            assert_eq!(left.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        no_flows(net).await;
    });
}

/// Issue 3: short connections one after the other, faster than the guest's kernel forgets their ports.
#[test]
fn ports_are_used_again_while_the_guest_still_remembers_them() {
    run(Setup::default(), async |net| {
        let service = net.guest.inside(|| TcpListener::bind(container(80)).unwrap());
        let server = net.guest.spawn(move || {
            for _ in 0..200 {
                // The container ends first, and so remembers the connection for a minute.
                let (mut stream, _) = accept(&service);
                stream.write_all(b"bye").unwrap();
            }
        });
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let address = listener.local_addr().unwrap();
        let client = net.host.spawn(move || {
            for _ in 0..200 {
                let mut stream = connect(address).unwrap();
                let mut word = String::new();
                stream.read_to_string(&mut word).unwrap();
                assert_eq!(word, "bye");
            }
        });
        for _ in 0..200 {
            let (stream, _) = accept(&listener);
            // Always the same port, in place of chance.
            let from: SocketAddr = "127.0.0.1:4000".parse().unwrap();
            net.handle().tcp(stream, from, container(80)).await;
        }
        client.join().unwrap();
        server.join().unwrap();
        no_flows(net).await;
    });
}

/// Issue 3: nothing waits for a container that does not answer for longer than a connection attempt.
#[test]
fn a_silent_container_ends_in_a_reset() {
    run(Setup::default(), async |net| {
        net.guest.sh("ip route add blackhole 172.17.0.9/32");
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let mut client: TcpStream = connect(listener.local_addr().unwrap()).unwrap();
        publish(net, &listener, "172.17.0.9:80".parse().unwrap()).await;
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        no_flows(net).await;
    });
}
