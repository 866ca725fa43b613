//! A guest without a machine: a network namespace whose only way out is a TAP device on the gateway's Unix socket, so that a
//! real kernel's TCP and real programs are the guest. The gateway and its peers run in a second namespace, "the host",
//! with addresses of its own, so that tests disturb neither this computer nor each other.
//!
//! ```text
//!  namespace "guest"                                   namespace "host"
//!  eth0 198.19.68.2, fd64:686f:7700::2   ── frames ──  Gateway ── lo, world0 203.0.113.1, 2001:db8:113::1
//!  lo   172.17.0.2, fd17::2 (a "container")            203.0.113.99 is silent, 192.0.2.0/24 has no route
//! ```
//!
//! It needs root and /dev/net/tun. Without them [`run`] says so and does nothing, unless DHOW_TEST_REQUIRE=1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod stream;
pub mod tap;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dhow_model::egress::Policy;
use dhow_net::dns::{Dns, Names, Upstreams};
use dhow_net::gateway::{Gateway, Handle, Limits, Metrics, Options};
use dhow_net::policy::Egress;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// An address of the host that is not loopback.
pub const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The same in IPv6.
pub const WORLD6: &str = "2001:db8:113::1";
/// An address that never answers.
pub const SILENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
/// The address of a "container" in the guest.
pub const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// The same in IPv6.
pub const CONTAINER6: &str = "fd17::2";

/// What a test may change about the gateway.
pub struct Setup {
    pub host_loopback: bool,
    pub policy: Policy,
    pub limits: Limits,
    pub names: Arc<Names>,
    pub upstreams: Upstreams,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            host_loopback: true,
            policy: Policy::default(),
            limits: Limits::default(),
            names: Names::new(),
            upstreams: Upstreams::fixed(Vec::new()),
        }
    }
}

/// A running gateway with its guest.
pub struct Net {
    pub guest: Namespace,
    pub host: Namespace,
    pub socket: std::path::PathBuf,
    pub names: Arc<Names>,
    gateway: Option<Gateway>,
    wire: Option<tap::Wire>,
    /// Keeps the guest's interface while no hypervisor is connected.
    device: File,
    _directory: tempfile::TempDir,
}

/// Runs a test in the host's namespace, on a runtime of its own. Nothing of it is left afterwards.
pub fn run(setup: Setup, test: impl AsyncFnOnce(&mut Net) + Send) {
    if !available() {
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let (host, guest) = (Namespace::new("h"), Namespace::new("g"));
            host.enter();
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let mut net = Net::new(setup, host, guest);
                test(&mut net).await;
                net.wire = None;
                if let Some(gateway) = net.gateway.take() {
                    gateway.stop().await;
                }
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Whether this process may make namespaces and TAP devices.
pub fn available() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !std::path::Path::new("/dev/net/tun").exists() {
        "/dev/net/tun"
    } else if !Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        "the program ip (package iproute2)"
    } else {
        return true;
    };
    assert!(
        std::env::var_os("DHOW_TEST_REQUIRE").is_none_or(|value| value != "1"),
        "this test needs {missing}, and DHOW_TEST_REQUIRE=1 forbids to skip it"
    );
    eprintln!("skipped: this test needs {missing}");
    false
}

impl Net {
    fn new(setup: Setup, host: Namespace, guest: Namespace) -> Net {
        for command in [
            "ip link set lo up",
            "ip link add world0 type bridge",
            "ip link set world0 up",
            "ip addr add 203.0.113.1/24 dev world0",
            "ip addr add 2001:db8:113::1/64 dev world0 nodad",
            "ip neigh add 203.0.113.99 lladdr 02:00:00:00:00:99 dev world0 nud permanent",
        ] {
            host.sh(command);
        }
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("net.sock");
        let policy = Egress::new(setup.policy).unwrap();
        let options = Options {
            host_loopback: setup.host_loopback,
            policy: policy.clone(),
            dns: Dns::new(setup.names.clone(), setup.upstreams, policy),
            limits: setup.limits,
        };
        let gateway = Gateway::start(UnixListener::bind(&socket).unwrap(), options).unwrap();
        let device = guest.inside(|| tap::open("eth0").unwrap());
        let spare = device.try_clone().unwrap();
        for command in [
            "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
            "sysctl -qw net.ipv6.conf.eth0.accept_ra=0 net.ipv6.conf.eth0.accept_dad=0",
            "sysctl -qw net.ipv4.ping_group_range='0 2147483647'",
            "ip link set lo up",
            "ip link set eth0 address 02:64:68:6f:77:02 mtu 65520",
            "ip link set eth0 up",
            "ip addr add 198.19.68.2/24 dev eth0",
            "ip addr add fd64:686f:7700::2/64 dev eth0 nodad",
            "ip route add default via 198.19.68.1",
            "ip route add default via fd64:686f:7700::1",
            "ip addr add 172.17.0.2/32 dev lo",
            "ip addr add fd17::2/128 dev lo nodad",
        ] {
            guest.sh(command);
        }
        let wire = tap::Wire::new(device, UnixStream::connect(&socket).unwrap()).unwrap();
        Net {
            guest,
            host,
            socket,
            names: setup.names,
            gateway: Some(gateway),
            wire: Some(wire),
            device: spare,
            _directory: directory,
        }
    }

    pub fn handle(&self) -> Handle {
        self.gateway.as_ref().unwrap().handle()
    }

    pub fn metrics(&self) -> Metrics {
        self.handle().metrics()
    }

    pub fn drops(&self, reason: &str) -> u64 {
        self.metrics().drops.get(reason).copied().unwrap_or(0)
    }

    /// Flows of every kind that are open now.
    pub fn flows(&self) -> u64 {
        self.metrics().flows.values().sum()
    }

    /// Takes the hypervisor away: its connection is closed.
    pub fn unplug(&mut self) {
        self.wire = None;
    }

    /// Connects a hypervisor again.
    pub fn plug(&mut self) {
        self.wire = Some(tap::Wire::new(self.device.try_clone().unwrap(), self.connect()).unwrap());
    }

    /// Stops the gateway before the test ends.
    pub async fn stop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await;
        }
    }

    /// Another connection in place of the hypervisor's.
    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }
}

/// A network namespace with a name that no other process uses; removed when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    fn new(kind: &str) -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dhow-{}-{number}{kind}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output().unwrap();
        assert!(made.status.success(), "ip netns add: {}", String::from_utf8_lossy(&made.stderr));
        Namespace { name }
    }

    /// Moves the calling thread here; threads that it starts are here too.
    pub fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Runs a closure on a thread of this namespace.
    pub fn inside<R: Send>(&self, task: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                task()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a closure on a thread of this namespace while the test goes on.
    pub fn spawn<R: Send + 'static>(
        &self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> std::thread::JoinHandle<R> {
        let here = Namespace::clone_name(self);
        std::thread::spawn(move || {
            let namespace = std::mem::ManuallyDrop::new(Namespace { name: here });
            namespace.enter();
            task()
        })
    }

    fn clone_name(&self) -> String {
        self.name.clone()
    }

    /// A program that will run in this namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a line of shell here; it must succeed. Its output.
    pub fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        assert!(
            output.status.success(),
            "{line}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a line of shell here.
    pub fn try_sh(&self, line: &str) -> Output {
        self.command("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

/// Waits until something is so, with a time limit.
pub async fn until(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < limit, "not in {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs blocking code beside the test's runtime.
pub async fn blocking<R: Send + 'static>(task: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(task).await.unwrap()
}

/// The address as it is written in a URL.
pub fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
