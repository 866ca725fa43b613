//! TCP that the guest opens, with a real kernel on the guest's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::stream::{accept, check, connect, reset, send};
use common::{CONTAINER, Net, SILENT, Setup, WORLD, WORLD6, run, until};
use dhow_net::dns::Container;
use dhow_net::gateway::Limits;

const SECONDS: Duration = Duration::from_secs(10);

/// Bytes of the large transfers: a debug build is some ten times slower.
const LARGE: usize = if cfg!(debug_assertions) { 256 << 20 } else { 1 << 30 };

fn world(port: u16) -> SocketAddr {
    SocketAddr::new(WORLD.into(), port)
}

async fn no_flows(net: &Net) {
    until("every flow is gone", SECONDS, || net.flows() == 0).await;
}

/// Issue 3: the large file with its digest, downwards.
#[test]
fn a_download_arrives_whole() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind(world(80)).unwrap();
        let client = net.guest.spawn(|| check(connect(world(80)).unwrap()));
        let server = net.host.spawn(move || send(accept(&listener).0, LARGE).unwrap());
        server.join().unwrap();
        assert_eq!(client.join().unwrap(), LARGE);
        no_flows(net).await;
    });
}

/// Issue 3: the large file with its digest, upwards.
#[test]
fn an_upload_arrives_whole() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind(world(80)).unwrap();
        let client = net.guest.spawn(|| send(connect(world(80)).unwrap(), LARGE).unwrap());
        let server = net.host.spawn(move || check(accept(&listener).0));
        assert_eq!(server.join().unwrap(), LARGE);
        client.join().unwrap();
        no_flows(net).await;
    });
}

/// Issue 3: both directions at once keep each other's bytes apart.
#[test]
fn both_directions_flow_at_once() {
    run(Setup::default(), async |net| {
        let both = |stream: TcpStream| {
            let reader = stream.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                send(&stream, LARGE / 8).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            let read = check(reader);
            writer.join().unwrap();
            read
        };
        let listener = TcpListener::bind(world(80)).unwrap();
        let client = net.guest.spawn(move || both(connect(world(80)).unwrap()));
        let server = net.host.spawn(move || both(accept(&listener).0));
        assert_eq!((server.join().unwrap(), client.join().unwrap()), (LARGE / 8, LARGE / 8));
        no_flows(net).await;
    });
}

/// Issue 3: "10,000 short connections"; none of them stays behind.
#[test]
fn ten_thousand_short_connections_leave_nothing() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let server = net.host.spawn(move || {
            for _ in 0..10_000 {
                let (mut stream, _) = accept(&listener);
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            }
        });
        let client = net.guest.spawn(|| {
            for number in 0..10_000u32 {
                let mut stream = connect("198.19.68.254:80".parse::<SocketAddr>().unwrap()).unwrap();
                stream.write_all(&[number as u8]).unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert_eq!(answer, [number as u8]);
            }
        });
        client.join().unwrap();
        server.join().unwrap();
        no_flows(net).await;
        assert_eq!(net.metrics().flows_total["tcp_out"], 10_000);
    });
}

/// Issue 3: "half-close and RST both ways": the guest ends its direction first.
#[test]
fn a_guest_that_ends_its_direction_still_gets_the_answer() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = net.guest.spawn(|| {
            let stream = connect("198.19.68.254:80".parse::<SocketAddr>().unwrap()).unwrap();
            send(&stream, 100_000).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            check(&stream)
        });
        let server = net.host.spawn(move || {
            let (stream, _) = accept(&listener);
            let read = check(&stream);
            send(&stream, 3_000_000).unwrap();
            read
        });
        assert_eq!((server.join().unwrap(), client.join().unwrap()), (100_000, 3_000_000));
        no_flows(net).await;
    });
}

/// The host ends its direction first.
#[test]
fn a_host_that_ends_its_direction_still_gets_the_rest() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = net.guest.spawn(|| {
            let stream = connect("198.19.68.254:80".parse::<SocketAddr>().unwrap()).unwrap();
            let read = check(&stream);
            send(&stream, 3_000_000).unwrap();
            read
        });
        let server = net.host.spawn(move || {
            let (stream, _) = accept(&listener);
            send(&stream, 100_000).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            check(&stream)
        });
        assert_eq!((server.join().unwrap(), client.join().unwrap()), (3_000_000, 100_000));
        no_flows(net).await;
    });
}

/// A guest's reset is the host's reset.
#[test]
fn a_guest_s_reset_reaches_the_host() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = net.guest.spawn(|| connect("198.19.68.254:80".parse::<SocketAddr>().unwrap()).unwrap());
        let (mut stream, _) = accept(&listener);
        reset(client.join().unwrap());
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        no_flows(net).await;
    });
}

/// The host's reset is the guest's reset, after what was sent before it.
#[test]
fn a_host_s_reset_reaches_the_guest() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = net.guest.spawn(|| {
            let mut stream = connect("198.19.68.254:80".parse::<SocketAddr>().unwrap()).unwrap();
            let mut first = [0; 5];
            stream.read_exact(&mut first).unwrap();
            (first, stream.read(&mut [0]).unwrap_err().kind())
        });
        let (mut stream, _) = accept(&listener);
        stream.write_all(b"first").unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        reset(stream);
        assert_eq!(client.join().unwrap(), (*b"first", ErrorKind::ConnectionReset));
        no_flows(net).await;
    });
}

/// Issue 3: "slow readers": what nobody reads stops its sender, and costs one window.
#[test]
fn who_does_not_read_stops_who_writes() {
    run(Setup::default(), async |net| {
        // How many bytes a writer gets rid of until it has to wait.
        let stuck = |mut stream: TcpStream| {
            stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut written = 0;
            while let Ok(count) = stream.write(&[7; 65_536]) {
                written += count;
            }
            (stream, written)
        };
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let address: SocketAddr = "198.19.68.254:80".parse().unwrap();
        let before = resident();
        let client = net.guest.spawn(move || connect(address).unwrap());
        let (idle, _) = accept(&listener);
        let (_stream, written) = stuck(client.join().unwrap());
        let silent = net.guest.spawn(move || connect(address).unwrap());
        let (stream, _) = accept(&listener);
        let (_other, sent) = stuck(stream);
        let _silent = silent.join().unwrap();
        // Kernels on both sides have buffers of a few MiB of their own.
        assert!(written < 24 << 20 && sent < 24 << 20, "{written} up, {sent} down");
        assert!(resident() < before + (64 << 20), "{} before, {} after", before, resident());
        drop(idle);
    });
}

/// Bytes of memory that this process holds.
fn resident() -> usize {
    let pages: usize =
        std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Issue 3: "host connection before SYN-ACK": a refusal is a refusal, at once.
#[test]
fn a_closed_port_refuses() {
    run(Setup::default(), async |net| {
        for address in
            ["198.19.68.254:81", "203.0.113.1:81", "[fd64:686f:7700::fe]:81", "[2001:db8:113::1]:81"]
        {
            let address: SocketAddr = address.parse().unwrap();
            let (error, took) = net.guest.inside(|| {
                let start = Instant::now();
                (connect(address).unwrap_err().kind(), start.elapsed())
            });
            assert_eq!(error, ErrorKind::ConnectionRefused, "{address}");
            assert!(took < Duration::from_secs(2), "{address}: {took:?}");
        }
        assert_eq!(net.drops("host_refused"), 4);
        no_flows(net).await;
    });
}

/// An address that the host has no way to is told by ICMP.
#[test]
fn what_the_host_cannot_reach_is_unreachable() {
    run(Setup::default(), async |net| {
        for address in ["192.0.2.1:80", "[2001:db8:ffff::1]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            let error = net.guest.inside(|| connect(address).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{address}: {error}");
        }
        no_flows(net).await;
    });
}

/// Issue 3: "host connection before SYN-ACK": an address that does not answer stays silent.
#[test]
fn a_black_hole_is_silent() {
    run(Setup::default(), async |net| {
        let address = SocketAddr::new(SILENT.into(), 80);
        let client = net
            .guest
            .spawn(move || TcpStream::connect_timeout(&address, Duration::from_secs(3)).unwrap_err().kind());
        until("it is half open", SECONDS, || net.metrics().flows["tcp_half_open"] == 1).await;
        assert_eq!(client.join().unwrap(), ErrorKind::TimedOut);
        assert_eq!(net.metrics().flows["tcp_out"], 0);
        until("the attempt is given up", Duration::from_secs(15), || net.flows() == 0).await;
        assert!(net.drops("host_timeout") >= 1);
    });
}

/// Issue 3: addresses that mean nothing get no answer; the host's loopback can be closed.
#[test]
fn the_host_s_loopback_can_be_closed() {
    run(Setup { host_loopback: false, ..Setup::default() }, async |net| {
        let _listener = TcpListener::bind("127.0.0.1:80").unwrap();
        for address in ["198.19.68.254:80", "198.19.68.1:80", "[fd64:686f:7700::fe]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            let error = net.guest.inside(|| connect(address).unwrap_err().kind());
            assert_eq!(error, ErrorKind::ConnectionRefused, "{address}");
        }
        assert_eq!(net.drops("denied"), 3);
    });
}

/// 5.1: `host.docker.internal` and `gateway.docker.internal` reach the host, on either of its loopback addresses.
#[test]
fn host_and_gateway_reach_the_host_s_loopback() {
    run(Setup::default(), async |net| {
        for listen in ["127.0.0.1:80", "[::1]:80"] {
            let listener = TcpListener::bind(listen).unwrap();
            for address in ["198.19.68.254", "198.19.68.1", "fd64:686f:7700::fe", "fd64:686f:7700::1"] {
                let address = SocketAddr::new(address.parse().unwrap(), 80);
                let client = net.guest.spawn(move || connect(address).map(|_| ()));
                let (_, from) = accept(&listener);
                assert!(from.ip().is_loopback());
                client.join().unwrap().unwrap();
            }
        }
    });
}

/// Issue 3: an unused address of the machine's network is nobody's.
#[test]
fn an_unused_address_is_nobody() {
    run(Setup::default(), async |net| {
        // Without an answer to ARP the guest's kernel would not even ask.
        net.guest.sh("ip neigh add 198.19.68.77 lladdr 02:64:68:6f:77:01 dev eth0");
        let address: SocketAddr = "198.19.68.77:80".parse().unwrap();
        let error = net
            .guest
            .inside(|| TcpStream::connect_timeout(&address, Duration::from_millis(500)).unwrap_err().kind());
        assert_eq!(error, ErrorKind::TimedOut);
        assert!(net.drops("martian") >= 1);
    });
}

/// Issue 3: IPv6 as IPv4.
#[test]
fn ipv6_carries_as_much() {
    run(Setup::default(), async |net| {
        let address = SocketAddr::new(WORLD6.parse::<IpAddr>().unwrap(), 80);
        let listener = TcpListener::bind(address).unwrap();
        let client = net.guest.spawn(move || check(connect(address).unwrap()));
        let server = net.host.spawn(move || send(accept(&listener).0, LARGE / 8).unwrap());
        server.join().unwrap();
        assert_eq!(client.join().unwrap(), LARGE / 8);
        no_flows(net).await;
    });
}

/// Issue 3: "bounded memory and descriptors per guest": more connections than the limit wait, they do not fail others.
#[test]
fn more_flows_than_the_limit_find_no_place() {
    let limits = Limits { tcp: 8, ..Limits::default() };
    run(Setup { limits, ..Setup::default() }, async |net| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let address: SocketAddr = "198.19.68.254:80".parse().unwrap();
        let held: Vec<_> = (0..8)
            .map(|_| {
                let client = net.guest.inside(|| connect(address).unwrap());
                (client, accept(&listener))
            })
            .collect();
        let error = net
            .guest
            .inside(|| TcpStream::connect_timeout(&address, Duration::from_millis(500)).unwrap_err().kind());
        assert_eq!(error, ErrorKind::TimedOut);
        assert!(net.drops("flow_limit") >= 1);
        drop(held);
        no_flows(net).await;
        net.guest.inside(|| connect(address).unwrap());
    });
}

/// 5.4: DNS over TCP, at the gateway's own address.
#[test]
fn the_gateway_answers_names_over_tcp() {
    run(Setup::default(), async |net| {
        net.names.replace(vec![Container {
            id: "0123456789ab".to_owned(),
            name: "web".to_owned(),
            addresses: vec![CONTAINER.into()],
            ..Container::default()
        }]);
        for server in ["198.19.68.1", "fd64:686f:7700::1"] {
            let answer =
                net.guest.sh(&format!("dig +tcp +short +time=3 +tries=1 @{server} web.dhow.internal"));
            assert_eq!(answer.trim(), "172.17.0.2", "{server}");
        }
        no_flows(net).await;
    });
}

/// Issue 3: "`curl` of a 1 GB file with a digest check", both ways, with ordinary programs.
#[test]
fn ordinary_programs_move_a_file_both_ways() {
    const SERVER: &str = "\
import http.server, shutil
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_PUT(self):
        length = int(self.headers['Content-Length'])
        with open('received', 'wb') as file:
            while length:
                piece = self.rfile.read(min(length, 1 << 20))
                file.write(piece)
                length -= len(piece)
        self.send_response(201)
        self.send_header('Content-Length', '0')
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 8000), Handler).serve_forever()
";
    const URL: &str = "http://198.19.68.254:8000";
    const CURL: &str = "curl -sf --max-time 60";
    run(Setup::default(), async |net| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        net.host.sh(&format!("head -c {} /dev/urandom > {path}/file", LARGE / 4));
        let digest = net.host.sh(&format!("sha256sum < {path}/file"));
        let mut server = net
            .host
            .command("python3")
            .args(["-c", SERVER])
            .current_dir(&directory)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let get = format!("{CURL} --retry 20 --retry-delay 1 --retry-connrefused {URL}/file | sha256sum");
        assert_eq!(net.guest.sh(&get), digest);
        net.guest.sh(&format!("{CURL} -T {path}/file {URL}/received"));
        assert_eq!(net.host.sh(&format!("sha256sum < {path}/received")), digest);
        server.kill().unwrap();
        server.wait().unwrap();
    });
}
