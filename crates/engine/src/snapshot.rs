//! What others see of a machine: its state for people, whether it can be dialled, and every change.

use std::time::SystemTime;

use dhow_channel::Dialer;
use dhow_model::{Failure, MachineName, MachineSpec, State};
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
    /// It is off, and nothing will change that by itself.
    No(Failure),
}
