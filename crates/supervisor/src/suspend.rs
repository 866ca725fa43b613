//! How a machine that runs is put to sleep.
//!
//! ```text
//!  our own questions end ─▶ the guest quiesces ─▶ the gate shuts ─▶ the multiplexer is parked ─▶ the processors stop
//!    ─▶ the gateway freezes ─▶ devices are saved, the hypervisor ends ─▶ memory is written ─▶ synced, and the state gets its name
//! ```
//!
//! Until the hypervisor has ended each step can be taken back, and the same guest goes on. After that it is what we hold of it: when
//! the disk is full, a new hypervisor goes on from the memory that is still there.

use std::future::ready;
use std::time::Duration;

use dhow_channel::{Mux, Parked};
use dhow_hypervisor::{Dumped, Memory, Origin};
use dhow_proto::agent::QuiesceReply;

use crate::agent::unix_nanos;
use crate::inbox::Suspend;
use crate::saved::{FORMAT, Inputs, Saved};
use crate::session::Session;
use crate::sleep::Files;
use crate::start::Ground;
use crate::status::Status;
use crate::stopwatch::Stopwatch;
use crate::turns::Turn;
use crate::wake::Line;
use crate::watch::{self, Machine};
use crate::{Error, Result};

/// For our own questions to be answered.
const SILENCE: Duration = Duration::from_secs(5);
/// What the guest is given to get ready.
const QUIESCE: Duration = Duration::from_millis(600);
/// For the guest to take what was sent to it.
const PARK: Duration = Duration::from_secs(3);
/// What the host's disk must have beyond the memory's size.
const ROOM: u64 = 64 << 20;

/// A machine that sleeps, and what goes on without its guest.
pub struct Rest {
    /// Its streams' session.
    pub mux: Mux,
    /// The same, at rest.
    pub parked: Parked,
    /// What follows the guest.
    pub session: Session,
    /// Keeps our own questions back.
    pub silence: Turn,
    /// What its state takes on the disk.
    pub bytes: u64,
    /// When it went to sleep.
    pub since_unix_nanos: u64,
}

/// What is held of a guest whose hypervisor has ended.
pub struct Slept {
    mux: Mux,
    parked: Parked,
    silence: Turn,
    bytes: u64,
    since_unix_nanos: u64,
}

/// Why a machine does not sleep.
pub enum NotSaved {
    /// It goes on as before.
    CalledOff(String),
    /// It could not be saved after its hypervisor had ended, and could not be brought back.
    Lost(String),
    /// Its hypervisor died.
    Died(Error),
}

impl Rest {
    /// What outlives the hypervisor of a machine that was saved.
    #[must_use]
    pub fn new(machine: Machine, slept: Slept) -> Self {
        let Slept { mux, parked, silence, bytes, since_unix_nanos } = slept;
        Self { mux, parked, session: machine.session, silence, bytes, since_unix_nanos }
    }
}

impl Ground<'_> {
    /// Saves the machine; its hypervisor has ended then. Dropping this half-way leaves a machine that can only be killed.
    ///
    /// # Errors
    /// Why it does not sleep, and what became of it.
    pub async fn save(
        &self,
        machine: &mut Machine,
        asked: &Suspend,
        status: &mut Status,
        steps: &mut Stopwatch,
    ) -> Result<Slept, NotSaved> {
        let off = NotSaved::CalledOff;
        let memory = match (&machine.memory, &machine.mux) {
            (Some(memory), Some(_)) => memory.clone(),
            (_, None) => {
                return Err(off("its channel is a vsock, whose streams no sleep outlives".to_owned()));
            }
            (None, _) => return Err(off("this host cannot keep its memory".to_owned())),
        };
        let late = |_| off("a question to the guest is still open".to_owned());
        let silence = tokio::time::timeout(SILENCE, self.place.turns.silence()).await.map_err(late)?;
        if let Some(why) = busy(asked, status, self.place.network.view().port_connections()) {
            return Err(off(why));
        }
        let quiet = machine.session.agent.quiesce(QUIESCE).await;
        let quiet = quiet.map_err(|why| off(format!("the guest did not get ready: {why}")))?;
        steps.step("quiesce", words(&quiet));
        room(&self.place.dir, &memory).map_err(off)?;
        let files = Files::begin(&self.place.dir).map_err(|error| off(error.to_string()))?;
        self.place.gate.shut();
        let saved = self.save_quiet(machine, &memory, &files, asked.unless_busy, status, steps).await;
        if saved.is_err() {
            self.open(machine);
            if let Err(error) = files.discard() {
                tracing::warn!(%error, "a state that was not finished stays until the next start");
            }
        }
        let (parked, saved, bytes) = saved?;
        let Some(mux) = machine.mux.take() else {
            return Err(NotSaved::Lost("its streams are gone".to_owned()));
        };
        machine.memory = None;
        Ok(Slept { mux, parked, silence, bytes, since_unix_nanos: saved.since_unix_nanos })
    }

    /// The same for a guest that is ready, and that nobody reaches any more. Who wanted it meanwhile keeps it awake if `unless_busy`;
    /// otherwise they are served by the wake: whoever asked for a sleep gets one, whatever the load.
    async fn save_quiet(
        &self,
        machine: &mut Machine,
        memory: &Memory,
        files: &Files,
        unless_busy: bool,
        status: &Status,
        steps: &mut Stopwatch,
    ) -> Result<(Parked, Saved, u64), NotSaved> {
        let parked = match &machine.mux {
            Some(mux) => mux.park(PARK).await.map_err(|error| NotSaved::CalledOff(error.to_string()))?,
            None => return Err(NotSaved::CalledOff("it has no streams that could be parked".to_owned())),
        };
        steps.step("park", "");
        if let Err(error) = machine.running.pause().await {
            return Err(self.go_on(machine, parked, error.to_string()).await);
        }
        self.place.network.freeze().await;
        steps.step("pause", "");
        if unless_busy && let Some(who) = self.wanted_now(&parked).await {
            return Err(self.go_on(machine, parked, format!("{who} wanted the guest just then")).await);
        }
        let devices = match machine.running.save(&files.devices()).await {
            Ok(devices) => devices,
            Err(error @ dhow_hypervisor::Error::NotSaved { .. }) => {
                return Err(self.go_on(machine, parked, error.to_string()).await);
            }
            Err(error) => {
                let error = watch::explain(machine.running.as_mut(), error.into()).await;
                return Err(NotSaved::Died(error));
            }
        };
        steps.step("devices", format!("{} bytes", devices.bytes));
        match self.keep(files, devices, memory, status, steps).await {
            Ok((saved, bytes)) => Ok((parked, saved, bytes)),
            Err(why) => {
                let why = why.to_string();
                tracing::warn!(%why, "the machine's state could not be written; it goes on");
                Err(self.rise_again(machine, parked, files, devices, status, why).await)
            }
        }
    }

    /// Writes what is left of the guest.
    async fn keep(
        &self,
        files: &Files,
        devices: Dumped,
        memory: &Memory,
        status: &Status,
        steps: &mut Stopwatch,
    ) -> Result<(Saved, u64)> {
        let (held, path) = (memory.clone(), files.memory());
        let dumped = tokio::task::spawn_blocking(move || held.dump(&path)).await;
        let memory = dumped.map_err(|_| Error::Ending)??;
        steps.step("memory", format!("{} bytes", memory.bytes));
        let image = self.place.dir.data_image();
        let inputs = Inputs::now(self.place.spec, &self.qemu, self.executable.clone(), &image);
        let saved = Saved {
            format: FORMAT,
            since_unix_nanos: unix_nanos(),
            inputs: inputs.map_err(|source| Error::File { path: image, source })?,
            devices,
            memory,
            running_containers: status.running(),
        };
        let (files, description) = (files.clone(), saved.clone());
        let finished = tokio::task::spawn_blocking(move || files.finish(&description)).await;
        let bytes = finished.map_err(|_| Error::Ending)??;
        steps.step("sync", "");
        Ok((saved, bytes))
    }

    /// Lets the same guest go on in the same hypervisor.
    async fn go_on(&self, machine: &mut Machine, parked: Parked, why: String) -> NotSaved {
        if let Err(error) = machine.running.resume().await {
            return NotSaved::Died(watch::explain(machine.running.as_mut(), error.into()).await);
        }
        self.place.network.thaw().await;
        parked.go_on();
        NotSaved::CalledOff(why)
    }

    /// Lets the same guest go on in another hypervisor, from the memory that is still there.
    async fn rise_again(
        &self,
        machine: &mut Machine,
        parked: Parked,
        files: &Files,
        devices: Dumped,
        status: &Status,
        why: String,
    ) -> NotSaved {
        let (Some(mux), Some(memory)) = (machine.mux.take(), machine.memory.take()) else {
            return NotSaved::Lost(why);
        };
        let path = files.devices();
        let saved = dhow_hypervisor::Saved { devices: &path, devices_written: devices, memory: None };
        let mut steps = Stopwatch::begin();
        let origin = Origin::Saved(saved);
        match self.go_on_from(origin, memory, Line::Parked(mux, parked), &mut steps).await {
            Ok((started, mux)) => {
                status.hypervisor(started.running.pid(), started.reach.cid());
                machine.replace(started, mux);
                if let Err(error) = machine.tell_awake().await {
                    tracing::warn!(%error, "the guest was not told how late it is");
                }
                NotSaved::CalledOff(why)
            }
            Err(error) => NotSaved::Lost(format!("{why}; and then: {error}")),
        }
    }

    /// Who wants the guest at this moment.
    async fn wanted_now(&self, parked: &Parked) -> Option<&'static str> {
        tokio::select! {
            biased;
            () = self.place.gate.wanted() => Some("a new stream"),
            () = parked.wants_to_send() => Some("an open stream"),
            () = self.place.network.wanted() => Some("traffic from outside"),
            () = ready(()) => None,
        }
    }
}

/// Why a machine is not put to sleep on its own account.
fn busy(asked: &Suspend, status: &Status, connections: u32) -> Option<String> {
    match (asked.unless_busy, status.running(), connections) {
        (false, ..) | (true, Some(0), 0) => None,
        (true, None, _) => Some("it is not known yet what runs in it".to_owned()),
        (true, Some(0), connections) => {
            Some(format!("{connections} clients of published ports are connected"))
        }
        (true, Some(containers), _) => Some(format!("{containers} containers run")),
    }
}

/// Whether the state will fit; told before anything is stopped.
fn room(dir: &dhow_home::MachineDir, memory: &Memory) -> Result<(), String> {
    let (Ok(held), Ok(disk)) = (memory.held(), rustix::fs::statvfs(dir.path())) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = held.as_bytes().saturating_add(ROOM);
    if free >= needed {
        return Ok(());
    }
    Err(format!(
        "its state may take {} MiB, and the disk that holds {} has {} MiB free",
        needed >> 20,
        dir.path().display(),
        free >> 20
    ))
}

/// For people: `sync 3 ms, trim 0 ms; 120 MiB free`.
fn words(quiet: &QuiesceReply) -> String {
    let step = |step: &dhow_proto::agent::QuiesceStep| match step.error.as_str() {
        "" => format!("{} {} ms", step.name, step.took_us / 1000),
        error => format!("{} {} ms ({error})", step.name, step.took_us / 1000),
    };
    let steps: Vec<String> = quiet.steps.iter().map(step).collect();
    format!("{}; {} MiB free", steps.join(", "), quiet.memory_free_bytes >> 20)
}
