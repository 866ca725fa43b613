//! Plain types and pure rules: architectures, names, sizes, configuration, what a machine is made of, its states,
//! and what drifted. Nothing here does I/O or waits; every decision is a function that a table can test.
#![forbid(unsafe_code)]

pub mod arch;
pub mod channel;
pub mod cid;
pub mod config;
pub mod drift;
pub mod egress;
pub mod failure;
pub mod lifecycle;
pub mod machine;
pub mod name;
pub mod network;
pub mod placement;
pub mod platform;
#[cfg(test)]
mod platform_tests;
pub mod port;
pub mod query;
pub mod record;
pub mod role;
pub mod size;
pub mod sleep;
pub mod translator;

pub use arch::Arch;
pub use channel::Port;
pub use cid::GuestCid;
pub use config::Config;
pub use failure::Failure;
pub use lifecycle::{Lifecycle, State};
pub use machine::{
    Accelerator, BootConfig, ChannelKind, DiskBlank, GuestNetwork, GuestNetwork6, Input, MachineSpec,
    Purpose, SHARES_TAG,
};
pub use name::MachineName;
pub use placement::Placement;
pub use platform::Platform;
pub use record::{COMPOSE_PROJECT, Record, Recorded};
pub use role::Role;
pub use size::Size;
pub use translator::{Translator, TranslatorName, Unprovisioned};
