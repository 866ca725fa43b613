//! The way itself, with the real program, between two network namespaces: the test's is the host, another is the guest with
//! a container's address. Needs root and `socat`: run with `--run-ignored only`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dhow_model::network::{HOST_INTERFACE, HOST_INTERFACE6};

use super::*;
use crate::gateway::ip::IpPacket;

const INSIDE: &str = "DHOW_TEST_ROUTE";
const CONTAINER: &str = "172.18.0.2";
const CONTAINER6: &str = "fd00:18::2";
const PATIENCE: Duration = Duration::from_secs(10);

/// Stands for the gateway: a datagram socket to the guest's namespace carries its packets.
struct FakeGateway {
    guest: Arc<UnixDatagram>,
    runtime: tokio::runtime::Handle,
    device: Mutex<Option<Arc<Device>>>,
}

impl Carrier for FakeGateway {
    fn carry(&self, device: Option<Arc<Device>>) {
        *self.device.lock().unwrap() = device.clone();
        if let Some(device) = device {
            let guest = Arc::clone(&self.guest);
            let give = move |packet: &[u8]| guest.send(packet).is_ok();
            self.runtime.spawn(async move { device.run(give, async || ()).await });
        }
    }
}

impl FakeGateway {
    fn from_guest(&self, bytes: &[u8]) {
        let device = self.device.lock().unwrap().clone();
        if let (Some(device), Ok(packet)) = (device, IpPacket::parse(bytes)) {
            device.from_guest(&packet);
        }
    }
}

/// What a test starts ends with it.
struct Guest(Vec<Child>);

impl Drop for Guest {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn ip(words: &str) -> String {
    let said = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(said.status.success(), "ip {words}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

fn until(what: &str, fact: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "not in 10 s: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The helper as cargo built it, which `cargo nextest run -p dhow-net` alone does not.
fn helper() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let built = exe.ancestors().nth(2).unwrap().join(dhow_route_helper::PROGRAM);
    assert!(built.is_file(), "cargo build -p dhow-route-helper first: {}", built.display());
    built
}

/// A namespace in which `socat` makes the guest's end and a container's services stand.
fn guest(dir: &Path) -> (Guest, Arc<UnixDatagram>) {
    let (ours, theirs) = (dir.join("host"), dir.join("guest"));
    let socket = UnixDatagram::bind(&ours).unwrap();
    let script = format!(
        "set -e; ip link set lo up
         socat -b 70000 TUN:{CONTAINER}/16,tun-name=eth0,iff-no-pi,iff-up UNIX-SENDTO:{ours},bind={theirs} &
         until ip link show eth0 up 2>/dev/null | grep -q UP; do sleep 0.05; done
         ip link set eth0 mtu 65520
         ip addr add {CONTAINER6}/64 dev eth0 nodad
         ip route add {HOST_INTERFACE} dev eth0
         ip route add {HOST_INTERFACE6} dev eth0
         socat TCP6-LISTEN:80,ipv6only=0,fork,reuseaddr SYSTEM:'cat' &
         socat UDP-RECVFROM:53,fork SYSTEM:'cat' &
         read -r _ || true; kill $(jobs -p)",
        ours = ours.display(),
        theirs = theirs.display()
    );
    let child = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "bash", "-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let guest = Guest(vec![child]);
    until("the guest's end is there", || socket.connect(&theirs).is_ok());
    (guest, Arc::new(socket))
}

/// Issue 3, point 5: containers' own addresses are reachable from the host, and the host is not from them.
#[test]
#[ignore = "needs root"]
fn the_host_reaches_a_container_by_its_own_address_and_no_container_the_host() {
    if std::env::var_os(INSIDE).is_none() {
        let exe = std::env::current_exe().unwrap();
        let test =
            "route::real_tests::the_host_reaches_a_container_by_its_own_address_and_no_container_the_host";
        let mut alone = Command::new("unshare");
        alone.args(["--net", "--mount"]).arg(exe).args(["--exact", test, "--ignored", "--nocapture"]);
        assert!(alone.env(INSIDE, "1").status().unwrap().success());
        return;
    }
    ip("link set lo up");
    let before = ip("addr") + &ip("route show table all");
    let dir = tempfile::tempdir().unwrap();
    let place = Place::below(dir.path());
    place.install(&helper(), 0, "test").unwrap();
    let (guest, socket) = guest(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gateway =
        Arc::new(FakeGateway { guest: socket, runtime: runtime.handle().clone(), device: Mutex::default() });
    let reader = Arc::clone(&gateway);
    std::thread::spawn(move || {
        let mut packet = vec![0; 70_000];
        while let Ok(length) = reader.guest.recv(&mut packet) {
            reader.from_guest(&packet[..length]);
        }
    });

    let route =
        runtime.block_on(async { Route::start(place, Arc::clone(&gateway) as Arc<dyn Carrier>) }).unwrap();
    route.networks(&[
        "172.18.0.0/16".parse().unwrap(),
        "fd00:18::/64".parse().unwrap(),
        "8.8.8.0/24".parse().unwrap(),
    ]);
    until("the route is set", || !route.status().routes.is_empty());
    let status = route.status();
    assert_eq!((status.device.as_deref(), status.refused.len()), (Some("dhow0"), 1), "{status:?}");

    // TCP, by the container's own address, some megabytes both ways.
    let to = |port| SocketAddr::new(CONTAINER.parse().unwrap(), port);
    until("the container's service answers", || TcpStream::connect_timeout(&to(80), PATIENCE).is_ok());
    let mut stream = TcpStream::connect_timeout(&to(80), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), HOST_INTERFACE);
    let sent: Vec<u8> = (0..4_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let mut writer = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());

    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::new(CONTAINER6.parse().unwrap(), 80), PATIENCE).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), HOST_INTERFACE6);
    stream.write_all(b"over IPv6").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    received.clear();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"over IPv6");

    // A datagram and its answer; a port that nobody has; ping.
    let datagram = UdpSocket::bind((HOST_INTERFACE, 0)).unwrap();
    datagram.set_read_timeout(Some(PATIENCE)).unwrap();
    datagram.send_to(b"question", to(53)).unwrap();
    let mut answer = [0; 64];
    assert_eq!(datagram.recv_from(&mut answer).unwrap(), (8, to(53)));
    assert_eq!(
        TcpStream::connect_timeout(&to(81), PATIENCE).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );

    // The container asks for the host's service: nothing arrives, by TCP or UDP, and it is counted.
    let service = TcpListener::bind("0.0.0.0:7000").unwrap();
    service.set_nonblocking(true).unwrap();
    let asked = UdpSocket::bind("0.0.0.0:7000").unwrap();
    asked.set_nonblocking(true).unwrap();
    let pid = guest.0[0].id();
    let script = format!(
        "echo hello | timeout 2 socat - UDP-SENDTO:{HOST_INTERFACE}:7000; timeout 2 socat - TCP:{HOST_INTERFACE}:7000 </dev/null && echo CONNECTED"
    );
    let inside = Command::new("nsenter")
        .args([&format!("--net=/proc/{}/ns/net", child_of(pid)), "bash", "-c", &script])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&inside.stdout).contains("CONNECTED"));
    assert_eq!(service.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(asked.recv_from(&mut answer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let metrics = route.status().metrics;
    assert!(metrics.drops["new_connection"] >= 1 && metrics.drops["unasked"] >= 1, "{metrics:?}");

    // Without trace.
    runtime.block_on(route.stop());
    assert_eq!(ip("addr") + &ip("route show table all"), before);
    println!("{metrics:?}");
}

fn child_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}
