//! A machine's network, in its supervisor: Ethernet frames from the hypervisor's socket at one end, the host's own
//! sockets at the other. `gateway` owns the frames and every flow; `dns` answers names; `publish` holds the host's
//! listening sockets; `policy` decides what may leave; `route` lets the host reach containers by their own addresses. A
//! guest's bytes are hostile: each table is bounded, each buffer is counted, and what does not parse is dropped and counted
//! by its reason.
#![forbid(unsafe_code)]

pub mod dns;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
mod named;
mod packet;
pub mod policy;
pub mod publish;
pub mod route;

pub use error::{Error, Result};
