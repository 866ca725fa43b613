//! passt, from Debian 13's packages, as one more network of the machine that is measured.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use dhow_testkit::{Error, Result, debian, run, tools, wait};

use super::ways::Way;

/// Starts passt with `way`'s forwards; it waits on `socket` for QEMU. Its log lies beside.
pub fn start(dir: &Path, socket: &Path, way: &Way, addresses: [&str; 2]) -> Result<Child> {
    let tree = debian::tree("passt", &["base-files", "passt"])?;
    // It looks for its variant for newer processors beside itself, where the C library's loader is.
    let wide = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains(" avx2");
    let script = dir.join("passt");
    tools::wrap(&tree, if wide { "usr/bin/passt.avx2" } else { "usr/bin/passt" }, &script)?;
    let [guest, gateway] = addresses;
    let log = dir.join("passt.log");
    let file = std::fs::File::create(&log).map_err(Error::io("create", &log))?;
    let too = file.try_clone().map_err(Error::io("open again", &log))?;
    let mut command = std::process::Command::new(&script);
    command.args(["--foreground", "--stderr", "--socket"]).arg(socket);
    command.args(["--address", guest, "--netmask", "24", "--gateway", gateway, "--udp-ports", "none"]);
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
