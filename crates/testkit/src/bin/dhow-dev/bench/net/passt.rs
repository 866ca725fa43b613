//! passt, from Debian 13's packages, as one more network of the machine that is measured.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use dhow_testkit::{Error, Result, debian, run, tools, wait};

use super::ways::Way;

/// Stands for the host's loopback on this network.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 2);
/// The guest's address on it.
const GUEST: &str = "10.0.4.15";

/// passt, started again when it crashes; QEMU connects again by itself. Dropping it ends it.
pub struct Passt {
    child: RefCell<Child>,
    dir: PathBuf,
    crashes: Cell<u32>,
}

impl Passt {
    /// Where it waits for QEMU.
    pub fn socket(dir: &Path) -> PathBuf {
        dir.join("passt.sock")
    }

    /// Starts it with `way`'s forwards; its files are in `dir`.
    pub fn start(dir: &Path, way: &Way) -> Result<Self> {
        let child = spawn(dir, way)?;
        way.carrier.set(Some(child.id()));
        Ok(Self { child: RefCell::new(child), dir: dir.to_path_buf(), crashes: Cell::new(0) })
    }

    /// Starts it again if it has ended; then `answers` must come true.
    pub fn tend(&self, way: &Way, answers: impl Fn() -> bool) -> Result<()> {
        if !matches!(self.child.borrow_mut().try_wait(), Ok(Some(_))) {
            return Ok(());
        }
        self.crashes.set(self.crashes.get() + 1);
        let socket = Self::socket(&self.dir);
        std::fs::remove_file(&socket).map_err(Error::io("remove", &socket))?;
        let child = spawn(&self.dir, way)?;
        way.carrier.set(Some(child.id()));
        *self.child.borrow_mut() = child;
        wait::until("passt to answer again", Duration::from_secs(30), || answers().then_some(()))
    }

    /// How often it ended by itself.
    pub fn crashes(&self) -> u32 {
        self.crashes.get()
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        run::kill(self.child.get_mut());
    }
}

fn spawn(dir: &Path, way: &Way) -> Result<Child> {
    let socket = Passt::socket(dir);
    let tree = debian::tree("passt", &["base-files", "passt"])?;
    // It looks for its variant for newer processors beside itself, where the C library's loader is.
    let wide = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains(" avx2");
    let script = dir.join("passt");
    tools::wrap(&tree, if wide { "usr/bin/passt.avx2" } else { "usr/bin/passt" }, &script)?;
    let log = dir.join("passt.log");
    let file = std::fs::File::create(&log).map_err(Error::io("create", &log))?;
    let too = file.try_clone().map_err(Error::io("open again", &log))?;
    let mut command = std::process::Command::new(&script);
    command.args(["--foreground", "--stderr", "--socket"]).arg(&socket);
    command.args([
        "--address",
        GUEST,
        "--netmask",
        "24",
        "--gateway",
        &HOST.to_string(),
        "--udp-ports",
        "none",
    ]);
    for (host, inner) in way.forwards() {
        command.args(["--tcp-ports", &format!("127.0.0.1/{host}:{inner}")]);
    }
    if dhow_testkit::run::Run::new("id").arg("-u").ok()?.text() == "0" {
        // As "nobody" it could not open what it has just been given.
        command.args(["--runas", "0:0"]);
    }
    command.stdin(std::process::Stdio::null()).stdout(file).stderr(too);
    let mut child = run::spawn(&mut command)?;
    let listens = || (socket.exists() || child.try_wait().ok().flatten().is_some()).then_some(());
    wait::until("passt to listen", Duration::from_secs(10), listens)?;
    if socket.exists() {
        return Ok(child);
    }
    run::kill(&mut child);
    Err(Error::Unexpected {
        what: "passt".to_owned(),
        said: std::fs::read_to_string(&log).unwrap_or_default(),
    })
}
