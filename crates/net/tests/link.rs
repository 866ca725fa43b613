//! The hypervisor's end of the gateway: connections that break, guests that attack, and what is left after a stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::stream::{accept, check, connect, send};
use common::{SILENT, Setup, run, until};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use socket2::{Domain, Protocol, Socket, Type};

const SECONDS: Duration = Duration::from_secs(10);

fn host(port: u16) -> SocketAddr {
    SocketAddr::new("198.19.68.254".parse().unwrap(), port)
}

/// Issue 3: "cannot exhaust or crash it": a length that cannot be ends the connection, and the next one works.
#[test]
fn broken_framing_ends_the_connection_and_only_that() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = net.guest.inside(|| connect(host(80)).unwrap());
        let (mut served, _) = accept(&listener);
        net.unplug();
        // What the guest had open ends with its link.
        assert_eq!(served.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(client);
        for (number, garbage) in [[0; 4], [0, 0, 0, 13], [0, 0, 0xff, 0xff], [0xff; 4]].iter().enumerate() {
            let mut stream: UnixStream = net.connect();
            stream.set_read_timeout(Some(SECONDS)).unwrap();
            stream.write_all(garbage).unwrap();
            // Frames that were queued may come first.
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            until("it is counted", SECONDS, || net.drops("bad_framing") == number as u64 + 1).await;
        }
        net.plug();
        let mut client = net.guest.inside(|| connect(host(80)).unwrap());
        client.write_all(b"again").unwrap();
        let mut word = [0; 5];
        accept(&listener).0.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"again");
    });
}

/// Issue 3: frames that are nonsense inside are dropped, each by its reason, and disturb nobody.
#[test]
fn garbage_in_frames_is_dropped_and_counted() {
    run(Setup::default(), async |net| {
        net.unplug();
        let mut stream = net.connect();
        let mut state = 1u64;
        for number in 0..20_000usize {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut frame = vec![0; 14 + (state >> 33) as usize % 300];
            for byte in &mut frame {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            frame[..6].copy_from_slice(&dhow_model::network::GATEWAY_MAC);
            frame[6] &= 0xfe;
            frame[12..14].copy_from_slice([[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06]][number % 3].as_slice());
            // Mostly what gets past the first look.
            match number % 3 {
                0 if frame.len() > 34 => {
                    let length = (frame.len() - 14) as u16;
                    frame[14] = 0x45;
                    frame[16..18].copy_from_slice(&length.to_be_bytes());
                    frame[20..22].fill(0);
                    frame[23] = [1, 6, 17][number / 3 % 3];
                }
                1 if frame.len() > 54 => {
                    let length = (frame.len() - 54) as u16;
                    frame[14] = 0x60;
                    frame[18..20].copy_from_slice(&length.to_be_bytes());
                    frame[20] = [58, 6, 17, 0, 44][number / 3 % 5];
                }
                _ => {}
            }
            stream.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
            stream.write_all(&frame).unwrap();
            if number % 64 == 0 {
                drain(&stream);
            }
        }
        until("all were looked at", SECONDS, || {
            drain(&stream);
            net.metrics().frames_from_guest >= 20_000
        })
        .await;
        drop(stream);
        net.plug();
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        net.guest.inside(|| connect(host(80)).unwrap());
        accept(&listener);
    });
}

/// Reads what is there.
fn drain(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    while matches!(stream.read(&mut [0; 65_536]), Ok(count) if count > 0) {}
    stream.set_nonblocking(false).unwrap();
}

/// A SYN from an address that the guest's kernel does not answer for.
fn syn(to: SocketAddr, number: u32) -> Vec<u8> {
    let source = IpAddress::v4(198, 19, 68, 100 + (number >> 16) as u8);
    let destination = IpAddress::from(to.ip());
    let tcp = TcpRepr {
        src_port: (number as u16).max(1),
        dst_port: to.port(),
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(number as i32),
        ack_number: None,
        window_len: 65_535,
        window_scale: Some(7),
        max_seg_size: Some(1460),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = IpRepr::new(source, destination, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut packet[..], &checksums);
    let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    tcp.emit(&mut segment, &source, &destination, &checksums);
    packet
}

/// Issue 3: "a guest that floods SYNs [...] cannot exhaust or crash it", and its other connections live.
#[test]
fn a_flood_of_syns_leaves_other_flows_alive() {
    run(Setup::default(), async |net| {
        let (open, busy) =
            (TcpListener::bind("127.0.0.1:80").unwrap(), TcpListener::bind("127.0.0.1:81").unwrap());
        let client = net.guest.spawn(|| check(connect(host(81)).unwrap()));
        let (served, _) = accept(&busy);
        let flood = net.guest.spawn(move || {
            let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
            // To one that answers, one that refuses, one that is silent.
            let targets = [host(80), host(82), SocketAddr::new(SILENT.into(), 80)];
            let mut sent = 0u32;
            for number in 0..100_000u32 {
                let to = targets[number as usize % 3];
                // The queue of the interface may be full.
                sent += u32::from(raw.send_to(&syn(to, number), &to.into()).is_ok());
            }
            sent
        });
        // The service that answers never accepts.
        let _open = open;
        let before = Instant::now();
        send(&served, 64 << 20).unwrap();
        drop(served);
        assert_eq!(client.join().unwrap(), 64 << 20);
        assert!(before.elapsed() < Duration::from_secs(60));
        assert!(flood.join().unwrap() > 10_000);
        let metrics = net.metrics();
        assert!(metrics.flows["tcp_half_open"] <= 256, "{metrics:?}");
        assert!(net.drops("half_open_limit") > 0);
        assert!(descriptors() < 1024);
        // Handshakes that are never completed end, and there is room again.
        until("all is over", Duration::from_secs(30), || net.flows() == 0).await;
        net.guest.inside(|| connect(host(81)).unwrap());
        accept(&busy);
    });
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Issue 3: "no leaked descriptor, task or flow": a stop in the midst of everything leaves nothing.
#[test]
fn a_stop_leaves_no_thread_and_no_descriptor() {
    // What the first runtime of a process keeps for all is there before the count.
    run(Setup::default(), async |_| {});
    let before = (threads(), descriptors());
    for _ in 0..3 {
        run(Setup::default(), async |net| {
            let listener = TcpListener::bind("127.0.0.1:80").unwrap();
            let held = net.guest.inside(|| connect(host(80)).unwrap());
            let (mut served, _) = accept(&listener);
            let silent = SocketAddr::new(SILENT.into(), 80);
            let dialling =
                net.guest.spawn(move || TcpStream::connect_timeout(&silent, Duration::from_secs(1)).is_err());
            let (client, from) =
                (connect(listener.local_addr().unwrap()).unwrap(), "10.9.8.7:1".parse().unwrap());
            net.handle().tcp(client, from, "172.17.0.2:80".parse().unwrap()).await;
            until("a dial is on its way", SECONDS, || net.metrics().flows["tcp_half_open"] == 1).await;
            let handle = net.handle();
            let start = Instant::now();
            net.stop().await;
            assert!(start.elapsed() < Duration::from_secs(5));
            assert!(dialling.join().unwrap());
            assert!(served.read(&mut [0]).is_err(), "the host's end is reset");
            drop(held);
            // A handle that is left over does no harm.
            let client = connect(listener.local_addr().unwrap()).unwrap();
            handle.tcp(client, from, "172.17.0.2:80".parse().unwrap()).await;
            assert_eq!(handle.metrics().flows.values().sum::<u64>(), 0);
        });
    }
    // A thread that was joined may take a moment to leave /proc.
    let limit = Instant::now() + SECONDS;
    while (threads(), descriptors()) != before && Instant::now() < limit {
        std::thread::yield_now();
    }
    assert_eq!((threads(), descriptors()), before);
}
