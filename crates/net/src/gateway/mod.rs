//! Ethernet frames at one end, the host's sockets at the other: one thread for each machine.

mod counters;
pub(crate) mod destination;
pub(crate) mod ip;
mod limits;
pub(crate) mod outbound;

pub(crate) use counters::{Counters, Open};
pub use counters::{Kind, Metrics, Reason};
pub use limits::Limits;
