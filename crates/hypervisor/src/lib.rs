//! Runs a guest (spec 9). One small trait ([`Hypervisor`], [`Running`]) and its QEMU backend ([`Qemu`]); the guest's RAM,
//! which outlives its hypervisor and is written to a file and read back while it sleeps ([`Memory`]); the table of
//! what a machine looks like on each architecture ([`board`]); a client of QEMU's control protocol ([`qmp`]); the probes
//! that choose what executes the guest's instructions ([`probe`]), and what `dhow doctor` prints of them ([`doctor`]).
#![deny(unsafe_code)]

mod backend;
pub mod board;
pub mod doctor;
mod error;
mod hardware;
mod memory;
pub mod output;
pub mod probe;
mod process;
mod qemu;
pub mod qmp;
mod sys;

pub use backend::{Exit, How, Hypervisor, Origin, Running, Saved};
pub use board::cmdline;
pub use error::{Damage, Error, Result};
pub use hardware::{Access, ChannelDevice, Disk, Hardware, Network, Share};
pub use memory::{Dumped, Memory};
pub use output::{Output, Sink};
pub use qemu::{Given, Qemu, QemuVersion, arguments};
