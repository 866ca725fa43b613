//! The host's own resolvers, followed as they change (spec 5.4): VPNs, DHCP and resolver services rewrite or replace
//! `/etc/resolv.conf`, and where a local stub serves (systemd-resolved's 127.0.0.53), asking it gives split DNS too.
//!
//! The file is read again with the first question of each second. Its content is compared, not its times: two writes within a
//! clock tick look alike otherwise, and a kilobyte a second costs nothing. macOS keeps the same file for its main resolvers;
//! resolvers for single domains there (`scutil --dns`) are not looked at.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::resolv::{self, Settings};

/// How long what was read stands.
const FRESH: Duration = Duration::from_secs(1);
/// The same where no resolver was found: somebody may be in the middle of writing.
const FRESH_WHEN_EMPTY: Duration = Duration::from_millis(100);
/// A longer file is none.
const LONGEST: u64 = 64 << 10;
/// How long a resolver that did not answer stands behind the others.
const PENALTY: Duration = Duration::from_secs(10);

/// Where questions about other names go.
#[derive(Debug)]
pub struct Upstreams {
    file: Option<PathBuf>,
    port: u16,
    state: Mutex<State>,
}

/// What upstreams are now.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// Who is asked.
    pub(crate) settings: Arc<Settings>,
    /// Grows with each change: answers of earlier resolvers are no longer true.
    pub(crate) generation: u64,
}

#[derive(Debug)]
struct State {
    current: Current,
    content: Option<String>,
    read: Option<Instant>,
    avoid: Vec<SocketAddr>,
    silent: HashMap<SocketAddr, Instant>,
}

impl Upstreams {
    /// The host's, from `/etc/resolv.conf`.
    #[must_use]
    pub fn system() -> Self {
        Self::file("/etc/resolv.conf")
    }

    /// Those in a file like `/etc/resolv.conf`, which may not be there yet.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Some(path.into()), Settings::default())
    }

    /// Always these.
    #[must_use]
    pub fn fixed(servers: Vec<SocketAddr>) -> Self {
        Self::of(None, Settings { servers, ..Settings::default() })
    }

    fn of(file: Option<PathBuf>, settings: Settings) -> Self {
        let current = Current { settings: Arc::new(settings), generation: 0 };
        let state = State { current, content: None, read: None, avoid: Vec::new(), silent: HashMap::new() };
        Self { file, port: resolv::PORT, state: Mutex::new(state) }
    }

    /// With resolvers of its own making, on another port where a file names them.
    #[cfg(test)]
    pub(crate) fn with(file: Option<PathBuf>, port: u16, settings: Settings) -> Self {
        Self { port, ..Self::of(file, settings) }
    }

    /// Never asks there: it is ourselves.
    pub(crate) fn avoid(&self, address: SocketAddr) {
        let mut state = self.lock();
        state.avoid.push(address);
        state.read = None;
        state.content = None;
    }

    /// Who is asked now.
    pub(crate) fn current(&self, now: Instant) -> Current {
        let mut state = self.lock();
        let fresh = if state.current.settings.servers.is_empty() { FRESH_WHEN_EMPTY } else { FRESH };
        let stale = state.read.is_none_or(|read| now.saturating_duration_since(read) >= fresh);
        if let Some(file) = self.file.as_deref().filter(|_| stale) {
            state.read = Some(now);
            state.take(read(file), self.port);
        }
        state.current.clone()
    }

    /// The order in which to ask: as configured, but those who did not answer lately come last.
    pub(crate) fn order(&self, settings: &Settings, now: Instant) -> Vec<SocketAddr> {
        let mut state = self.lock();
        state.silent.retain(|_, since| now.saturating_duration_since(*since) < PENALTY);
        let mut servers = settings.servers.clone();
        servers.sort_by_key(|server| state.silent.contains_key(server));
        servers
    }

    /// This one did not answer in time.
    pub(crate) fn was_silent(&self, server: SocketAddr, now: Instant) {
        self.lock().silent.insert(server, now);
    }

    /// This one answered.
    pub(crate) fn answered(&self, server: SocketAddr) {
        self.lock().silent.remove(&server);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, content: Option<String>, port: u16) {
        if self.content == content && content.is_some() {
            return;
        }
        let mut settings = content.as_deref().map(|text| resolv::parse(text, scope)).unwrap_or_default();
        settings.servers.iter_mut().for_each(|server| server.set_port(port));
        settings.servers.retain(|server| !self.avoid.iter().any(|ours| same(*ours, *server)));
        self.content = content;
        if *self.current.settings != settings {
            tracing::info!(servers = ?settings.servers, "the host's resolvers changed");
            self.current = Current { settings: Arc::new(settings), generation: self.current.generation + 1 };
            self.silent.clear();
        }
    }
}

/// Whether asking `server` would reach `ours`: every address of the loopback network does on Linux when it is bound to the
/// unspecified address, and the unspecified address itself leads to 127.0.0.1.
fn same(ours: SocketAddr, server: SocketAddr) -> bool {
    let server_ip = match server.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    ours.port() == server.port() && ours.ip() == server_ip
}

/// The whole file, through links; not a pipe or a directory, nor one without end.
fn read(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A link's number.
#[cfg(target_os = "linux")]
fn scope(link: &str) -> Option<u32> {
    if link.contains('/') || link == ".." {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{link}/ifindex")).ok()?.trim().parse().ok()
}

/// A link's number, as the C library finds it for a literal address.
#[cfg(not(target_os = "linux"))]
fn scope(link: &str) -> Option<u32> {
    use std::net::ToSocketAddrs as _;
    let mut found = (format!("fe80::1%{link}").as_str(), 0).to_socket_addrs().ok()?;
    found.find_map(|address| match address {
        SocketAddr::V6(address) => Some(address.scope_id()).filter(|scope| *scope != 0),
        SocketAddr::V4(_) => None,
    })
}

#[cfg(test)]
#[path = "upstreams_tests.rs"]
mod tests;
