//! A QEMU process that runs a guest.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::net::UnixStream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::arguments::disk_node;
use super::control;
use super::state::{self, Outcome};
use crate::process::{Ended, Process};
use crate::qmp::{Event, Qmp};
use crate::{ChannelDevice, Disk, Dumped, Error, Exit, Hardware, How, Result, Running};

/// How long a killed process may take to be gone: the kernel tears down its memory.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How long the devices may take to be written or read: half a megabyte, through the host's cache.
const STATE_LIMIT: Duration = Duration::from_secs(60);
/// How long a save that takes too long may take to be given up.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);
/// How long QEMU may take to end after it has saved the guest, or to take a connection.
const PROMPT_LIMIT: Duration = Duration::from_secs(10);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct Machine {
    process: Process,
    qmp: Qmp,
    serial: Option<PathBuf>,
    /// The connection that stood before a saved guest was loaded.
    connected: Mutex<Option<UnixStream>>,
    cause: Cause,
    /// Whether the memory is ours and the rest can be saved.
    ours: bool,
    /// The disks' serials, in the order of their nodes.
    disks: Vec<String>,
}

/// Why the guest stopped, as the latest event says.
#[derive(Clone, Default)]
struct Cause(Arc<Mutex<Option<String>>>, Starved);

/// Whether it stands still for want of room on the host's disk: QEMU stops a guest whose write got `ENOSPC` (`werror=enospc`, which is
/// the default) and repeats the write when it goes on.
#[derive(Clone, Default)]
struct Starved(Arc<AtomicBool>);

impl Starved {
    fn note(&self, event: &Event) {
        match event.name.as_str() {
            "BLOCK_IO_ERROR" if event.data["nospace"] == true && event.data["action"] == "stop" => {
                self.0.store(true, Ordering::Release);
            }
            "RESUME" => self.0.store(false, Ordering::Release),
            _ => {}
        }
    }
}

impl Cause {
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Listens for as long as the connection is open.
    async fn follow(self, mut events: broadcast::Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(event) => self.note(&event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn note(&self, event: &Event) {
        self.1.note(event);
        let cause = match event.name.as_str() {
            "SHUTDOWN" => event.data.get("reason").and_then(Value::as_str),
            "GUEST_PANICKED" => Some("guest-panic"),
            _ => None,
        };
        if let Some(cause) = cause {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause.to_owned());
        }
    }
}

/// Waits until QEMU answers, or says why it does not.
pub(super) async fn greet(
    mut process: Process,
    hardware: &Hardware,
    serial: Option<PathBuf>,
    ours: bool,
) -> Result<Machine> {
    tokio::select! {
        // A QEMU that has ended also closes the connection; its last words are the better answer.
        biased;
        ended = process.wait() => Err(early(ended, hardware)),
        qmp = control(&hardware.qmp) => match qmp {
            Ok(qmp) => {
                let cause = Cause::default();
                tokio::spawn(cause.clone().follow(qmp.events()));
                let disks = hardware.disks.iter().map(|disk| disk.serial.clone()).collect();
                let connected = Mutex::default();
                Ok(Machine { process, qmp, serial, connected, cause, ours, disks })
            }
            Err(error) => {
                let asked = process.kill();
                let ended = tokio::time::timeout(KILL_LIMIT, process.wait()).await;
                asked?;
                match (error, ended) {
                    // Killed by us: it was alive and did not answer.
                    (error @ Error::Timeout { .. }, _) | (error, Err(_)) => Err(error),
                    (_, Ok(ended)) => Err(early(ended, hardware)),
                }
            }
        },
    }
}

/// The typed error in the last words of a QEMU that did not start.
fn early(ended: Ended, hardware: &Hardware) -> Error {
    let says =
        |words: &[&str]| ended.said.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned();
    // hw/virtio/vhost-vsock.c of QEMU, with the kernel's EADDRINUSE (spec 8.2).
    if let ChannelDevice::Vsock(cid) = hardware.channel
        && says(&["unable to set guest cid", "Address already in use"]).is_some()
    {
        return Error::CidTaken(cid);
    }
    // block/file-posix.c of QEMU, raw_check_lock_bytes; the device that wanted the disk is named before it.
    if let Some(said) = says(&["Failed to get", "lock"])
        && let Some(disk) = disk_in(&said, &hardware.disks)
    {
        return Error::DiskInUse { path: disk.path.clone() };
    }
    Error::EndedEarly(Box::new(exit(ended, None)))
}

/// The disk that a message of QEMU names by its node.
fn disk_in<'a>(said: &str, disks: &'a [Disk]) -> Option<&'a Disk> {
    let named = |number| said.contains(&format!("={},", disk_node(number)));
    disks.iter().enumerate().find(|(number, _)| named(*number)).map(|(_, disk)| disk)
}

fn exit(ended: Ended, cause: Option<String>) -> Exit {
    let Ended { how, said, console } = ended;
    Exit { how, cause, said, console }
}

impl Machine {
    /// Loads the devices of a saved guest whose memory is there.
    ///
    /// The serial port is connected before: QEMU hands on what the guest had half written as soon as it is loaded, and a guest
    /// that runs without a host at its port sees it close (`virtio_serial_throttle_port`, `virtio_serial_post_load_timer_cb`).
    pub(super) async fn load(&mut self, devices: OwnedFd) -> Result<()> {
        if let Some(path) = &self.serial {
            let stream = connect(path).await?;
            taken(&self.qmp).await?;
            *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        }
        let loaded = tokio::select! {
            biased;
            ended = self.process.wait() => return Err(Error::NotRestored(Box::new(exit(ended, None)))),
            loaded = state::load(&self.qmp, devices, STATE_LIMIT) => loaded,
        };
        match loaded {
            Ok(Outcome::Completed) => Ok(()),
            // A QEMU that cannot load ends, but it says so on this connection first, or closes it.
            Ok(Outcome::Failed(_)) | Err(Error::QmpClosed(_)) => {
                match tokio::time::timeout(PROMPT_LIMIT, self.process.wait()).await {
                    Ok(ended) => Err(Error::NotRestored(Box::new(exit(ended, None)))),
                    Err(_) => self.refuse().await,
                }
            }
            Err(error) => Err(error),
        }
    }

    /// For a QEMU that failed to load and stays.
    async fn refuse(&mut self) -> Result<()> {
        self.kill().await?;
        Err(Error::NotRestored(Box::new(exit(self.process.wait().await, None))))
    }

    /// The error of a hypervisor that is gone, or is made to be.
    async fn lost(&mut self) -> Error {
        match self.kill().await {
            Ok(()) => Error::EndedWhileSaving(Box::new(self.wait().await)),
            Err(error) => error,
        }
    }
}

async fn connect(path: &Path) -> Result<UnixStream> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    UnixStream::connect(path).await.map_err(failed)
}

/// Waits until QEMU has taken the connection to the channel's port.
async fn taken(qmp: &Qmp) -> Result<()> {
    let taking = async {
        loop {
            let devices = qmp.execute("query-chardev", Map::new()).await?;
            let channel =
                devices.as_array().into_iter().flatten().find(|device| device["label"] == "channel");
            let waits = channel.and_then(|device| device["filename"].as_str());
            // `disconnected:unix:/path,server=on` becomes `unix:/path,server=on`.
            if waits.is_some_and(|name| !name.starts_with("disconnected:")) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let what = || "QEMU's taking the connection to the channel's port".to_owned();
    let late = |_| Error::Timeout { what: what(), limit: PROMPT_LIMIT };
    tokio::time::timeout(PROMPT_LIMIT, taking).await.map_err(late)?
}

#[async_trait::async_trait]
impl Running for Machine {
    fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().unsigned_abs()
    }

    async fn pause(&mut self) -> Result<()> {
        self.qmp.stop().await
    }

    async fn resume(&mut self) -> Result<()> {
        self.qmp.cont().await
    }

    async fn save(&mut self, devices: &Path) -> Result<Dumped> {
        if !self.ours {
            let why = "this machine was started without memory of ours, and only with that it can be saved";
            return Err(Error::Unsupported(why.to_owned()));
        }
        let saved = tokio::select! {
            biased;
            ended = self.process.wait() => {
                return Err(Error::EndedWhileSaving(Box::new(exit(ended, self.cause.get()))));
            }
            saved = state::save(&self.qmp, devices, STATE_LIMIT) => saved,
        };
        let outcome = match saved {
            Ok(outcome) => outcome,
            Err(Error::QmpRefused { description, .. }) => Outcome::Failed(description),
            Err(error @ Error::SavedFile { .. }) => Outcome::Failed(error.to_string()),
            Err(Error::Timeout { .. }) => match state::cancel(&self.qmp, CANCEL_LIMIT).await {
                Ok(Some(outcome)) => outcome,
                Ok(None) | Err(_) => return Err(self.lost().await),
            },
            Err(_) => return Err(self.lost().await),
        };
        match outcome {
            Outcome::Completed => {
                self.quit(PROMPT_LIMIT).await?;
                state::finish(devices).await
            }
            Outcome::Failed(reason) => Err(Error::NotSaved { reason }),
        }
    }

    async fn wait(&mut self) -> Exit {
        let ended = self.process.wait().await;
        let killed = matches!(ended.how, How::Signal(_));
        // A cause that was reported before somebody killed QEMU is not why it ended.
        exit(ended, if killed { None } else { self.cause.get() })
    }

    fn waits_for_room(&self) -> bool {
        self.cause.1.0.load(Ordering::Acquire)
    }

    async fn resize_disk(&mut self, serial: &str, bytes: u64) -> Result<()> {
        let number = self.disks.iter().position(|known| known == serial).ok_or_else(|| {
            Error::Unsupported(format!("this machine has no disk with the serial {serial}"))
        })?;
        let arguments = Map::from_iter([
            ("node-name".to_owned(), Value::from(disk_node(number))),
            ("size".to_owned(), Value::from(bytes)),
        ]);
        self.qmp.execute("block_resize", arguments).await.map(drop)
    }

    async fn limit_memory(&mut self, bytes: u64) -> Result<()> {
        let arguments = Map::from_iter([("value".to_owned(), Value::from(bytes))]);
        self.qmp.execute("balloon", arguments).await.map(drop)
    }

    async fn power_button(&mut self) -> Result<()> {
        self.qmp.system_powerdown().await
    }

    async fn quit(&mut self, limit: Duration) -> Result<()> {
        let asked = async {
            self.qmp.quit().await?;
            self.process.wait().await;
            Ok::<(), Error>(())
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "QEMU does not quit and is killed");
                self.kill().await
            }
            Err(_) => {
                tracing::warn!(?limit, "QEMU did not quit in time and is killed");
                self.kill().await
            }
        }
    }

    async fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        let late = |_| Error::Timeout { what: "the end of a killed QEMU".to_owned(), limit: KILL_LIMIT };
        tokio::time::timeout(KILL_LIMIT, self.process.wait()).await.map(drop).map_err(late)
    }

    async fn serial(&self) -> Result<UnixStream> {
        let path = self.serial.as_ref().ok_or_else(|| {
            Error::Unsupported("this machine's channel is a vsock, not a virtio-serial port".to_owned())
        })?;
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner).take();
        match connected {
            Some(stream) => Ok(stream),
            None => connect(path).await,
        }
    }
}
