//! Kernel settings that an engine wants, and the cgroup controllers that containers are limited by.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use crate::{Error, Result, console};

/// Settings below /proc/sys. Containers share these, so the limits that single programs run into are raised.
const SETTINGS: &[(&str, &str)] = &[
    ("kernel/randomize_va_space", "2"),
    ("kernel/keys/maxkeys", "20000"),
    ("kernel/keys/maxbytes", "2000000"),
    ("kernel/pid_max", "4194304"),
    ("kernel/panic", "1"),
    ("kernel/panic_on_oops", "1"),
    ("fs/file-max", "1048576"),
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/aio-max-nr", "1048576"),
    ("vm/max_map_count", "1048576"),
    ("vm/overcommit_memory", "1"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

/// The path of `kernel.randomize_va_space` (spec 1.8).
pub const RANDOMIZE: &str = "/proc/sys/kernel/randomize_va_space";

/// The services' cgroup. dockerd looks into its own for what the kernel can limit, and the root's shows too little.
pub const ENGINE_CGROUP: &str = "/sys/fs/cgroup/dhow";

/// Sets everything and checks what must be so; answers what a reader may want to know. A setting that this kernel does
/// not have is none that it needs.
pub fn apply() -> Result<String> {
    for (name, value) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        if let Err(error) = poke(&path, value) {
            console::line(format!("dhow: {} was not set to {value}: {error}", path.display()));
        }
    }
    controllers(Path::new("/sys/fs/cgroup"))?;
    fs::create_dir(ENGINE_CGROUP).map_err(Error::file("make", ENGINE_CGROUP))?;
    Ok(format!("kernel.randomize_va_space={}", randomize_va_space()))
}

/// How far the kernel randomizes address spaces: 2, or FEX's allocator fails at random (spec 1.8). 0 when it cannot be
/// read.
#[must_use]
pub fn randomize_va_space() -> u32 {
    fs::read_to_string(RANDOMIZE).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Hands every controller that the kernel has down to the root's children.
fn controllers(cgroup: &Path) -> Result<()> {
    let available = cgroup.join("cgroup.controllers");
    let text = fs::read_to_string(&available).map_err(Error::file("read", &available))?;
    let wanted: String = text.split_whitespace().map(|name| format!("+{name} ")).collect();
    let control = cgroup.join("cgroup.subtree_control");
    poke(&control, wanted.trim_end()).map_err(Error::file("write", &control))
}

/// Writes a file of the kernel's in one call, without creating it.
pub fn poke(path: &Path, value: &str) -> std::io::Result<()> {
    File::options().write(true).open(path)?.write_all(value.as_bytes())
}

/// Writes a configuration file. It lies in memory and is made again at every boot, so nothing is synced.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
    }
    File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::file("write", path))
}
