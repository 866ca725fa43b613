//! `ports.json` in a machine's directory: what it publishes, for the error messages of other machines (spec 4.6). It is a
//! help for people and decides nothing: the kernel says whether an address is free.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dhow_home::atomic;
use dhow_model::port::{Binding, Protocol};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The name of the file.
pub(super) const FILE: &str = "ports.json";
/// Far above what a machine's ports take; a larger file is not read.
const LIMIT: u64 = 4 << 20;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub machine: String,
    pub supervisor_pid: u32,
    pub ports: Vec<Port>,
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Port {
    pub protocol: Protocol,
    pub host: SocketAddr,
    pub container: SocketAddr,
    /// Empty while it is not known.
    #[serde(default)]
    pub name: String,
}

impl Port {
    pub(super) fn binding(&self) -> Binding {
        Binding { protocol: self.protocol, host: self.host, container: self.container }
    }
}

/// What a machine's file says, if its supervisor lives.
pub(super) fn read(path: &Path) -> Option<Record> {
    if std::fs::metadata(path).ok()?.len() > LIMIT {
        return None;
    }
    let record: Record = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(record.supervisor_pid).ok()?)?;
    rustix::process::test_kill_process(pid).is_ok().then_some(record)
}

/// Writes the file after each change, without anybody waiting for the disk.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    next: Mutex<Option<Next>>,
    changed: Notify,
}

#[derive(Debug)]
enum Next {
    Write(Record),
    Remove,
}

impl Writer {
    /// Starts the task that writes, on the current runtime.
    pub(super) fn start(path: PathBuf) -> Self {
        // What a supervisor that was killed left behind.
        if let Err(error) = atomic::remove(&path) {
            tracing::warn!(%error, path = %path.display(), "an old record of published ports stays");
        }
        let shared = Arc::new(Shared { path, next: Mutex::new(None), changed: Notify::new() });
        let task = tokio::spawn(write(Arc::clone(&shared)));
        Self { shared, task: Mutex::new(Some(task)) }
    }

    /// The file is to say this.
    pub(super) fn set(&self, record: Record) {
        self.shared.set(Next::Write(record));
    }

    /// Removes the file: nothing is published any more.
    pub(super) async fn end(&self) {
        self.shared.set(Next::Remove);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = async { Some(task?.await) }.await {
            tracing::warn!(%error, "the record of published ports may stay");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Shared {
    fn set(&self, next: Next) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        self.changed.notify_one();
    }
}

async fn write(shared: Arc<Shared>) {
    loop {
        shared.changed.notified().await;
        let next = shared.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(next) = next else { continue };
        let (last, path) = (matches!(next, Next::Remove), shared.path.clone());
        let written = tokio::task::spawn_blocking(move || match next {
            Next::Write(record) => atomic::write(&path, &serde_json::to_vec_pretty(&record)?, 0o600),
            Next::Remove => atomic::remove(&path),
        });
        if let Err(error) = written.await.unwrap_or_else(|error| Err(error.into())) {
            tracing::warn!(%error, path = %shared.path.display(), "published ports were not written down");
        }
        if last {
            return;
        }
    }
}
