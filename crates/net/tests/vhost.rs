//! The network device on a guest's own memory, with a real guest: Debian's kernel and a busybox, booted by the command line
//! that machines have.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test: a panic is its report, and its own threads may block"
)]

use std::fs;
use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dhow_assets::guest::modules::Modules;
use dhow_assets::image::cpio;
use dhow_assets::image::tree::{Content, Tree};
use dhow_hypervisor::{
    ChannelDevice, Hardware, Hypervisor as _, Network, Origin, Output, Qemu, Running, cmdline,
};
use dhow_model::egress::Policy;
use dhow_model::{Accelerator, Arch, MachineName, Size, network};
use dhow_net::dns::{Dns, Names, Upstreams};
use dhow_net::gateway::{Gateway, Limits, Listener, Options};
use dhow_net::policy::Egress;

/// A guest under emulation, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(120);
/// Fetches a file from the host, then serves it.
const INIT: &str = "#!/bin/busybox sh
PATH=/bin; /bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t devtmpfs dev /dev; mount -t tmpfs www /www
for module in /modules/*; do insmod $module; done
ip link set lo up; ip link set eth0 mtu 65520 up; ip address add 198.19.68.2/24 dev eth0
ip route add default via 198.19.68.1
wget -q -O /www/file http://198.19.68.254:PORT/ || echo FAILED
httpd -p 80 -h /www
echo SERVING
sleep 1000
";

/// Issue 3: Ethernet frames "from the hypervisor into a user-space TCP/IP stack", TCP both ways.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots a guest: cargo nextest run -p dhow-net --test vhost --run-ignored only"]
async fn a_guest_fetches_a_file_over_its_own_memory_and_gives_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let content: Vec<u8> =
        (0..16_u32 << 20).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let port = serve(content.clone());
    let socket = directory.path().join("net.sock");
    let gateway = gateway(&socket);

    let (console, lines) = mpsc::channel();
    let _machine = boot(directory.path(), socket, port, console).await;
    let said = tokio::task::spawn_blocking(move || until(&lines, "SERVING")).await.unwrap();
    assert!(!said.contains("FAILED"), "{said}");

    let (client, published) = pair();
    let target = (network::GUEST, 80).into();
    let handle = gateway.handle();
    handle.tcp(published, client.local_addr().unwrap(), target).await;
    let got = tokio::task::spawn_blocking(move || get(client)).await.unwrap();
    assert!(got.ends_with(&content), "{} bytes came", got.len());

    let metrics = handle.metrics();
    assert!(metrics.bytes_to_guest > content.len() as u64 && metrics.bytes_from_guest > content.len() as u64);
    assert_eq!(metrics.drops.get("broken_ring"), None, "{metrics:?}");
    gateway.stop().await;
}

fn gateway(socket: &Path) -> Gateway {
    let policy = Egress::new(Policy::default()).unwrap();
    let dns = Dns::new(Names::new(), Upstreams::fixed(Vec::new()), policy.clone());
    let options = Options { host_loopback: true, policy, dns, limits: Limits::default() };
    Gateway::start(Listener::VhostUser(UnixListener::bind(socket).unwrap()), options).unwrap()
}

async fn boot(directory: &Path, socket: PathBuf, port: u16, console: mpsc::Sender<u8>) -> Box<dyn Running> {
    let packages = dhow_testkit::debian::tree("kernel", &["linux-image-cloud-amd64"]).unwrap();
    let packed = fs::read(find(&packages.join("boot"), "vmlinuz-")).unwrap();
    let kernel = dhow_assets::guest::kernel::extract(&packed, "vmlinuz", Arch::Amd64).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut packed = Vec::new();
    cpio::write(&initrd(&find(&packages.join("usr/lib/modules"), ""), port), &mut packed).unwrap();
    let hardware = Hardware {
        arch: Arch::Amd64,
        accelerator: Accelerator::Tcg,
        cpus: 2,
        memory: Size::mib(512),
        kernel: file("kernel", &kernel),
        initrd: file("initrd", &packed),
        cmdline: cmdline(Arch::Amd64, Accelerator::Tcg),
        disks: Vec::new(),
        channel: ChannelDevice::Serial(directory.join("channel.sock")),
        boot_config: file("boot.json", b"{}"),
        network: Network::VhostUser { socket, mac: network::GUEST_MAC },
        shares: Vec::new(),
        qmp: directory.join("qmp.sock"),
        name: MachineName::native(),
    };
    let output = Output { console: Box::new(Lines(console)), log: Box::new(std::io::stderr()) };
    Qemu::find(Arch::Amd64).unwrap().start(&hardware, output, Vec::new(), None, Origin::Boot).await.unwrap()
}

fn initrd(modules: &Path, port: u16) -> Tree {
    let busybox = dhow_testkit::debian::tree("busybox", &["busybox-static"]).unwrap().join("usr/bin/busybox");
    let mut tree = Tree::default();
    tree.insert("init", 0o755, Content::file(INIT.replace("PORT", &port.to_string()).into_bytes()));
    tree.insert("bin/busybox", 0o755, Content::file(fs::read(busybox).unwrap()));
    for directory in ["proc", "dev", "www"] {
        tree.directory(directory);
    }
    tree.insert("dev/console", 0o600, Content::Character { major: 5, minor: 1 });
    let mut kept = Tree::default();
    for name in ["net/core/failover.ko.xz", "drivers/net/net_failover.ko.xz", "drivers/net/virtio_net.ko.xz"]
    {
        let path = modules.join("kernel").join(name);
        kept.file(
            &format!("modules/{}", path.file_name().unwrap().to_str().unwrap()),
            fs::read(&path).unwrap(),
        );
    }
    let order = Modules::unpack(&mut kept, "modules").unwrap();
    for (number, module) in order.in_order(&["virtio_net"]).into_iter().enumerate() {
        let bytes = kept.bytes(&module.path).unwrap();
        tree.file(&format!("modules/{number}-{}.ko", module.name), bytes.as_slice());
    }
    tree
}

fn find(directory: &Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
    entries.into_iter().find(named).unwrap_or_else(|| panic!("no {prefix} in {}", directory.display()))
}

/// Answers each request on the host's loopback with this content.
fn serve(content: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
            let asked = client.read(&mut [0; 4096]);
            drop(
                asked
                    .and_then(|_| client.write_all(head.as_bytes()))
                    .and_then(|()| client.write_all(&content)),
            );
        }
    });
    port
}

/// A connection: a client's end and the one that a published port accepted.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn get(mut client: TcpStream) -> Vec<u8> {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /file HTTP/1.0\r\n\r\n").unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    got
}

/// What the console says, byte by byte.
struct Lines(mpsc::Sender<u8>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = bytes.iter().any(|byte| self.0.send(*byte).is_err());
        if gone { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn until(console: &mpsc::Receiver<u8>, last: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let mut said = String::new();
    while !said.contains(last) {
        let left = end.saturating_duration_since(Instant::now());
        match console.recv_timeout(left) {
            Ok(byte) => said.push(char::from(byte)),
            Err(error) => panic!("{error}; the guest said: {said}"),
        }
    }
    said
}
