//! What resolves names on a host, read from its files and nothing else. `root` is `/`, or another directory that has such
//! files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, State};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// macOS, where each domain may have a file of its own.
    pub macos: bool,
    /// systemd-resolved, where it runs and programs ask it.
    pub resolved: Option<Resolved>,
    /// NetworkManager runs a dnsmasq of its own.
    pub networkmanager_dnsmasq: bool,
    /// Name servers in `/etc/resolv.conf`.
    pub name_servers: Vec<String>,
}

/// systemd-resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// systemd's version, where it can be told.
    pub version: Option<u32>,
    /// Files that name global DNS servers, ours apart.
    pub global_servers: Vec<PathBuf>,
    /// Whether `/etc/resolv.conf` is its own, and not one that it reads.
    pub owns_resolv_conf: bool,
    /// Whether a link of the host has DNS servers.
    pub links_have_servers: bool,
}

/// Looks.
pub fn look(root: &Path, macos: bool, version: Option<u32>) -> Seen {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let name_servers = name_servers(&read("etc/resolv.conf"));
    let owns_resolv_conf = leads_to_resolved(&root.join("etc/resolv.conf"))
        || name_servers.iter().any(|server| server == "127.0.0.53" || server == "127.0.0.54");
    let runs = root.join("run/systemd/resolve").is_dir();
    let asked = owns_resolv_conf || hosts_by_resolved(&read("etc/nsswitch.conf"));
    let resolved = (!macos && runs && asked).then(|| Resolved {
        version: version.or_else(|| library_version(root)),
        global_servers: global_servers(root),
        owns_resolv_conf,
        links_have_servers: !self::name_servers(&read("run/systemd/resolve/resolv.conf")).is_empty(),
    });
    Seen { macos, resolved, networkmanager_dnsmasq: networkmanager_dnsmasq(root), name_servers }
}

fn name_servers(text: &str) -> Vec<String> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().map(str::to_owned))?
    };
    text.lines().filter_map(server).collect()
}

/// Whether the file is a link to one that systemd-resolved keeps, in whichever way it is spelled.
fn leads_to_resolved(path: &Path) -> bool {
    let own = ["resolve/stub-resolv.conf", "resolve/resolv.conf", "lib/systemd/resolv.conf"];
    std::fs::read_link(path).is_ok_and(|target| own.iter().any(|own| target.ends_with(own)))
}

/// Whether the C library asks systemd-resolved directly (nss-resolve(8)).
fn hosts_by_resolved(nsswitch: &str) -> bool {
    let hosts = nsswitch.lines().find_map(|line| line.trim().strip_prefix("hosts:"));
    hosts.is_some_and(|sources| sources.split_whitespace().any(|source| source == "resolve"))
}

/// systemd's version from the name of the library that all of its programs share.
fn library_version(root: &Path) -> Option<u32> {
    let mut dirs: Vec<PathBuf> =
        ["usr/lib/systemd", "usr/lib64/systemd", "lib/systemd"].map(|dir| root.join(dir)).into();
    dirs.extend(entries(&root.join("usr/lib")).into_iter().map(|dir| dir.join("systemd")));
    let version = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_prefix("libsystemd-shared-")?;
        name.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    dirs.iter().flat_map(|dir| entries(dir)).filter_map(|path| version(&path)).max()
}

/// systemd's version as `systemctl --version` says it.
pub fn version(said: &str) -> Option<u32> {
    let word = said.lines().next()?.strip_prefix("systemd ")?.split(|c: char| !c.is_ascii_digit()).next()?;
    word.parse().ok()
}

/// Files of resolved.conf(5) that set `DNS=`, ours apart. A file in an earlier directory hides those of its name in later ones.
fn global_servers(root: &Path) -> Vec<PathBuf> {
    let dirs = ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];
    let mut files: Vec<PathBuf> = dirs.iter().map(|dir| root.join(dir).join("resolved.conf")).collect();
    let mut seen = BTreeSet::new();
    for dir in dirs {
        for path in entries(&root.join(dir).join("resolved.conf.d")) {
            let is_conf = path.extension().is_some_and(|e| e == "conf");
            if is_conf && seen.insert(path.file_name().map(ToOwned::to_owned)) {
                files.push(path);
            }
        }
    }
    let foreign = |path: &PathBuf| !matches!(file::state(path), Ok(State::Ours(_)));
    let sets = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().strip_prefix("DNS=")).any(|value| !value.trim().is_empty())
    };
    files.into_iter().filter(|path| sets(path) && foreign(path)).collect()
}

/// Whether NetworkManager.conf(5) says `dns=dnsmasq`.
fn networkmanager_dnsmasq(root: &Path) -> bool {
    let dir = root.join("etc/NetworkManager");
    let mut files = vec![dir.join("NetworkManager.conf")];
    files.extend(entries(&dir.join("conf.d")));
    files.iter().filter_map(|path| std::fs::read_to_string(path).ok()).any(|text| {
        text.lines().any(|line| {
            let mut words = line.split('=').map(str::trim);
            words.next() == Some("dns") && words.next() == Some("dnsmasq")
        })
    })
}

/// What is in a directory, sorted; nothing if it is not there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let read: io::Result<Vec<_>> =
        std::fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    let mut entries = read.unwrap_or_default();
    entries.sort();
    entries
}
