//! What others see of a machine: its state for people, whether it can be dialled, and every change.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use dhow_channel::Dialer;
use dhow_model::sleep::Decision;
use dhow_model::{Failure, MachineName, MachineSpec, Role, State};
use dhow_proto::supervisor::MachineStatus;

use crate::timeline::Timed;

/// A transition of a machine's state.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// Which machine.
    pub machine: MachineName,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Why, in a person's words; may be empty.
    pub reason: String,
}

/// What is known of a machine now.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its state; absent for a machine that was never made.
    pub state: Option<State>,
    /// Why it failed, or what in it does not answer; empty when nothing is wrong.
    pub trouble: String,
    /// What it was made from.
    pub spec: Option<MachineSpec>,
    /// What its supervisor last told.
    pub status: MachineStatus,
    /// Failures since it last ran well.
    pub retries: u32,
    /// The steps of its last start.
    pub timeline: Vec<Timed>,
    /// What was last decided about its sleep; absent while it does not run.
    pub rest: Option<Decision>,
}

/// Whether the guest can be dialled.
#[derive(Debug, Clone)]
pub enum Ready {
    /// Through this.
    Yes(Dialer),
    /// It is on its way: wait for the next value.
    Coming,
    /// It ran before this daemon did, and is about to say how it is: wait for the next value.
    Found,
    /// It sleeps: whatever is dialled through this wakes it.
    Asleep(Dialer),
    /// It sleeps and has no supervisor that a dial could wake: one has to be launched.
    Saved,
    /// It is off, and nothing will change that by itself.
    No(Failure),
}

/// Who wants to know when a machine can be dialled and when no more: whoever keeps connections into it.
#[async_trait::async_trait]
pub trait Observer: Send + Sync + 'static {
    /// The machine can be dialled from now on, or no more. Called by the machine's task: it must not wait.
    fn changed(&self, role: Role, runs: bool);

    /// The machine is about to be stopped in order: connections to its dockerd end, for which that would wait.
    async fn stopping(&self, role: Role);

    /// The machine is about to be put to sleep: connections that nobody uses end, for to close them later would wake it. Those in use
    /// stay open while it sleeps.
    fn resting(&self, role: Role);

    /// How much the machine is being used.
    fn usage(&self, role: Role) -> Usage;
}

/// How much a machine is being used by others than Dhow itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Requests and streams that are under way.
    pub in_flight: u64,
    /// Requests that have begun so far.
    pub begun: u64,
}

/// The observer, once there is one.
#[derive(Clone, Default)]
pub(crate) struct Observed(Arc<OnceLock<Arc<dyn Observer>>>);

impl Observed {
    /// Sets it; the first one stays.
    pub(crate) fn set(&self, observer: Arc<dyn Observer>) -> bool {
        self.0.set(observer).is_ok()
    }

    pub(crate) fn get(&self) -> Option<&dyn Observer> {
        self.0.get().map(|observer| &**observer)
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observed").field(&self.0.get().is_some()).finish()
    }
}
