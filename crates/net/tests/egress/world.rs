//! The world beyond the host, programs of the guest's, and what this process logs.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use dhow_model::Config;
use dhow_model::egress::Policy;
use dhow_net::dns::Upstreams;

use crate::common::{Net, Setup, run, until};

/// The policy of a `[network]` section.
pub fn policy(section: &str) -> Policy {
    Config::parse(&format!("[network]\n{section}")).unwrap().network.policy()
}

/// The programs that a test needs; without them it says so and does nothing.
pub fn programs() -> bool {
    let missing = ["curl", "openssl", "python3", "dig", "unshare"].into_iter().find(|program| {
        !std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
    });
    let Some(missing) = missing else { return true };
    assert!(
        std::env::var_os("DHOW_TEST_REQUIRE").is_none_or(|value| value != "1"),
        "this test needs {missing}, and DHOW_TEST_REQUIRE=1 forbids to skip it"
    );
    eprintln!("skipped: this test needs {missing}");
    false
}

/// Runs a test with the world around it.
pub fn with_world(section: &str, test: impl AsyncFnOnce(&mut Net, &World) + Send) {
    if !programs() {
        return;
    }
    let upstreams = Upstreams::fixed(vec!["203.0.113.53:53".parse().unwrap()]);
    let setup = Setup { policy: policy(section), upstreams, ..Setup::default() };
    run(setup, async |net| {
        let world = World::new(net).await;
        test(net, &world).await;
    });
}

/// A line of shell where this thread is; it must succeed.
fn sh(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What is beyond the host: a namespace of its own on the host's bridge, and a service of the host's.
pub struct World {
    namespace: String,
    processes: Vec<Child>,
    directory: tempfile::TempDir,
}

/// The world's addresses.
const PLACES: [&str; 9] = [
    "93.184.215.14/32",
    "93.184.215.15/32",
    "10.9.8.7/32",
    "169.254.169.254/32",
    "2606:2800:21f::14/128",
    "fd00:ec2::254/128",
    "64:ff9b::a09:807/128",
    "2002:a09:807::1/128",
    "fd12:3456::7/128",
];

impl World {
    async fn new(net: &Net) -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("dhow-{}-{}w", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir().unwrap();
        let mut world = World { namespace, processes: Vec::new(), directory };
        let name = world.namespace.clone();
        let path = |name: &str| world.path(name).display().to_string();
        // Not by `ip netns exec`, whose mounts nobody else would see; this thread is in the host's namespace anyhow.
        sh(&format!("ip netns add {name} && ip link add w0 type veth peer name eth0 netns {name}"));
        sh("ip link set w0 master world0 up");
        sh(&format!("ip -n {name} link set lo up && ip -n {name} link set eth0 up"));
        sh(&format!("ip -n {name} addr add 203.0.113.53/24 dev eth0"));
        sh(&format!("ip -n {name} addr add 2001:db8:113::53/64 dev eth0 nodad"));
        for place in PLACES {
            let nodad = if place.contains(':') { "nodad" } else { "" };
            sh(&format!("ip -n {name} addr add {place} dev eth0 {nodad} && ip route add {place} dev world0"));
        }
        sh(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=world \
             -addext 'subjectAltName=DNS:good.example,DNS:*.good.example,DNS:evil.example' -keyout {} -out {} 2>&1",
            path("key.pem"),
            path("cert.pem")
        ));
        std::fs::File::create(path("resolv.conf")).unwrap().write_all(b"nameserver 198.19.68.1\n").unwrap();
        let script = include_str!("world.py");
        let arguments = ["-c", script, &path("cert.pem"), &path("key.pem"), &path("log")];
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &name, "python3"]).args(arguments).arg("world");
        let mut here = net.host.command("python3");
        here.args(arguments).arg("host");
        for mut command in [there, here] {
            world.processes.push(command.stdin(Stdio::null()).spawn().unwrap());
        }
        let ready = || world.log().lines().filter(|line| *line == "ready").count() == 2;
        until("the world is there", Duration::from_secs(20), ready).await;
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Whether a line of the world's log begins like this.
    pub fn saw(&self, beginning: &str) -> bool {
        self.log().lines().any(|line| line.starts_with(beginning))
    }

    pub fn forget(&self) {
        std::fs::File::create(self.path("log")).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().ok();
            process.wait().ok();
        }
        Command::new("ip").args(["netns", "del", &self.namespace]).status().ok();
    }
}

/// A line of shell in the guest, whose resolver is the gateway; without the host's proxies.
pub fn guest(net: &Net, world: &World, line: &str) -> Output {
    let resolver = world.path("resolv.conf").display().to_string();
    let mut command = net.guest.command("unshare");
    command.args(["-m", "sh", "-c", &format!("mount --bind {resolver} /etc/resolv.conf && {line}")]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("CURL_CA_BUNDLE", world.path("cert.pem"));
    command.stdin(Stdio::null()).output().unwrap()
}

/// Whether curl got an answer; its errors if not.
pub fn curl(net: &Net, world: &World, arguments: &str) -> Result<(), String> {
    let output = guest(net, world, &format!("curl -sS -m 8 {arguments}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() && text(&output.stdout).contains("welcome") {
        return Ok(());
    }
    Err(text(&output.stderr) + &text(&output.stdout))
}

pub fn dig(net: &Net, world: &World, arguments: &str) -> String {
    let output = guest(net, world, &format!("dig +tries=1 +time=4 {arguments}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What this process logs, in memory.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// One for the process; tests look for lines that only they can cause.
    pub fn start() -> Log {
        static START: Once = Once::new();
        static LOG: Mutex<Option<Log>> = Mutex::new(None);
        START.call_once(|| {
            let log = Log::default();
            let writer = log.clone();
            *LOG.lock().unwrap() = Some(log);
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
        });
        LOG.lock().unwrap().clone().unwrap()
    }

    /// The lines of denials.
    pub fn denials(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| line.contains(" egress: "))
            .map(str::to_owned)
            .collect()
    }

    pub async fn tells(&self, words: &[&str]) {
        let found = || self.denials().iter().any(|line| words.iter().all(|word| line.contains(word)));
        for _ in 0..200 {
            if found() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no line with {words:?} in\n{}", self.denials().join("\n"));
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
