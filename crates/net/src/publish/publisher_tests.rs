use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Mutex as Shared;
use std::sync::atomic::{AtomicU32, Ordering};

use dhow_model::port::Protocol;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::publish::{Datagrams, Pending};

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each client with where it was to be carried, and keeps the sockets of datagram ports.
#[derive(Default)]
struct Echo {
    seen: Shared<Vec<(SocketAddr, SocketAddr)>>,
}

impl Forward for Echo {
    fn tcp(&self, client: TcpStream, from: SocketAddr, target: SocketAddr) -> Pending<'_, ()> {
        self.seen.lock().unwrap().push((from, target));
        client.set_nonblocking(false).unwrap();
        std::io::Write::write_all(&mut &client, target.to_string().as_bytes()).unwrap();
        Box::pin(async {})
    }

    fn udp(&self, socket: UdpSocket, _: SocketAddr) -> Box<dyn Datagrams> {
        Box::new(Kept(socket))
    }
}

struct Kept(UdpSocket);

impl Datagrams for Kept {
    fn close(self: Box<Self>) -> Pending<'static, ()> {
        drop(self.0);
        Box::pin(async {})
    }
}

struct Scene {
    machines: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { machines: tempfile::tempdir().unwrap() }
    }

    fn machine(&self, name: &str) -> Publisher {
        std::fs::create_dir_all(self.machines.path().join(name)).unwrap();
        Publisher::new(Arc::new(Echo::default()), name.parse().unwrap(), self.machines.path().to_path_buf())
    }

    fn record(&self, name: &str) -> PathBuf {
        self.machines.path().join(name).join(records::FILE)
    }
}

/// Waits until the file says that.
async fn says(path: &Path, words: &str) {
    let said = async {
        while !std::fs::read_to_string(path).unwrap_or_default().contains(words) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.unwrap();
}

fn binding(protocol: Protocol, host: SocketAddr) -> Binding {
    Binding { protocol, host, container: ([172, 17, 0, 2], 80).into() }
}

/// A port that is free now, below those that the kernel gives to anybody's connections, and far from what a test in
/// another process takes.
fn free(address: &str) -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..500 {
        let next = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(next % 22_000).unwrap();
        if TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok() {
            return with(address, port);
        }
    }
    panic!("no port is free");
}

fn with(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Spec 4.1: bound before the container starts, exactly as asked, and connected through.
#[tokio::test]
async fn a_client_reaches_what_was_bound_and_nothing_else_listens() {
    let scene = Scene::new();
    let publisher = scene.machine("native");
    let host = free("127.0.0.1");
    publisher.bind(binding(Protocol::Tcp, host)).await.unwrap();
    let mut client = tokio::net::TcpStream::connect(host).await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "172.17.0.2:80");
    // 127.0.0.1 stays loopback, and one address (spec 4.2).
    assert!(TcpStream::connect(with("127.0.0.2", host.port())).is_err());
    assert!(TcpStream::connect(with("::1", host.port())).is_err());
    let [bound] = &publisher.list().await[..] else { panic!() };
    assert_eq!((bound.binding.host, bound.accepted, &bound.container), (host, 1, &None));
    assert!(bound.since <= SystemTime::now());
}

/// Spec 4.7: stopping removes the listener; a later start takes a fresh one.
#[tokio::test]
async fn what_is_released_is_free_at_once() {
    let scene = Scene::new();
    let publisher = scene.machine("native");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for address in ["127.0.0.1", "::1"] {
            let wanted = binding(protocol, free(address));
            for _ in 0..50 {
                publisher.bind(wanted).await.unwrap();
                if protocol == Protocol::Tcp {
                    // A connection that is closed by us leaves TIME_WAIT behind.
                    drop(tokio::net::TcpStream::connect(wanted.host).await.unwrap());
                }
                publisher.release(&wanted).await;
            }
            match protocol {
                Protocol::Tcp => assert!(TcpStream::connect(wanted.host).is_err()),
                Protocol::Udp => drop(UdpSocket::bind(wanted.host).unwrap()),
            }
        }
    }
    assert!(publisher.list().await.is_empty());
}

/// Spec 4.1: a conflict has Docker's own words, and nothing is added when the holder is none of ours.
#[tokio::test]
async fn a_conflict_with_a_process_of_the_host_is_dockers_error() {
    let scene = Scene::new();
    let publisher = scene.machine("native");
    let table = [
        ("127.0.0.1", "127.0.0.1", "tcp4"),
        ("127.0.0.1", "0.0.0.0", "tcp4"),
        ("0.0.0.0", "127.0.0.1", "tcp4"),
        ("0.0.0.0", "0.0.0.0", "tcp4"),
        ("::1", "::1", "tcp6"),
        ("::1", "::", "tcp6"),
        ("::", "::1", "tcp6"),
    ];
    for (theirs, ours, network) in table {
        let listener = TcpListener::bind((theirs, 0)).unwrap();
        let wanted = binding(Protocol::Tcp, with(ours, listener.local_addr().unwrap().port()));
        let error = publisher.bind(wanted).await.unwrap_err();
        assert_eq!(error.kind(), "in-use");
        assert_eq!(
            error.to_string(),
            format!("listen {network} {}: bind: address already in use", wanted.host),
            "{theirs} and {ours}"
        );
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let wanted = binding(Protocol::Udp, socket.local_addr().unwrap());
    let error = publisher.bind(wanted).await.unwrap_err().to_string();
    assert_eq!(error, format!("listen udp4 {}: bind: address already in use", wanted.host));
    assert!(publisher.list().await.is_empty());
}

/// Spec 4.1: address, port and protocol; what differs in one of them is another port.
#[tokio::test]
async fn families_protocols_and_addresses_do_not_stand_in_each_others_way() {
    let scene = Scene::new();
    let publisher = scene.machine("native");
    // A port that is free everywhere is found by taking it everywhere.
    for _ in 0..20 {
        let port = free("0.0.0.0").port();
        let mut all = true;
        for (protocol, address) in [
            (Protocol::Tcp, "0.0.0.0"),
            (Protocol::Tcp, "::"),
            (Protocol::Udp, "127.0.0.1"),
            (Protocol::Udp, "127.0.0.2"),
            (Protocol::Udp, "::1"),
        ] {
            all &= publisher.bind(binding(protocol, with(address, port))).await.is_ok();
        }
        if all {
            return;
        }
        publisher.keep_only(&[]).await;
    }
    panic!("no port could be had in all ways at once");
}

/// An address that the host does not have.
#[tokio::test]
async fn an_address_of_another_host_is_refused_in_the_kernels_words() {
    let publisher = Scene::new().machine("native");
    let error = publisher.bind(binding(Protocol::Tcp, with("203.0.113.7", 8080))).await.unwrap_err();
    assert_eq!(error.kind(), "no-such-address");
    assert_eq!(error.to_string(), "listen tcp4 203.0.113.7:8080: bind: cannot assign requested address");
    let error = publisher.bind(binding(Protocol::Tcp, with("127.0.0.1", 0))).await.unwrap_err();
    assert_eq!(error.kind(), "invalid");
}

/// What the user may not have is said with what can be done.
#[test]
fn a_privileged_port_comes_with_a_hint() {
    let binding = binding(Protocol::Tcp, with("0.0.0.0", 80));
    let note = Some("a port this low is root's alone".to_owned());
    let source = io::Error::from(io::ErrorKind::PermissionDenied);
    let error = BindError::Kernel { binding, call: "bind", source, note };
    assert_eq!(error.kind(), "not-permitted");
    assert_eq!(
        error.to_string(),
        "listen tcp4 0.0.0.0:80: bind: permission denied; a port this low is root's alone"
    );
}

/// Spec 4.6: a conflict names the holder, in this machine and in others.
#[tokio::test]
async fn a_conflict_between_machines_names_the_holder() {
    let scene = Scene::new();
    let (native, other) = (scene.machine("native"), scene.machine("other"));
    let host = free("127.0.0.1");
    let taken = binding(Protocol::Tcp, host);
    native.bind(taken).await.unwrap();
    says(&scene.record("native"), &host.to_string()).await;
    let error = other.bind(taken).await.unwrap_err().to_string();
    let words = format!("listen tcp4 {host}: bind: address already in use; held by");
    assert_eq!(error, format!("{words} the container at 172.17.0.2 of machine native"));

    let web = Container { id: "f00".to_owned(), name: "web".to_owned() };
    native.containers([(taken.container.ip(), web.clone())]).await;
    assert_eq!(native.list().await[0].container, Some(web));
    says(&scene.record("native"), "web").await;
    let error = other.bind(taken).await.unwrap_err().to_string();
    assert_eq!(error, format!("{words} container web of machine native"));
    let second = Binding { container: ([172, 17, 0, 3], 80).into(), ..taken };
    let error = native.bind(second).await.unwrap_err().to_string();
    assert_eq!(error, format!("{words} container web of machine native"));
}

/// Spec 4.4, 16.3: a machine that stops leaves no listener and no file.
#[tokio::test]
async fn a_machine_that_stops_releases_everything() {
    let scene = Scene::new();
    let publisher = scene.machine("native");
    let (one, two) = (free("127.0.0.1"), free("::1"));
    publisher.bind(binding(Protocol::Tcp, one)).await.unwrap();
    publisher.bind(binding(Protocol::Udp, two)).await.unwrap();
    publisher.stop().await;
    assert!(!scene.record("native").exists());
    assert!(TcpStream::connect(one).is_err());
    UdpSocket::bind(two).unwrap();
    let error = publisher.bind(binding(Protocol::Tcp, one)).await.unwrap_err();
    assert_eq!(error.kind(), "stopping");
}

/// A record that a killed supervisor left behind accuses nobody.
#[test]
fn a_record_of_a_machine_that_is_gone_is_not_believed() {
    let scene = Scene::new();
    let path = scene.record("gone");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let record = |supervisor_pid| Record { machine: "gone".to_owned(), supervisor_pid, ports: Vec::new() };
    for (pid, believed) in [(std::process::id(), true), (0x3fff_ffff, false)] {
        dhow_home::atomic::write(&path, &serde_json::to_vec(&record(pid)).unwrap(), 0o600).unwrap();
        assert_eq!(records::read(&path).is_some(), believed);
    }
}
