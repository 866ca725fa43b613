//! One machine's process. It owns the machine's hypervisor, data disk and channel, watches the guest's health, and
//! outlives the daemon; when it ends, the hypervisor ends with it, so that there is never an orphan holding a disk.
//!
//! [`run`] is the whole life: take the lock, serve the API, [`prepare`](crate::prepare) the files, start the hypervisor,
//! [`watch`](crate::watch) until the machine ends, and write down why it did.
#![forbid(unsafe_code)]

mod agent;
mod cid;
mod disk;
mod docker;
mod error;
mod network;
mod ports;
mod prepare;
mod run;
mod serve;
mod status;
mod translators;
mod watch;

pub use error::{Error, Result};
pub use run::run;
