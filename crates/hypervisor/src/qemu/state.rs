//! A machine's devices and processors, out of QEMU into a file and back (QEMU's live migration, to and from a regular file).
//!
//! The memory is not in it: QEMU leaves it out (`x-ignore-shared`), since it is ours. A descriptor is passed instead of a
//! path, so no character of the path and no right of QEMU's matters, and the file that was checked is the one that is read.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::qmp::{Event, Qmp};
use crate::{Damage, Dumped, Error, Hardware, Memory, Result, Saved};

/// The most that the state of devices may take. It is half a megabyte for a machine of Dhow's; only what a damaged or forged
/// note claims is more.
const LARGEST: u64 = 256 << 20;

/// How often to ask how a migration goes when no event tells.
const LOOK: Duration = Duration::from_millis(500);

/// How often to ask whether QEMU is done with a migration that failed, which no event tells: it takes it well under a millisecond.
const TIDY: Duration = Duration::from_millis(1);

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    /// QEMU's reason.
    Failed(String),
}

/// A saved machine on its way into a QEMU.
pub(super) struct Loading {
    devices: File,
    memory: Memory,
    file: Option<(PathBuf, Dumped)>,
}

impl Loading {
    /// Checks the devices' file, before anything is started.
    pub(super) fn open(saved: &Saved<'_>, memory: Option<&Memory>, hardware: &Hardware) -> Result<Self> {
        let Some(memory) = memory else {
            return Err(Error::Unsupported(
                "a saved machine needs memory of ours to be loaded to".to_owned(),
            ));
        };
        if memory.size() != hardware.memory {
            let (expected, found) = (hardware.memory.as_bytes(), memory.size().as_bytes());
            let damage = Damage::Size { expected, found };
            let path = saved.memory.map_or(saved.devices, |(path, _)| path);
            return Err(Error::Damaged { path: path.to_owned(), damage });
        }
        Ok(Self {
            devices: checked(saved.devices, &saved.devices_written)?,
            memory: memory.clone(),
            file: saved.memory.map(|(path, written)| (path.to_owned(), written)),
        })
    }

    /// Fills the memory, if it is not full already, and gives the devices' state.
    pub(super) async fn fill(self) -> Result<OwnedFd> {
        let Self { devices, memory, file } = self;
        if let Some((file, written)) = file {
            let filling = tokio::task::spawn_blocking(move || memory.fill(&file, &written));
            let stopped = |error| Error::Memory { doing: "fill", source: std::io::Error::other(error) };
            filling.await.map_err(stopped)??;
        }
        Ok(devices.into())
    }
}

/// A file of devices' state, open at its beginning, if it holds what was written.
fn checked(path: &Path, written: &Dumped) -> Result<File> {
    let failed = |source| Error::SavedFile { path: path.to_owned(), source };
    let damaged = |damage| Err(Error::Damaged { path: path.to_owned(), damage });
    let mut file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    if found != written.bytes || found > LARGEST {
        return damaged(Damage::Length { expected: written.bytes, found });
    }
    if sum(&mut file).map_err(failed)? != *written {
        return damaged(Damage::Content { at: 0 });
    }
    file.rewind().map_err(failed)?;
    Ok(file)
}

/// What a file holds from here to its end.
fn sum(file: &mut File) -> std::io::Result<Dumped> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(Dumped::of(&bytes))
}

/// Saves the devices of a QEMU that is paused. The file is whole and synced when the migration has completed.
pub(super) async fn save(qmp: &Qmp, path: &Path, limit: Duration) -> Result<Outcome> {
    let failed = |source| Error::SavedFile { path: path.to_owned(), source };
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    let set = prepare(qmp, file.into()).await?;
    let outcome = migrate(qmp, "migrate", set, limit).await?;
    if let Outcome::Failed(_) = outcome {
        let late = |_| Error::Timeout { what: "the end of a migration that failed".to_owned(), limit };
        tokio::time::timeout(limit, tidied(qmp)).await.map_err(late)??;
    }
    Ok(outcome)
}

/// Syncs a file of devices that was saved, and says what it holds.
pub(super) async fn finish(path: &Path) -> Result<Dumped> {
    let path = path.to_owned();
    let failed = |source| Error::SavedFile { path: path.clone(), source };
    let file = path.clone();
    let finished = tokio::task::spawn_blocking(move || {
        let mut file = File::open(file)?;
        file.sync_all()?;
        sum(&mut file)
    });
    finished.await.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)
}

/// Loads devices into a QEMU that was started for it.
pub(super) async fn load(qmp: &Qmp, devices: OwnedFd, limit: Duration) -> Result<Outcome> {
    let set = prepare(qmp, devices).await?;
    migrate(qmp, "migrate-incoming", set, limit).await
}

/// Says how to migrate, and passes the descriptor; how QEMU knows it.
async fn prepare(qmp: &Qmp, state: OwnedFd) -> Result<u64> {
    let on = |name: &str| json!({"capability": name, "state": true});
    let capabilities = json!([on("x-ignore-shared"), on("events")]);
    let arguments = Map::from_iter([("capabilities".to_owned(), capabilities)]);
    qmp.execute("migrate-set-capabilities", arguments).await?;
    qmp.add_fd(state).await
}

async fn migrate(qmp: &Qmp, command: &str, set: u64, limit: Duration) -> Result<Outcome> {
    let mut events = qmp.events();
    let migrating = async {
        // `fd:` is for sockets; to a file it is deprecated.
        let uri = Map::from_iter([("uri".to_owned(), Value::from(format!("file:/dev/fdset/{set}")))]);
        qmp.execute(command, uri).await?;
        loop {
            // An event may be missed, never the answer to the question.
            drop(tokio::time::timeout(LOOK, over(&mut events)).await);
            if let Some(outcome) = outcome(qmp).await? {
                return Ok(outcome);
            }
        }
    };
    let late = |_| Error::Timeout { what: format!("QEMU's {command}"), limit };
    tokio::time::timeout(limit, migrating).await.map_err(late)?
}

/// Gives a migration up. The outcome is `None` if QEMU does not, within the limit.
pub(super) async fn cancel(qmp: &Qmp, limit: Duration) -> Result<Option<Outcome>> {
    let mut events = qmp.events();
    let cancelling = async {
        qmp.execute("migrate_cancel", Map::new()).await?;
        loop {
            if let Some(outcome) = outcome(qmp).await? {
                tidied(qmp).await?;
                return Ok(Some(outcome));
            }
            drop(tokio::time::timeout(LOOK, over(&mut events)).await);
        }
    };
    tokio::time::timeout(limit, cancelling).await.unwrap_or(Ok(None))
}

/// How the latest migration ended, if it has.
async fn outcome(qmp: &Qmp) -> Result<Option<Outcome>> {
    let answer = qmp.execute("query-migrate", Map::new()).await?;
    let word = |key| answer.get(key).and_then(Value::as_str);
    match word("status") {
        Some("completed") => Ok(Some(Outcome::Completed)),
        Some(status @ ("failed" | "cancelled")) => {
            Ok(Some(Outcome::Failed(word("error-desc").unwrap_or(status).to_owned())))
        }
        _ => Ok(None),
    }
}

/// Waits until QEMU has put away what it had of a migration that failed.
///
/// It says that one failed before it has. A `migrate` that comes in between is refused ("duplicate yank instance"), but leaves QEMU
/// believing that a migration is in progress, and it then refuses all others (`qmp_migrate` of QEMU 10.0).
async fn tidied(qmp: &Qmp) -> Result<()> {
    loop {
        let instances = qmp.execute("query-yank", Map::new()).await?;
        if !instances.as_array().into_iter().flatten().any(|instance| instance["type"] == "migration") {
            return Ok(());
        }
        tokio::time::sleep(TIDY).await;
    }
}

/// Waits for an event that says that a migration has ended.
async fn over(events: &mut broadcast::Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(event) if event.name == "MIGRATION" => {
                let status = event.data.get("status").and_then(Value::as_str);
                if matches!(status, Some("completed" | "failed" | "cancelled")) {
                    return;
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        }
    }
}
