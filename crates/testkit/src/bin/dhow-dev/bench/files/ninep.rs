//! A share beside QEMU's own 9p. The machine's kernel, Debian's for clouds, has no driver for 9p, so both are measured in a bare guest
//! of Debian's ordinary kernel and a busybox, which has two directories of the host: one by our file server, one by QEMU.

use std::env::consts::ARCH;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dhow_testkit::{Error, Result, Run, debian, images, place, run};

use super::{ROUNDS, Took, script, times};

/// For the guest to boot, to measure and to go off.
const LIMIT: Duration = Duration::from_secs(900);
/// What the kernel needs as modules, those first that others need.
const MODULES: [&str; 11] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "netfs",
    "9pnet",
    "9pnet_virtio",
    "9p",
    "fuse",
    "virtiofs",
];
/// Before and after the times of one turn in one place, on the console.
const TURN: &str = "@@";

/// Our file server, for as long as this lives.
struct Server {
    child: Child,
    /// Closed, it ends.
    life: UnixStream,
}

impl Drop for Server {
    fn drop(&mut self) {
        run::kill(&mut self.child);
    }
}

/// Each step's times, of the share first.
pub fn measure() -> Result<Took> {
    let dir = tempfile::tempdir_in("/var/tmp").map_err(Error::io("create directory in", "/var/tmp"))?;
    let dir = dir.path();
    let (shared, nine) = (dir.join("shared"), dir.join("nine"));
    for path in [&shared, &nine] {
        fs::create_dir(path).map_err(Error::io("create directory", path))?;
    }
    let kernel = debian::tree("kernel-with-9p", &[&format!("linux-image-{}", images::native())])?;
    let initrd = initrd(dir, &kernel)?;
    let socket = dir.join("share.sock");
    let server = serve(&shared, &socket)?;
    let said = guest(&find(&kernel.join("boot"), "vmlinuz-")?, &initrd, &socket, &nine)?;
    drop(server);
    let mut took = Took::default();
    let turns: Vec<&str> = said.split(TURN).collect();
    // What is between the marks, and what the kernel says around them.
    for (number, turn) in turns.iter().skip(1).step_by(2).enumerate() {
        took.add(number % 2, &times(turn)?);
    }
    match turns.len() {
        count if count == 4 * ROUNDS + 1 => Ok(took),
        _ => Err(Error::Missing { what: format!("{ROUNDS} turns on both in {said}"), hint: String::new() }),
    }
}

/// `dhow serve-shares`, as a supervisor starts it.
fn serve(shared: &Path, socket: &Path) -> Result<Server> {
    let listener = UnixListener::bind(socket).map_err(Error::io("listen on", socket))?;
    let (life, theirs) = UnixStream::pair().map_err(Error::io("connect", socket))?;
    let mut command = Command::new(place::dhow()?);
    command.args(["serve-shares", "read-write"]).arg(shared);
    command.stdin(OwnedFd::from(listener)).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
    let child = run::spawn(&mut command)?;
    let server = Server { child, life };
    server.life.set_read_timeout(Some(Duration::from_secs(20))).map_err(Error::io("connect", socket))?;
    let mut line = String::new();
    BufReader::new(&server.life).read_line(&mut line).map_err(Error::io("wait for the server of", shared))?;
    Ok(server)
}

/// Boots the guest, which measures and goes off: what it said.
fn guest(kernel: &Path, initrd: &Path, socket: &Path, nine: &Path) -> Result<String> {
    let (machine, console) = if ARCH == "x86_64" { ("q35", "ttyS0") } else { ("virt", "ttyAMA0") };
    let run = Run::new(format!("qemu-system-{ARCH}"))
        .args(["-machine", &format!("{machine},accel=tcg,memory-backend=memory")])
        .args(["-object", "memory-backend-memfd,id=memory,size=1024M,share=on", "-m", "1024"])
        .args([
            "-cpu",
            "max",
            "-smp",
            "2",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &format!("console={console} quiet rdinit=/init panic=-1")])
        .args(["-chardev", &format!("socket,id=share,path={}", socket.display())])
        .args(["-device", "vhost-user-fs-pci,chardev=share,tag=dhow-shares,queue-size=1024"])
        .args(["-fsdev", &format!("local,id=nine,path={},security_model=none", nine.display())])
        .args(["-device", "virtio-9p-pci,fsdev=nine,mount_tag=nine"]);
    Ok(run.limit(LIMIT).ok()?.text())
}

/// A busybox, the modules, and an init that measures.
fn initrd(dir: &Path, kernel: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    for name in ["bin", "modules", "proc", "sys", "dev", "all", "nine"] {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(Error::io("create directory", &path))?;
    }
    let busybox = debian::tree("busybox", &["busybox-static"])?.join("usr/bin/busybox");
    copy(&busybox, &root.join("bin/busybox"))?;
    let known = modules(&find(&kernel.join("usr/lib/modules"), "")?)?;
    for (number, name) in MODULES.iter().enumerate() {
        // What is no module is built in.
        if let Some(path) = known.iter().find(|path| module(path) == *name) {
            let bytes = Run::new("xz").args(["-dc"]).arg(path).ok()?.stdout;
            place::write(&root.join(format!("modules/{number:02}-{name}.ko")), bytes)?;
        }
    }
    let init = root.join("init");
    place::write(&init, init_script())?;
    Run::new("chmod").args(["755"]).arg(&init).ok()?;
    let names = Run::new("find").arg(".").dir(&root).ok()?.stdout;
    let packed = Run::new(&busybox).args(["cpio", "-o", "-H", "newc"]).dir(&root).input(names).ok()?.stdout;
    let initrd = dir.join("initrd");
    place::write(&initrd, packed)?;
    Ok(initrd)
}

fn init_script() -> String {
    // Without a mount the guest's own memory would be measured: it goes off, and the turns are missed.
    let mut script = "#!/bin/busybox sh\nexport PATH=/bin; /bin/busybox --install -s /bin\n\
        mount -t devtmpfs dev /dev; exec >/dev/console 2>&1; mount -t proc proc /proc\n\
        for module in /modules/*; do insmod $module; done\n\
        mount -t virtiofs dhow-shares /all || poweroff -f\n\
        mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072,cache=mmap nine /nine || poweroff -f\n"
        .to_owned();
    for _ in 0..ROUNDS {
        for place in ["/all/0", "/nine"] {
            script.push_str(&format!("echo {TURN}; ({}); echo {TURN}\n", self::script(place)));
        }
    }
    script.push_str("poweroff -f\n");
    script
}

/// Every module below a directory.
fn modules(below: &Path) -> Result<Vec<PathBuf>> {
    let said = Run::new("find").arg(below).args(["-name", "*.ko.xz"]).ok()?.text();
    Ok(said.lines().map(PathBuf::from).collect())
}

/// A module's name, in which `-` and `_` are the same.
fn module(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
    name.trim_end_matches(".ko.xz").to_owned()
}

fn find(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let said = Run::new("find").arg(directory).args(["-mindepth", "1", "-maxdepth", "1", "-name"]);
    let said = said.arg(format!("{prefix}*")).ok()?.text();
    said.lines().next().map(PathBuf::from).ok_or_else(|| Error::Missing {
        what: format!("{prefix}* in {}", directory.display()),
        hint: String::new(),
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
}
