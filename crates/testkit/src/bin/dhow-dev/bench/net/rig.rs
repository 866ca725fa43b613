//! One machine on three networks at once: Dhow's own, and as further interfaces QEMU's user network and passt. The same
//! container answers on all of them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use dhow_testkit::{Engine, Error, Image, Result, Run, Server, place, run, serve, wait};
use tempfile::TempDir;

use super::load;
use super::passt::{self, Passt};
use super::ssh;
use super::table::OWN;
use super::ways::{Service, Way};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 68, 254);
const USER_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 2);
const USER_GUEST: &str = "10.0.3.15";

/// In the container that is measured.
const SERVE: &str = "echo 'access_log off; keepalive_requests 1000000; server { listen 8080; return 200 ok; }' \
                     > /etc/nginx/conf.d/bench.conf; nginx; \
                     socat TCP-LISTEN:5007,fork,reuseaddr,nodelay PIPE & exec iperf3 -s -p 5201";

/// In a container on the guest's own network, which gives the two further interfaces their addresses.
const SERVE_OUTER: &str = "ip address add 10.0.3.15/24 dev eth1 && ip link set eth1 up; \
                           ip address add 10.0.4.15/24 dev eth2 && ip link set eth2 mtu 65520 up; \
                           socat TCP-LISTEN:5107,fork,reuseaddr,nodelay PIPE & exec iperf3 -s -p 5301";

/// All devices interrupt the same virtual processor with their first queues. The kernel spreads them, and a packet that comes in where
/// its program does not run costs waking the other processor, so that the order of the devices would decide over round trips. A further
/// queue stays with the processor that it is for.
const INTERRUPTS: &str =
    "for device in /proc/irq/*/virtio*-input.0; do echo 1 > ${device%/*}/smp_affinity || exit; done";

/// The machine, the ways to its container, and what runs beside it.
pub struct Rig {
    /// The ways that answer.
    pub ways: Vec<Way>,
    /// Those that do not, and why.
    pub absent: Vec<String>,
    /// QEMU's process ID.
    pub hypervisor: u32,
    /// Where `iperf3 -s` of the host listens.
    pub throughput: u16,
    /// Answers `redis-benchmark` on the host's loopback.
    pub pong: Server,
    /// Where the host is told containers' names.
    pub names: u16,
    // Dropped in this order: the machine before what it is connected to.
    engine: Engine,
    passt: Option<Passt>,
    children: Children,
    dir: TempDir,
}

/// Ended when the bench ends, however that comes.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(run::kill);
    }
}

impl Rig {
    /// Boots it, and waits until each way answers or is given up.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("dhow-bench-")
            .tempdir_in("/var/tmp")
            .map_err(Error::io("create directory in", "/var/tmp"))?;
        let own = Way::new(OWN, Some(HOST), &[Service::INNER, Service::OUTER].concat()[..5])?;
        let user = Way::new("user", Some(USER_HOST), &[Service::INNER, Service::OUTER].concat())?;
        let other = Way::new("passt", Some(passt::HOST), &[Service::INNER, Service::OUTER].concat()[..5])?;
        let mut children = Children(Vec::new());
        let mut absent = Vec::new();
        let passt =
            Passt::start(dir.path(), &other).map_err(|error| absent.push(format!("passt: {error}"))).ok();
        let socket = passt.as_ref().map(|_| Passt::socket(dir.path()));
        let path = wrapped_qemu(dir.path(), &user, socket.as_deref())?;
        let engine = Engine::prepare()?;
        let names = free_port()?;
        engine.dhow(["config", "set", "dns.port", &names.to_string()])?.ok()?;
        Run::from(engine.command()?).env("PATH", path).arg("up").limit(Duration::from_secs(180)).ok()?;
        let status = engine.status()?;
        own.carrier.set(status.supervisor());
        let hypervisor = status.hypervisor().ok_or_else(|| missing("the hypervisor's process ID"))?;
        serve_on(&engine, &own)?;
        let throughput = host_throughput(&mut children)?;
        let pong = Server::pong(serve::V4)?;
        let mut rig = Self {
            ways: Vec::new(),
            absent,
            hypervisor,
            throughput,
            pong,
            engine,
            passt,
            children,
            names,
            dir,
        };
        rig.admit(own);
        rig.admit(user);
        if rig.passt.is_some() {
            rig.admit(other);
        }
        rig.forward_over_ssh()?;
        Ok(rig)
    }

    /// A place for files, gone with the bench.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command in the container that is measured.
    pub fn inside(&self, args: &[&str]) -> Run {
        self.engine.docker().run(["exec", "inner"]).args(args)
    }

    /// Sees that a way still leads somewhere.
    pub fn tend(&self, way: &Way) -> Result<()> {
        let answers = || way.to(Service::Echo).is_some_and(|to| load::round_trip(to).is_ok());
        match &self.passt {
            Some(passt) if way.outward == Some(passt::HOST) => passt.tend(way, answers),
            _ => Ok(()),
        }
    }

    /// How often passt crashed.
    pub fn crashes(&self) -> u32 {
        self.passt.as_ref().map(Passt::crashes).unwrap_or_default()
    }

    /// Takes a way in once it has carried a byte there and back.
    fn admit(&mut self, way: Way) -> bool {
        let mut last = Error::NeverCame { what: "an address".to_owned(), limit: Duration::ZERO };
        let answers = wait::until("an answer", Duration::from_secs(20), || {
            let to = way.to(Service::Echo)?;
            load::round_trip(to).map_err(|error| last = error).ok()
        });
        match answers {
            Ok(_) => self.ways.push(way),
            Err(_) => self.absent.push(format!("{}: {last}", way.name)),
        }
        answers.is_ok()
    }

    /// `ssh -L` to an sshd in the guest, over QEMU's user network: how other engines forward ports.
    fn forward_over_ssh(&mut self) -> Result<()> {
        let Some(user) = self.ways.iter().find(|way| way.name == "user") else { return Ok(()) };
        let Some(shell) = user.to(Service::Shell) else { return Ok(()) };
        let target = self.engine.docker().ok(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "inner"])?;
        let way = Way::new("ssh -L", None, &Service::INNER)?;
        match ssh::start(self.dir.path(), &self.engine, shell.port(), &target, &way) {
            Ok(child) => {
                way.carrier.set(Some(child.id()));
                self.children.0.push(child);
                self.admit(way);
            }
            Err(error) => self.absent.push(format!("ssh -L: {error}")),
        }
        Ok(())
    }
}

/// Starts both containers and leads the two further networks to the first.
fn serve_on(engine: &Engine, own: &Way) -> Result<()> {
    let docker = engine.docker();
    let (debian, busybox) = (Image::Debian.ensure(docker)?, Image::Busybox.ensure(docker)?);
    let publish: Vec<String> =
        own.forwards().map(|(host, inner)| format!("--publish=127.0.0.1:{host}:{inner}")).collect();
    let start = docker.run(["run", "-d", "--name", "inner"]).args(publish);
    start.args([debian, "sh", "-c", SERVE]).ok()?;
    let outer = ["run", "-d", "--name", "outer", "--privileged", "--network", "host", debian, "sh", "-c"];
    docker.run(outer).arg(SERVE_OUTER).ok()?;
    let address = docker.ok(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "inner"])?;
    let mut rules = Vec::new();
    for port in Service::INNER.map(Service::port) {
        for interface in ["eth1", "eth2"] {
            rules.push(format!("-i {interface} -p tcp --dport {port} -j DNAT --to {address}:{port}"));
        }
    }
    // A published port leads to a container; these lead on to the guest's own network.
    for port in [Service::GuestThroughput, Service::GuestEcho].map(Service::port) {
        rules.push(format!("-i eth0 -d {address} -p tcp --dport {port} -j DNAT --to 198.19.68.2:{port}"));
    }
    let script: String = rules
        .iter()
        .map(|rule| format!("nsenter -t 1 -m -n iptables -t nat -I PREROUTING {rule} && "))
        .chain([INTERRUPTS.to_owned()])
        .collect();
    let enter = ["run", "--rm", "--privileged", "--pid=host", busybox, "sh", "-c"];
    docker.run(enter).arg(script).ok().map(drop)
}

/// A `PATH` whose QEMU adds the further networks when it is to start a machine. Dhow asks it for its version, too.
fn wrapped_qemu(dir: &Path, user: &Way, passt: Option<&Path>) -> Result<std::ffi::OsString> {
    let program = format!("qemu-system-{}", std::env::consts::ARCH);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let real = std::env::split_paths(&path)
        .map(|dir| dir.join(&program))
        .find(|path| path.is_file())
        .ok_or_else(|| missing(&program))?;
    let forwards: String = user
        .forwards()
        .map(|(host, inner)| format!(",hostfwd=tcp:127.0.0.1:{host}-{USER_GUEST}:{inner}"))
        .collect();
    let mut more =
        format!("-netdev user,id=u,net=10.0.3.0/24{forwards} -device virtio-net-pci,netdev=u,romfile=");
    if let Some(socket) = passt {
        more += &format!(
            " -netdev stream,id=p,server=off,addr.type=unix,addr.path={},reconnect-ms=500 -device virtio-net-pci,netdev=p,romfile=",
            socket.display()
        );
    }
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n*' -netdev '*) exec '{0}' \"$@\" {more} ;;\nesac\nexec '{0}' \"$@\"\n",
        real.display()
    );
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).map_err(Error::io("create directory", &bin))?;
    let wrapper = bin.join(&program);
    place::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("make executable", &wrapper))?;
    std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))
        .map_err(|error| Error::Unexpected { what: "PATH".to_owned(), said: error.to_string() })
}

/// `iperf3 -s` on the host's loopback.
fn host_throughput(children: &mut Children) -> Result<u16> {
    let port = free_port()?;
    let number = port.to_string();
    children.0.push(Run::new("iperf3").args(["-s", "-B", "127.0.0.1", "-p", &number]).start()?);
    wait::until("iperf3 to listen", Duration::from_secs(5), || TcpStream::connect(("127.0.0.1", port)).ok())?;
    Ok(port)
}

fn free_port() -> Result<u16> {
    let at = "127.0.0.1:0";
    let listener = TcpListener::bind(at).map_err(Error::io("listen on", at))?;
    Ok(listener.local_addr().map_err(Error::io("ask for", at))?.port())
}

/// Something of the host's is not there.
pub fn missing(what: &str) -> Error {
    Error::Missing { what: what.to_owned(), hint: "./dev bench installs what it needs".to_owned() }
}

/// A program of the host's.
pub fn installed(program: &str) -> Result<PathBuf> {
    let places =
        ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin"].map(|place| Path::new(place).join(program));
    places.into_iter().find(|path| path.exists()).ok_or_else(|| missing(program))
}
