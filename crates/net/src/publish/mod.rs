//! The host's side of published ports (spec 4): listens where it is asked to, hands what comes to the gateway, and says who
//! holds an address that cannot be had.
//!
//! ```text
//!  supervisor ── bind, release ──▶ [`Publisher`] ── one task a port ──▶ [`Forward`], which is the gateway
//!                                     └── ports.json, read by other machines' publishers on a conflict
//! ```

mod error;
mod forward;
mod holders;
mod listener;
mod publisher;
mod records;
mod socket;

pub use error::BindError;
pub use forward::{Datagrams, Forward, Pending};
pub use publisher::{Bound, Container, LIMIT, Publisher};
