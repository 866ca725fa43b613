//! The owner of a machine's listening sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dhow_model::MachineName;
use dhow_model::port::Binding;
use tokio::sync::{Mutex, MutexGuard};

use super::error::BindError;
use super::forward::Forward;
use super::listener::Listener;
use super::records::{self, Port, Record, Writer};
use super::{holders, socket};

/// Ports of one machine at once.
pub const LIMIT: usize = 4096;
/// Searches of other machines in one second for who holds an address: a guest may ask for taken ones without end.
const SEARCHES: u32 = 10;
/// Below this the kernel gives ports to root alone, unless it was told otherwise.
const PRIVILEGED: u16 = 1024;

/// A binding that the host listens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Where it listens and leads.
    pub binding: Binding,
    /// Since when.
    pub since: SystemTime,
    /// Clients accepted so far; 0 where there are only datagrams.
    pub accepted: u64,
    /// Whose it is, where that is known.
    pub container: Option<Container>,
}

/// A container, as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its whole ID.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
}

/// Binds and releases a machine's published ports.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    forward: Arc<dyn Forward>,
    machine: MachineName,
    machines: PathBuf,
    record: PathBuf,
    writer: Writer,
    /// Held across waits for the end of a listener alone, which is the kernel's doing and takes no time.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bound: BTreeMap<Binding, Held>,
    containers: BTreeMap<IpAddr, Container>,
    /// Since when searches are counted, and how many there were.
    searched: Option<(Instant, u32)>,
    stopped: bool,
}

struct Held {
    listener: Listener,
    since: SystemTime,
}

impl Publisher {
    /// A publisher for `machine`, whose directory lies in `machines` as those of all others do. On a runtime.
    #[must_use]
    pub fn new(forward: Arc<dyn Forward>, machine: MachineName, machines: PathBuf) -> Self {
        let record = machines.join(machine.as_str()).join(records::FILE);
        let writer = Writer::start(record.clone());
        Self(Arc::new(Inner { forward, machine, machines, record, writer, state: Mutex::default() }))
    }

    /// Listens. What is bound already is refused by the kernel as any other conflict.
    ///
    /// # Errors
    /// When the kernel refuses, with the holder where it is one of ours; or when there are too many.
    pub async fn bind(&self, binding: Binding) -> Result<(), BindError> {
        let mut state = self.0.state.lock().await;
        if state.stopped {
            return Err(BindError::Stopping);
        }
        if binding.host.port() == 0 || binding.container.port() == 0 {
            return Err(BindError::NoPort(binding));
        }
        if state.bound.len() >= LIMIT {
            return Err(BindError::TooMany(LIMIT));
        }
        let refused = |note| {
            move |(call, source): (&'static str, io::Error)| BindError::Kernel { binding, call, source, note }
        };
        let socket = match socket::take(&binding) {
            Ok(socket) => socket,
            Err(refusal) => return Err(refused(self.note(&binding, &refusal.1, &mut state))(refusal)),
        };
        let listener = Listener::start(socket, &binding, &self.0.forward)
            .map_err(|error| refused(None)(("listen", error)))?;
        state.bound.insert(binding, Held { listener, since: SystemTime::now() });
        // Not louder: how often is the guest's choice.
        tracing::debug!(%binding, "a port is published");
        self.write_down(&state);
        Ok(())
    }

    /// Listens no more: the address is free when this is done. What was not bound needs no release.
    pub async fn release(&self, binding: &Binding) {
        let mut state = self.0.state.lock().await;
        if let Some(held) = state.bound.remove(binding) {
            held.listener.close().await;
            tracing::debug!(%binding, "a port is published no more");
            self.write_down(&state);
        }
    }

    /// Releases everything but these.
    pub async fn keep_only(&self, bindings: &[Binding]) {
        let unwanted: Vec<Binding> = {
            let state = self.0.state.lock().await;
            state.bound.keys().filter(|held| !bindings.contains(held)).copied().collect()
        };
        for binding in unwanted {
            self.release(&binding).await;
        }
    }

    /// Releases everything, and binds nothing any more.
    pub async fn stop(&self) {
        let mut state = self.0.state.lock().await;
        state.stopped = true;
        for (_, held) in std::mem::take(&mut state.bound) {
            held.listener.close().await;
        }
        self.0.writer.end().await;
    }

    /// Everything that is bound.
    pub async fn list(&self) -> Vec<Bound> {
        let state = self.0.state.lock().await;
        let bound = state.bound.iter().map(|(binding, held)| Bound {
            binding: *binding,
            since: held.since,
            accepted: held.listener.accepted(),
            container: state.containers.get(&binding.container.ip()).cloned(),
        });
        bound.collect()
    }

    /// Whose addresses these are now: names for people, here and in other machines' errors.
    pub async fn containers(&self, containers: impl IntoIterator<Item = (IpAddr, Container)> + Send) {
        let containers = containers.into_iter().collect();
        let mut state = self.0.state.lock().await;
        if state.containers != containers {
            state.containers = containers;
            if !state.bound.is_empty() {
                self.write_down(&state);
            }
        }
    }

    fn write_down(&self, state: &MutexGuard<'_, State>) {
        let ports = state.bound.keys().map(|binding| port(binding, state)).collect();
        let machine = self.0.machine.to_string();
        self.0.writer.set(Record { machine, supervisor_pid: std::process::id(), ports });
    }

    /// What helps a person with the kernel's refusal.
    fn note(&self, wanted: &Binding, error: &io::Error, state: &mut State) -> Option<String> {
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                let held = state.bound.keys().find(|held| held.conflicts(wanted));
                if let Some(held) = held {
                    let holder = holders::container(&port(held, state));
                    return Some(format!("held by {holder} of machine {}", self.0.machine));
                }
                let now = Instant::now();
                let counted = state.searched.filter(|(since, _)| now - *since < Duration::from_secs(1));
                let (since, count) = counted.unwrap_or((now, 0));
                state.searched = Some((since, count + 1));
                (count < SEARCHES).then(|| holders::who(wanted, &self.0.machines, &self.0.record)).flatten()
            }
            io::ErrorKind::PermissionDenied if wanted.host.port() < PRIVILEGED => Some(format!(
                "a port this low is root's alone: publish one from {PRIVILEGED} on, or give it to every user with \
                 `sudo sysctl net.ipv4.ip_unprivileged_port_start={}`",
                wanted.host.port()
            )),
            _ => None,
        }
    }
}

fn port(binding: &Binding, state: &State) -> Port {
    let name = state.containers.get(&binding.container.ip()).map(|c| c.name.clone());
    Port {
        protocol: binding.protocol,
        host: binding.host,
        container: binding.container,
        name: name.unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
