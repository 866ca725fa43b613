//! Dhow's directory on the host: where everything is ([`Home`]), files that are whole or absent ([`atomic`]), locks that
//! end with their holder ([`lock`]), sockets that a crash cannot leave in the way ([`socket`]), logs that rotate
//! ([`rotating`]), and what a process costs the host ([`process`]) and gives back to it ([`Code`]).
#![deny(unsafe_code)]

pub mod atomic;
mod last_end;
pub mod launch;
pub mod lock;
mod paths;
pub mod process;
pub mod rotating;
pub mod socket;
mod sys;

pub use last_end::LastEnd;
pub use paths::{Error, Home, MachineDir, Result};
pub use sys::{Code, give_memory_back};
