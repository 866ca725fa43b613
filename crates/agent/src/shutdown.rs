//! The way down, in order: containers, dockerd, containerd, whatever is left, sync, unmount, power off. All of it happens
//! once, within one time limit, whoever asks.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dhow_proto::agent::{ServiceState, ShutdownStep};
use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep};

use crate::engine::{self, Mode};
use crate::guest::{Engine, Guest};
use crate::history::History;
use crate::{console, docker, last_words, mounts, reaper};

/// For all of it, when the host names no limit.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(30);
/// The last step: the stream breaks after it.
pub const LAST: &str = "power off";

/// How long dockerd may take to read its configuration again.
const RELOAD_LIMIT: Duration = Duration::from_secs(3);
/// What containerd and left-over processes get of the time, each.
const CONTAINERD_LIMIT: Duration = Duration::from_secs(3);
const REST_LIMIT: Duration = Duration::from_secs(1);
/// For the last step's message to reach the host before there is no guest.
const FAREWELL: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(20);

/// Begins the shutdown, or joins the one that is under way.
pub fn begin(guest: &Arc<Guest>, limit: Duration) -> Arc<History<ShutdownStep>> {
    let history = guest.down.get_or_init(|| {
        let history = Arc::new(History::default());
        tokio::spawn(go_down(Arc::clone(guest), Arc::clone(&history), limit));
        history
    });
    Arc::clone(history)
}

async fn go_down(guest: Arc<Guest>, history: Arc<History<ShutdownStep>>, limit: Duration) {
    let down = Down { history, deadline: Instant::now() + limit };
    console::line(format!("dhow: shutting down within {} ms", limit.as_millis()));
    // Whatever hangs on the way, a broken disk for one, the machine is off when the limit passes.
    tokio::spawn(async move {
        tokio::time::sleep_until(down.deadline).await;
        console::last_line("dhow: the time limit of the shutdown passed; powering off as it is");
        last_words::power_off_now();
    });
    if let Some(engine) = guest.engine.get() {
        stop_engine(&guest, engine, &down, limit / 2).await;
    }
    down.step("processes", end_everything(REST_LIMIT)).await;
    down.step(
        "sync",
        blocking(|| {
            rustix::fs::sync();
            None
        }),
    )
    .await;
    if let Some(device) = guest.data.get().cloned() {
        down.step("unmount", blocking(move || unmount(&device))).await;
    }
    down.step(LAST, async { None }).await;
    sleep(FAREWELL).await;
    last_words::power_off();
}

/// A shutdown under way.
#[derive(Debug)]
struct Down {
    history: Arc<History<ShutdownStep>>,
    deadline: Instant,
}

impl Down {
    /// Runs one step, which answers what went wrong, and records it. A failure does not stop the way down.
    async fn step(&self, name: &str, work: impl Future<Output = Option<String>>) {
        let began = Instant::now();
        let error = work.await.unwrap_or_default();
        let took = began.elapsed();
        console::line(format!("dhow: down: {name} took {} ms {error}", took.as_millis()));
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.history
            .push(ShutdownStep { name: name.to_owned(), took_us, error }, |before| before.name == LAST);
    }
}

/// dockerd stops its containers itself, so that a restart policy means the same as on any other machine: a stop through the
/// API would count as the user's wish. For that it must first forget that it leaves them running.
async fn stop_engine(guest: &Guest, engine: &Engine, down: &Down, containers_limit: Duration) {
    let began = Instant::now();
    if engine.dockerd.status().state == ServiceState::Running {
        let seconds = containers_limit.as_secs().max(1);
        down.step("containers", async {
            if let Err(error) = engine::write_dockerd(
                &guest.config.network,
                Mode::Stopping(seconds),
                &guest.translators.labels(),
            ) {
                return Some(error.to_string());
            }
            engine.dockerd.signal(Signal::HUP);
            if !reloaded(RELOAD_LIMIT.min(containers_limit)).await {
                return Some(
                    "dockerd did not read its configuration again; containers are stopped after it"
                        .to_owned(),
                );
            }
            None
        })
        .await;
    }
    let left = containers_limit.saturating_sub(began.elapsed()).max(Duration::from_millis(200));
    down.step("dockerd", engine.dockerd.stop(left)).await;
    down.step("containerd", engine.containerd.stop(CONTAINERD_LIMIT)).await;
}

/// Whether dockerd now stops its containers when it ends.
async fn reloaded(limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        let info = docker::get("/info", limit).await.unwrap_or_default();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap_or_default();
        if info["LiveRestoreEnabled"] == false {
            return true;
        }
        sleep(LOOK).await;
    }
    false
}

/// Ends every process that is left: asks, and kills after `limit`.
async fn end_everything(limit: Duration) -> Option<String> {
    for (signal, limit) in [(Signal::TERM, limit), (Signal::KILL, limit)] {
        let deadline = Instant::now() + limit;
        for pid in processes() {
            reaper::kill(pid, signal);
        }
        while Instant::now() < deadline {
            if processes().is_empty() {
                return None;
            }
            sleep(LOOK).await;
        }
    }
    Some(format!("{} processes do not end", processes().len()))
}

/// Every process but this one and the kernel's own threads, which have no memory and so an empty command line, as zombies
/// have.
fn processes() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            (pid != Pid::INIT && !command.is_empty()).then_some(pid)
        })
        .collect()
}

fn unmount(device: &Path) -> Option<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // What lies upon the disk's mounts, containers' root file systems for one, keeps them busy.
    let mut failures: Vec<String> = mounts::over(&text, device)
        .iter()
        .filter_map(|point| mounts::detach(point).err().map(|error| error.to_string()))
        .collect();
    rustix::fs::sync();
    failures.truncate(3);
    (!failures.is_empty()).then(|| failures.join("; "))
}

async fn blocking(work: impl FnOnce() -> Option<String> + Send + 'static) -> Option<String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Some(error.to_string()))
}
