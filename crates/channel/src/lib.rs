//! Byte streams between the host and a guest. The host dials a [`Port`](dhow_model::Port) of the guest through a
//! [`Dialer`], which works the same over `AF_VSOCK`, over a multiplexed serial port ([`Mux`]) and through another
//! process's [`hub`]; the guest takes what arrives from [`guest::Incoming`].
//!
//! ```text
//!  host                                            guest
//!  Dialer::vsock ───────────────── AF_VSOCK ─────▶ Incoming::vsock
//!  Dialer (Mux)  ──── one virtio-serial port ────▶ Incoming::serial
//!  Dialer::hub ─▶ hub::serve ─▶ either of the two
//! ```
//!
//! Every stream begins with a [request](header::Request) and its [answer](header::Answer), so a dial that the other
//! side refuses ends in the reason. Errors are told apart by [`Error`]. Whoever joins a stream to a Unix socket uses
//! [`splice()`], which keeps half-close and notices when either side goes away.
//!
//! While a machine sleeps its multiplexer is [`Parked`]: streams stay open, and dials wait. Over vsock nothing can be kept: the
//! connections are the host kernel's, and it resets them when the hypervisor ends, so each stream ends with an error and is
//! dialled anew after the wake.
#![deny(unsafe_code)]

mod dial;
mod error;
mod gate;
pub mod guest;
pub mod header;
pub mod hub;
mod mux;
mod splice;
mod stream;
mod sys;
mod token;
mod vsock;

pub use dial::Dialer;
pub use error::{Ended, Error, Result};
pub use gate::Gate;
pub use mux::{HostPort, MAX_STREAMS, Mux, Parked};
pub use splice::{hung_up, splice};
pub use stream::Stream;
pub use token::{BadToken, Token};
pub use vsock::{Facts, NoVsock, assess, vsock_usable};
