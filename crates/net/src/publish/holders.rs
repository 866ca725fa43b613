//! Who holds an address that the kernel refuses: another machine of this directory, or of another engine of this user's
//! (spec 4.6). When it is nobody of ours, nothing is said.

use std::path::{Path, PathBuf};

use dhow_model::port::Binding;

use super::records::{self, FILE, Port};

/// `held by container web of machine native`, if a machine under `machines` or of another engine published what `wanted`
/// would take. `ours` is this machine's own file.
pub(super) fn who(wanted: &Binding, machines: &Path, ours: &Path) -> Option<String> {
    let here = files(machines).into_iter().filter(|path| path != ours);
    let here = here.map(|path| (path, String::new()));
    let elsewhere = other_engines(machines).into_iter().flat_map(|home| {
        let of = format!(" of the engine in {}", home.display());
        files(&home.join("machines")).into_iter().map(move |path| (path, of.clone()))
    });
    here.chain(elsewhere).find_map(|(path, of)| {
        let record = records::read(&path)?;
        let port = record.ports.iter().find(|port| port.binding().conflicts(wanted))?;
        Some(format!("held by {} of machine {}{of}", container(port), record.machine))
    })
}

pub(super) fn container(port: &Port) -> String {
    if port.name.is_empty() {
        format!("the container at {}", port.container.ip())
    } else {
        format!("container {}", port.name)
    }
}

/// The records under a directory of machines.
fn files(machines: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(machines).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join(FILE)).filter(|path| path.is_file()).collect()
}

/// Directories of engines of this user's whose supervisors run, but the one that `machines` lies in.
#[cfg(target_os = "linux")]
fn other_engines(machines: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut homes: Vec<PathBuf> = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).nth(1) != Some(b"supervise") {
            continue;
        }
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let home = environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"DHOW_HOME="));
        let Some(home) = home.map(|home| PathBuf::from(std::ffi::OsStr::from_bytes(home))) else { continue };
        if machines.parent() != Some(&home) && !homes.contains(&home) {
            homes.push(home);
        }
    }
    homes
}

/// Elsewhere the kernel does not tell what other processes were started with.
#[cfg(not(target_os = "linux"))]
fn other_engines(_: &Path) -> Vec<PathBuf> {
    Vec::new()
}
