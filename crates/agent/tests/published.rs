//! A real dockerd, without a machine around it, with our `docker-proxy`: the agent's side runs in this process, and so
//! does a host that takes addresses as the supervisor does. dockerd lives in a network of its own, so what it publishes
//! collides with this host's sockets only where our proxy asks.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Published, holder, plain, words};
use dhow_agent::ports::socket;
use dhow_model::port::{Binding, Protocol};
use dhow_testkit::{Image, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A port that is free now, below those that the kernel gives to anybody's connections, and far from what a test in
/// another process takes.
fn free() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..500 {
        let next = first.wrapping_add(TAKEN.fetch_add(16, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(next % 22_000).unwrap();
        if (port..port + 16).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok()) {
            return port;
        }
    }
    panic!("no port is free");
}

/// Spec 4.1, 4.2: bound exactly as asked, before `docker run` returns, and `docker port` says the same.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn what_docker_says_is_published_is_what_the_host_listens_on() {
    let engine = Published::start();
    let (tcp, udp) = (free(), free());
    let asked = [
        (format!("{tcp}:80"), vec![format!("0.0.0.0:{tcp}/tcp"), format!("[::]:{tcp}/tcp")]),
        (format!("127.0.0.1:{}:81", tcp + 1), vec![format!("127.0.0.1:{}/tcp", tcp + 1)]),
        (format!("[::1]:{}:82", tcp + 2), vec![format!("[::1]:{}/tcp", tcp + 2)]),
        (format!("127.0.0.1:{udp}:53/udp"), vec![format!("127.0.0.1:{udp}/udp")]),
    ];
    let flags = asked.iter().flat_map(|(publish, _)| ["-p", publish]);
    engine.run("web", flags);
    let mut expected: Vec<String> = asked.iter().flat_map(|(_, bound)| bound.clone()).collect();
    expected.sort();
    assert_eq!(engine.listening(), expected);
    let told = engine.docker().ok(["port", "web"]).unwrap();
    let told: Vec<&str> = told.lines().map(|line| line.split_once(" -> ").unwrap().1).collect();
    for one in &expected {
        let address = one.split_once('/').unwrap().0;
        assert!(told.contains(&address), "{address} in {told:?}");
    }
    assert_eq!(told.len(), expected.len());
}

/// Spec 4.7: nobody listens any more when `docker stop` returns; a later start takes fresh ones.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_container_that_ends_in_whatever_way_leaves_no_listener() {
    let engine = Published::start();
    let publish = format!("{}:80", free());
    let flags = ["-p", &publish];
    for end in [&["stop", "-t", "0", "web"][..], &["kill", "web"], &["rm", "-f", "web"]] {
        engine.run("web", flags);
        assert_eq!(engine.listening().len(), 2);
        engine.docker().ok(end).unwrap();
        if end[0] == "kill" {
            engine.nobody_listens();
        }
        assert_eq!(engine.listening(), [""; 0], "after {end:?}");
        if end[0] != "rm" {
            engine.docker().ok(["start", "web"]).unwrap();
            assert_eq!(engine.listening().len(), 2);
            engine.docker().ok(["rename", "web", "renamed"]).unwrap();
            assert_eq!(engine.listening().len(), 2);
            engine.docker().ok(["rm", "-f", "renamed"]).unwrap();
            assert_eq!(engine.listening(), [""; 0]);
        }
    }
    // By itself, and with --rm.
    engine.docker().ok(["run", "--rm", "-p", &publish, Image::Busybox.name(), "true"]).unwrap();
    engine.nobody_listens();
}

/// Spec 4.4: ports come back with restart policies.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_container_that_is_restarted_has_its_port_again() {
    let engine = Published::start();
    let publish = format!("127.0.0.1:{}:80", free());
    let args = ["run", "-d", "--name", "web", "--restart", "always", "-p", &publish, Image::Busybox.name()];
    engine.docker().run(args).args(["sh", "-c", "sleep 1; exit 1"]).ok().unwrap();
    wait::until("three lives", PATIENCE, || (engine.binds() >= 3).then_some(())).unwrap();
    engine.docker().ok(["rm", "-f", "web"]).unwrap();
    assert_eq!(engine.listening(), [""; 0]);
}

/// Issue 3: a network that is taken away takes its ports along, and brings them back.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_disconnected_network_takes_its_ports_along() {
    let engine = Published::start();
    let publish = format!("127.0.0.1:{}:80", free());
    engine.docker().ok(["network", "create", "net"]).unwrap();
    engine.run("web", ["--network", "net", "-p", &publish]);
    let before = engine.listening();
    assert_eq!(before.len(), 1);
    engine.docker().ok(["network", "disconnect", "net", "web"]).unwrap();
    assert_eq!(engine.listening(), [""; 0]);
    engine.docker().ok(["network", "connect", "net", "web"]).unwrap();
    assert_eq!(engine.listening(), before);
}

/// Spec 4.1: the error is the one that dockerd itself gives for the same conflict on this host.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_conflict_reads_as_dockerds_own() {
    let plain = plain();
    let engine = Published::start();
    let port = free();
    let table = [
        ("0.0.0.0", Protocol::Tcp, format!("{port}:80")),
        ("127.0.0.1", Protocol::Tcp, format!("127.0.0.1:{port}:80")),
        ("127.0.0.1", Protocol::Tcp, format!("{port}:80")),
        ("0.0.0.0", Protocol::Tcp, format!("127.0.0.1:{port}:80")),
        ("::1", Protocol::Tcp, format!("[::1]:{port}:80")),
        ("0.0.0.0", Protocol::Udp, format!("0.0.0.0:{port}:53/udp")),
        // dockerd passes over what its own containers have of a range, and nothing else.
        ("127.0.0.1", Protocol::Tcp, format!("127.0.0.1:{port}-{}:80", port + 3)),
    ];
    for (occupied, protocol, publish) in table {
        let occupied = SocketAddr::new(occupied.parse().unwrap(), port);
        let there = holder(&plain, occupied, protocol);
        let expected = words(plain.docker(), &publish);
        drop(there);
        assert!(expected.contains("bind: address already in use"), "{expected}");
        let _here = socket::take(&Binding { protocol, host: occupied, container: occupied }).unwrap();
        assert_eq!(words(engine.docker(), &publish), expected, "{occupied} and {publish}");
        assert_eq!(engine.listening(), [""; 0], "what was bound before the failure is released");
    }
    // Between two containers of the same engine dockerd knows by itself.
    for docker in [plain.docker(), engine.docker()] {
        docker
            .run(["run", "-d", "--name", "first", "-p", &format!("{port}:80")])
            .args(common::SLEEP)
            .ok()
            .unwrap();
    }
    let publish = format!("{port}:80");
    assert_eq!(words(engine.docker(), &publish), words(plain.docker(), &publish));
}

/// Spec 4.3: random ports bind on the host the number that the client is told, and a taken one is passed over.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_random_port_that_is_taken_on_the_host_is_passed_over() {
    let engine = Published::start();
    engine.run("first", ["-p", "127.0.0.1::80"]);
    let first = address(&engine.docker().ok(["port", "first", "80/tcp"]).unwrap());
    // The next candidates, as dockerd counts.
    let taken: Vec<TcpListener> =
        (1..=3).filter_map(|step| TcpListener::bind(("127.0.0.1", first.port() + step)).ok()).collect();
    engine.run("second", ["-p", "127.0.0.1::80"]);
    let second = address(&engine.docker().ok(["port", "second", "80/tcp"]).unwrap());
    assert!(taken.iter().all(|held| held.local_addr().unwrap() != second));
    assert_eq!(engine.listening(), [format!("{first}/tcp"), format!("{second}/tcp")]);
}

/// Spec 4.1: ranges, of which a container takes the first free one, or one for each of its own.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn ranges_are_bound_port_by_port() {
    let engine = Published::start();
    let port = free();
    let range = format!("127.0.0.1:{port}-{}:80", port + 3);
    engine.run("one", ["-p", &range]);
    engine.run("two", ["-p", &range]);
    assert_eq!(engine.listening(), [0, 1].map(|step| format!("127.0.0.1:{}/tcp", port + step)));
    let (from, to) = (port + 10, port + 12);
    engine.run("all", ["-p", &format!("127.0.0.1:{from}-{to}:90-92")]);
    assert_eq!(engine.listening().len(), 5);
    for port in from..=to {
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}

/// Issue 3: of a range that meets a port of another container, or of a program of this host, nothing is bound.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_range_that_overlaps_is_refused_as_dockerd_does_and_nothing_of_it_is_bound() {
    let plain = plain();
    let engine = Published::start();
    let port = free();
    let range = |from: u16| format!("127.0.0.1:{from}-{}:90-92", from + 2);
    for docker in [plain.docker(), engine.docker()] {
        let publish = format!("127.0.0.1:{}:80", port + 1);
        docker.run(["run", "-d", "--name", "first", "-p", &publish]).args(common::SLEEP).ok().unwrap();
    }
    let before = engine.listening();
    let expected = words(plain.docker(), &range(port));
    assert!(expected.contains("port is already allocated"), "{expected}");
    assert_eq!(words(engine.docker(), &range(port)), expected);
    assert_eq!(engine.listening(), before);

    let host = SocketAddr::from(([127, 0, 0, 1], port + 5));
    let there = holder(&plain, host, Protocol::Tcp);
    let expected = words(plain.docker(), &range(port + 4));
    drop(there);
    assert!(expected.contains("bind: address already in use"), "{expected}");
    let _here = socket::take(&Binding { protocol: Protocol::Tcp, host, container: host }).unwrap();
    assert_eq!(words(engine.docker(), &range(port + 4)), expected);
    assert_eq!(engine.listening(), before);
}

/// Spec 4.1: SCTP is refused with a clear error, never treated as TCP.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn sctp_is_refused_in_words() {
    let engine = Published::start();
    let words = words(engine.docker(), &format!("127.0.0.1:{}:80/sctp", free()));
    assert!(words.contains("SCTP is not supported"), "{words}");
    assert_eq!(engine.listening(), [""; 0]);
}

/// Issue 3: dockerd is killed. Containers that go on keep their ports, without a moment in which nobody listens; what died
/// meanwhile is released when the next dockerd answers.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn ports_outlive_a_dockerd_that_is_killed() {
    let mut engine = Published::start();
    let (stays, dies) = (format!("127.0.0.1:{}:80", free()), format!("127.0.0.1:{}:80", free()));
    engine.run("stays", ["-p", &stays]);
    let kept = engine.listening();
    engine.run("dies", ["-p", &dies]);
    let binds = engine.binds();
    let pid = engine.docker().ok(["inspect", "-f", "{{.State.Pid}}", "dies"]).unwrap();
    engine.kill_dockerd_and(&pid);
    assert_eq!(engine.docker().ok(["inspect", "-f", "{{.State.Running}}", "stays"]).unwrap(), "true");
    wait::until("the dead container's port to go", PATIENCE, || (engine.listening() == kept).then_some(()))
        .unwrap();
    assert_eq!(engine.binds(), binds, "the port was never bound again");
    engine.docker().ok(["rm", "-f", "stays"]).unwrap();
    assert_eq!(engine.listening(), [""; 0]);
}

/// Issue 3: dockerd is killed after it published a port and before the container has its network. What its successor claims
/// again from the records nobody is behind, and it would keep it for as long as it runs.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_start_that_dockerds_death_cuts_short_leaves_its_port_free() {
    let mut engine = Published::start();
    let (stays, cut) = (format!("127.0.0.1:{}:80", free()), format!("127.0.0.1:{}:80", free()));
    engine.run("stays", ["-p", &stays]);
    let kept = engine.listening();
    let docker = engine.docker().clone();
    let publish = cut.clone();
    let start = std::thread::spawn(move || {
        docker.run(["run", "-d", "--name", "cut", "-p", &publish]).args(common::SLEEP).outcome().unwrap()
    });
    wait::until("the port to be bound", PATIENCE, || (engine.listening().len() == 2).then_some(())).unwrap();
    engine.kill_dockerd();
    assert_ne!(start.join().unwrap().code(), Some(0), "dockerd was killed too late");
    assert_eq!(engine.listening(), kept);
    engine.docker().ok(["rm", "-f", "cut"]).unwrap();
    engine.run("again", ["-p", &cut]);
    assert_eq!(engine.listening().len(), 2);
}

/// Spec 16.2: a host that does not answer is an error in seconds.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_host_that_does_not_answer_fails_the_start_in_words() {
    let engine = Published::without_host();
    let words = words(engine.docker(), &format!("127.0.0.1:{}:80", free()));
    assert!(words.contains("the host did not say within 10 s"), "{words}");
}
