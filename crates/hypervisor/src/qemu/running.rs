//! A QEMU process that runs a guest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::arguments::disk_node;
use super::control;
use crate::process::{Ended, Process};
use crate::qmp::{Event, Qmp};
use crate::{ChannelDevice, Disk, Error, Exit, Hardware, How, Result, Running};

/// How long a killed process may take to be gone: the kernel tears down its memory.
const KILL_LIMIT: Duration = Duration::from_secs(10);

struct Machine {
    process: Process,
    qmp: Qmp,
    serial: Option<PathBuf>,
    cause: Cause,
}

/// Why the guest stopped, as the latest event says.
#[derive(Clone, Default)]
struct Cause(Arc<Mutex<Option<String>>>);

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
) -> Result<Box<dyn Running>> {
    tokio::select! {
        // A QEMU that has ended also closes the connection; its last words are the better answer.
        biased;
        ended = process.wait() => Err(early(ended, hardware)),
        qmp = control(&hardware.qmp) => match qmp {
            Ok(qmp) => {
                let cause = Cause::default();
                tokio::spawn(cause.clone().follow(qmp.events()));
                Ok(Box::new(Machine { process, qmp, serial, cause }))
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

    async fn wait(&mut self) -> Exit {
        let ended = self.process.wait().await;
        let killed = matches!(ended.how, How::Signal(_));
        // A cause that was reported before somebody killed QEMU is not why it ended.
        exit(ended, if killed { None } else { self.cause.get() })
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
        UnixStream::connect(path).await.map_err(|source| Error::Socket { path: path.clone(), source })
    }
}
