//! A guest that sleeps: its link is taken away and comes back while the host goes on. The guest is a real kernel, whose own time
//! passes meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::stream::{accept, check, connect, reset, send};
use common::{CONTAINER, Net, Setup, WORLD, blocking, run, until};

const SECONDS: Duration = Duration::from_secs(10);
/// Nothing comes in this time, or it would have come long before.
const NOTHING: Duration = Duration::from_millis(300);

fn host(port: u16) -> SocketAddr {
    SocketAddr::new("198.19.68.254".parse().unwrap(), port)
}

async fn sleep(net: &mut Net) {
    net.handle().freeze().await;
    net.unplug();
}

async fn wake(net: &mut Net) {
    let links = net.metrics().links;
    net.plug();
    until("the next hypervisor is served", SECONDS, || net.metrics().links > links).await;
    net.handle().thaw().await;
}

/// Whether the guest is wanted, or becomes so in a short time.
async fn wanted(net: &Net) -> bool {
    tokio::time::timeout(NOTHING, net.handle().wanted()).await.is_ok()
}

/// Spec 13.2: "the network works", and what was open before the sleep is open after it, both ways.
#[test]
fn connections_go_on_after_a_wake() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let mut client = net.guest.inside(|| connect(host(80)).unwrap());
        let (mut served, _) = accept(&listener);
        client.write_all(b"before").unwrap();
        let mut word = [0; 6];
        served.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"before");
        for round in 0..3_u8 {
            // Linux acknowledges what it got within 40 ms, which is waited for.
            tokio::time::sleep(NOTHING).await;
            sleep(net).await;
            assert!(!wanted(net).await, "nobody said anything");
            client.write_all(&[round; 100]).unwrap();
            wake(net).await;
            let mut bytes = [9; 100];
            served.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [round; 100]);
            sleep(net).await;
            served.write_all(&[round; 100]).unwrap();
            tokio::time::timeout(SECONDS, net.handle().wanted()).await.unwrap();
            wake(net).await;
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [round; 100]);
        }
    });
}

/// Spec 13.1: "port connection [...] wakes it", and the client is served, however often the guest sleeps meanwhile.
#[test]
fn a_client_of_a_published_port_wakes_the_guest_and_is_served() {
    run(Setup::default(), async |net| {
        let target = SocketAddr::new(CONTAINER.into(), 80);
        let service = net.guest.inside(|| TcpListener::bind(target).unwrap());
        let listener = TcpListener::bind(SocketAddr::new(WORLD.into(), 8080)).unwrap();
        sleep(net).await;
        assert!(!wanted(net).await);
        let mut clients = Vec::new();
        for number in 0..20_u8 {
            let mut client = connect(listener.local_addr().unwrap()).unwrap();
            let (stream, from) = accept(&listener);
            net.handle().tcp(stream, from, target).await;
            client.write_all(&[number; 1000]).unwrap();
            clients.push(client);
        }
        tokio::time::timeout(SECONDS, net.handle().wanted()).await.unwrap();
        until("all are taken", SECONDS, || net.handle().port_connections() == 20).await;
        wake(net).await;
        for _ in 0..20 {
            let (mut served, _) = accept(&service);
            let mut bytes = [0; 1000];
            served.read_exact(&mut bytes).unwrap();
            served.write_all(&bytes).unwrap();
        }
        for (number, mut client) in clients.into_iter().enumerate() {
            let mut bytes = [0; 1000];
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [number as u8; 1000]);
        }
        until("every connection has ended", SECONDS, || net.handle().port_connections() == 0).await;
    });
}

/// Spec 13.1: datagrams for a published port wait with the host, a bounded number of them.
#[test]
fn a_datagram_for_a_published_port_wakes_the_guest_and_is_delivered() {
    run(Setup::default(), async |net| {
        let target = SocketAddr::new(CONTAINER.into(), 53);
        let service = net.guest.inside(|| UdpSocket::bind(target).unwrap());
        service.set_read_timeout(Some(SECONDS)).unwrap();
        let socket = UdpSocket::bind(SocketAddr::new(WORLD.into(), 5353)).unwrap();
        let published = socket.local_addr().unwrap();
        let _forward = net.handle().udp(socket, target);
        let client = UdpSocket::bind(SocketAddr::new(WORLD.into(), 0)).unwrap();
        client.set_read_timeout(Some(SECONDS)).unwrap();
        let mut buffer = [0; 100];
        for round in 0..3_u8 {
            sleep(net).await;
            assert!(!wanted(net).await);
            for number in 0..5 {
                client.send_to(&[round, number], published).unwrap();
            }
            tokio::time::timeout(SECONDS, net.handle().wanted()).await.unwrap();
            wake(net).await;
            for number in 0..5 {
                let (length, from) = service.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..length], [round, number]);
                service.send_to(&buffer[..length], from).unwrap();
                assert_eq!(client.recv(&mut buffer).unwrap(), 2);
            }
        }
    });
}

/// Spec 13.2: connections whose peer went away meanwhile are closed towards the guest, not left hanging.
#[test]
fn an_end_and_a_reset_of_the_peer_are_told_after_the_wake() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let mut pairs = Vec::new();
        for _ in 0..2 {
            let client = net.guest.inside(|| connect(host(80)).unwrap());
            pairs.push((client, accept(&listener).0));
        }
        let (mut second, its_peer) = pairs.pop().unwrap();
        let (mut first, peer) = pairs.pop().unwrap();
        sleep(net).await;
        drop(peer);
        reset(its_peer);
        tokio::time::timeout(SECONDS, net.handle().wanted()).await.unwrap();
        wake(net).await;
        assert_eq!(first.read(&mut [0]).unwrap(), 0);
        assert_eq!(second.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

/// Spec 13.1: a guest that sleeps costs nothing: what is sent to it stays with its sender. Then all of it comes.
#[test]
fn nothing_is_read_ahead_for_a_guest_that_sleeps() {
    run(Setup::default(), async |net| {
        const LENGTH: usize = 64 << 20;
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = net.guest.inside(|| connect(host(80)).unwrap());
        let (served, _) = accept(&listener);
        let before = net.metrics().bytes_to_guest;
        sleep(net).await;
        let sender = std::thread::spawn(move || send(served, LENGTH).unwrap());
        tokio::time::timeout(SECONDS, net.handle().wanted()).await.unwrap();
        tokio::time::sleep(NOTHING).await;
        assert!(!sender.is_finished());
        assert_eq!(net.metrics().bytes_to_guest, before);
        wake(net).await;
        assert_eq!(blocking(move || check(client)).await, LENGTH);
        sender.join().unwrap();
    });
}

/// Sleeps in the middle of transfers both ways, at any moment: what Linux's TCP sees is a pause.
#[test]
fn transfers_survive_sleeps_at_any_moment() {
    run(Setup::default(), async |net| {
        const LENGTH: usize = 48 << 20;
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = net.guest.inside(|| connect(host(80)).unwrap());
        let (served, _) = accept(&listener);
        let both = |stream: TcpStream| {
            let back = stream.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                send(&back, LENGTH).unwrap();
                back.shutdown(std::net::Shutdown::Write).unwrap();
            });
            std::thread::spawn(move || {
                let count = check(stream);
                sender.join().unwrap();
                count
            })
        };
        let ends = [both(client), both(served)];
        let mut sleeps = 0;
        while !ends.iter().all(std::thread::JoinHandle::is_finished) && sleeps < 50 {
            sleep(net).await;
            wake(net).await;
            sleeps += 1;
            tokio::time::sleep(Duration::from_millis(sleeps * 7 % 40)).await;
        }
        assert!(sleeps > 3, "it was over too soon");
        for end in ends {
            assert_eq!(blocking(move || end.join().unwrap()).await, LENGTH);
        }
        assert_eq!(net.drops("no_flow") + net.drops("no_link"), 0);
    });
}

/// A machine that boots anew instead of waking: nothing of the guest that slept is left, and the next one is served.
#[test]
fn flows_of_a_guest_that_will_not_wake_can_be_ended() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let _client = net.guest.inside(|| connect(host(80)).unwrap());
        let (mut served, _) = accept(&listener);
        sleep(net).await;
        net.handle().end_flows().await;
        assert_eq!(served.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        until("no flow is left", SECONDS, || net.flows() == 0).await;
        wake(net).await;
        net.guest.inside(|| connect(host(80)).unwrap());
        accept(&listener);
    });
}
