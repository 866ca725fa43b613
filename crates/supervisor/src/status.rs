//! What is known of the machine now: one value, one writer, many watchers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dhow_model::{ChannelKind, GuestCid, MachineSpec, Purpose};
use dhow_proto::agent::{self, BootStep, HealthReply, HelloReply, ServiceState};
use dhow_proto::supervisor::{MachineStatus, Phase, Service, Sleep, Step, Translator, Translators};
use tokio::sync::watch;

use crate::saved::Unusable;

/// The status and the way to change it. Watchers are told of changes that a person would notice; figures that always
/// move (memory, disk) are brought up to date without waking anybody.
#[derive(Debug)]
pub struct Status {
    value: watch::Sender<MachineStatus>,
    began: Instant,
    /// Where the guest's kernel started on our clock, as near as the steps that were heard of tell.
    guest_zero: Option<Duration>,
    /// What stood in the way of handing translators to the guest.
    handing: Vec<String>,
    purpose: Purpose,
    /// Why the machine does not serve, if that is not its purpose.
    why: String,
}

impl Status {
    /// The status of a machine that starts now. `why` says what a boot with another purpose than to serve is good for.
    #[must_use]
    pub fn new(spec: &MachineSpec, purpose: Purpose, why: String) -> Self {
        let channel = match spec.channel {
            ChannelKind::Vsock => "vsock",
            ChannelKind::Serial => "serial",
        };
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let value = MachineStatus {
            name: spec.name.to_string(),
            phase: Phase::Starting.into(),
            supervisor_pid: std::process::id(),
            accelerator: spec.accelerator.to_string(),
            channel: channel.to_owned(),
            started_unix_nanos: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
            ..MachineStatus::default()
        };
        Self {
            value: watch::Sender::new(value),
            began: Instant::now(),
            guest_zero: None,
            handing: Vec::new(),
            purpose,
            why,
        }
    }

    /// For the API: the present value and every later one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<MachineStatus> {
        self.value.subscribe()
    }

    /// Where the machine is, and what is wrong (nothing: empty).
    pub fn phase(&self, phase: Phase, trouble: &str) {
        self.value.send_if_modified(|status| {
            let changed = status.phase != i32::from(phase) || status.trouble != trouble;
            status.phase = phase.into();
            trouble.clone_into(&mut status.trouble);
            changed
        });
    }

    /// What this boot is for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The guest is up, for what it was booted.
    pub fn up(&self) {
        match self.purpose {
            Purpose::Serve => self.phase(Phase::Ready, ""),
            Purpose::Check | Purpose::Rescue => self.phase(Phase::Apart, &self.why),
        }
    }

    /// The phase now.
    #[must_use]
    pub fn current_phase(&self) -> Phase {
        self.value.borrow().phase()
    }

    /// A step of ours that began at `began` and ends now.
    pub fn host_step(&self, name: &str, began: Instant, detail: &str) {
        let step = Step {
            r#where: "host".to_owned(),
            name: name.to_owned(),
            began_us: micros(began.saturating_duration_since(self.began)),
            took_us: micros(began.elapsed()),
            error: String::new(),
            detail: detail.to_owned(),
        };
        self.value.send_modify(|status| status.steps.push(step));
    }

    /// A step of the guest's boot, placed on our clock. A step is heard of after it ended, so the kernel started at the
    /// latest when the promptest of them says.
    pub fn guest_step(&mut self, step: &BootStep) {
        let ended = Duration::from_micros(step.began_us.saturating_add(step.took_us));
        let zero = self.began.elapsed().saturating_sub(ended);
        let before = self.guest_zero.unwrap_or(zero);
        let now = before.min(zero);
        self.guest_zero = Some(now);
        let moved = micros(before.saturating_sub(now));
        let step = Step {
            r#where: "guest".to_owned(),
            name: step.name.clone(),
            began_us: micros(now).saturating_add(step.began_us),
            took_us: step.took_us,
            error: step.error.clone(),
            detail: step.detail.clone(),
        };
        self.value.send_modify(|status| {
            for earlier in status.steps.iter_mut().filter(|s| s.r#where == "guest") {
                earlier.began_us = earlier.began_us.saturating_sub(moved);
            }
            status.steps.push(step);
        });
    }

    /// The hypervisor's process.
    pub fn hypervisor(&self, pid: u32, cid: Option<GuestCid>) {
        self.value.send_modify(|status| {
            status.hypervisor_pid = pid;
            status.cid = cid.map_or(0, GuestCid::get);
        });
    }

    /// Why it cannot be put to sleep in this phase, in a person's sentence.
    #[must_use]
    pub fn not_ready(&self) -> String {
        let status = self.value.borrow();
        match (status.phase(), status.trouble.as_str()) {
            (Phase::Booting, _) => "the guest is still booting".to_owned(),
            (Phase::Apart, _) => "the guest was not booted to serve".to_owned(),
            (_, "") => "the machine is not ready".to_owned(),
            (_, trouble) => format!("the guest is not well: {trouble}"),
        }
    }

    /// How many containers run, once that is known.
    pub fn containers(&self, running: Option<u32>) {
        self.value.send_if_modified(|status| {
            let changed = status.running_containers != running;
            status.running_containers = running;
            changed
        });
    }

    /// The same as it was told last.
    #[must_use]
    pub fn running(&self) -> Option<u32> {
        self.value.borrow().running_containers
    }

    /// The machine sleeps; its hypervisor is gone.
    pub fn slept(&self, why: &str, bytes: u64, since_unix_nanos: u64, saving: Vec<Step>) {
        self.value.send_modify(|status| {
            status.phase = Phase::Suspended.into();
            status.trouble.clear();
            (status.hypervisor_pid, status.hypervisor_rss_bytes) = (0, 0);
            let sleep = status.sleep.get_or_insert_default();
            why.clone_into(&mut sleep.why);
            (sleep.bytes, sleep.since_unix_nanos, sleep.saving) = (bytes, since_unix_nanos, saving);
            sleep.slept = sleep.slept.saturating_add(1);
        });
    }

    /// The machine is awake.
    pub fn woke(&self, why: &str, waking: Vec<Step>) {
        self.value.send_modify(|status| {
            status.phase = Phase::Ready.into();
            status.trouble.clear();
            let sleep = status.sleep.get_or_insert_default();
            why.clone_into(&mut sleep.woken_by);
            (sleep.bytes, sleep.since_unix_nanos, sleep.waking) = (0, 0, waking);
        });
    }

    /// The machine boots anew, since a saved state is not used; what is known of the guest that is gone is forgotten.
    pub fn set_aside(&self, why: &Unusable) {
        self.value.send_modify(|status| {
            let sleep = status.sleep.take().unwrap_or_default();
            let set_aside = format!("a saved state was not used and the machine booted anew: {why}");
            let sleep = Sleep { set_aside, bytes: 0, since_unix_nanos: 0, ..sleep };
            status.sleep = Some(sleep);
            status.steps.clear();
            status.services.clear();
            (status.running_containers, status.translators) = (None, None);
            (status.hypervisor_pid, status.hypervisor_rss_bytes) = (0, 0);
        });
    }

    /// Who the agent says it is.
    pub fn hello(&self, hello: &HelloReply) {
        self.value.send_modify(|status| {
            status.agent_version.clone_from(&hello.version);
            status.guest_kernel.clone_from(&hello.kernel);
            status.boot_id.clone_from(&hello.boot_id);
        });
    }

    /// What the agent says is true.
    pub fn health(&self, health: &HealthReply, streams: usize) {
        let services: Vec<Service> = health.services.iter().map(service).collect();
        self.value.send_if_modified(|status| {
            status.memory_total_bytes = health.memory_total_bytes;
            status.memory_available_bytes = health.memory_available_bytes;
            status.disk_total_bytes = health.disk_total_bytes;
            status.disk_free_bytes = health.disk_free_bytes;
            status.streams = u32::try_from(streams).unwrap_or(u32::MAX);
            status.hypervisor_rss_bytes = dhow_home::process::resident_bytes(status.hypervisor_pid);
            let changed = status.services != services;
            status.services = services;
            let changed = changed || status.randomize_va_space != health.randomize_va_space;
            status.randomize_va_space = health.randomize_va_space;
            changed
        });
        if let Some(translators) = &health.translators {
            self.translators(translators);
        }
    }

    /// The guest took what it was handed.
    pub fn handed_over(&mut self, translators: &agent::Translators, warnings: Vec<String>) {
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.handing = warnings;
        self.translators(translators);
    }

    /// The guest did not take a change.
    pub fn not_handed_over(&mut self, why: String) {
        if self.handing != [why.as_str()] {
            tracing::warn!("{why}");
        }
        self.handing = vec![why];
        let known = self.value.borrow().translators.clone().unwrap_or_default();
        self.value.send_modify(|status| {
            status.translators = Some(Translators { warnings: self.handing.clone(), ..known });
        });
    }

    fn translators(&self, told: &agent::Translators) {
        let now = Translators {
            given: told.given.iter().map(translator).collect(),
            warnings: self.handing.iter().cloned().chain(told.orphaned.iter().map(orphaned)).collect(),
        };
        self.value.send_if_modified(|status| {
            if status.translators.as_ref() == Some(&now) {
                return false;
            }
            let before = status.translators.replace(now).unwrap_or_default();
            for warning in status.translators.iter().flat_map(|t| &t.warnings) {
                if !before.warnings.contains(warning) {
                    tracing::warn!("{warning}");
                }
            }
            true
        });
    }

    /// The last step that was heard of, for an error that says where the time went.
    #[must_use]
    pub fn last_step(&self) -> String {
        self.value
            .borrow()
            .steps
            .last()
            .map_or_else(|| "the kernel".to_owned(), |s| format!("{} {}", s.r#where, s.name))
    }
}

fn service(service: &dhow_proto::agent::Service) -> Service {
    let state = match service.state() {
        ServiceState::Unspecified => "unknown",
        ServiceState::Starting => "starting",
        ServiceState::Running => "running",
        ServiceState::BackingOff => "backing-off",
        ServiceState::Stopped => "stopped",
    };
    Service {
        name: service.name.clone(),
        state: state.to_owned(),
        restarts: service.restarts,
        last_exit: service.last_exit.clone(),
    }
}

fn translator(told: &agent::Translator) -> Translator {
    let file = told.file.clone().unwrap_or_default();
    Translator {
        name: file.name,
        serves: file.serves,
        sha256: file.sha256,
        problem: told.problem.clone(),
        interpreter: told.interpreter.clone(),
        flags: told.flags.clone(),
        version: told.version.clone(),
    }
}

/// What its taking away means for those who use it.
fn orphaned(told: &agent::Orphaned) -> String {
    let agent::Orphaned { name, serves, containers } = told;
    let containers =
        if *containers == 1 { "1 container".to_owned() } else { format!("{containers} containers") };
    format!(
        "{name} was taken away while {containers} of {serves} used it: what runs there goes on, and no further program \
         of {serves} can start"
    )
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
