//! One machine's process. It owns the machine's hypervisor, data disk and channel, watches the guest's health, and
//! outlives the daemon; when it ends, the hypervisor ends with it, so that there is never an orphan holding a disk.
//!
//! [`run`] is the whole life: take the lock, serve the API, let the [`owner`](crate::owner) have the machine, awake and asleep,
//! until it ends, and write down why it did.
#![forbid(unsafe_code)]

mod agent;
mod changes;
mod cid;
mod disk;
mod docker;
mod error;
mod inbox;
mod network;
mod owner;
mod ports;
mod prepare;
mod run;
mod saved;
mod serve;
mod session;
mod shares;
mod sleep;
mod start;
mod status;
mod stop;
mod stopwatch;
mod suspend;
mod translators;
mod turns;
mod wake;
mod watch;

pub use error::{Error, Result};
pub use run::run;
