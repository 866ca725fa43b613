//! Answers to names: containers' from one table, everything else from the host's own resolvers (spec 5.1 to 5.4).
//!
//! [`Names`] is the table, swapped whole when Docker tells of a change; [`Upstreams`] are the host's resolvers, followed as
//! they change; [`Dns`] answers a message. A name of ours never waits for an upstream: only `forward` does, within a
//! time limit, with equal questions asked once and a bounded cache. Guests ask over the gateway ([`From::Guest`]); the
//! host asks a port on 127.0.0.1 ([`Dns::serve_host`]), which knows our names only, so that a resolver that
//! forwards to us and that we forward to can never turn in a circle.
//!
//! ```text
//!  message ─▶ message::parse ─▶ names::Table ─▶ message::reply          ours, at once
//!                   │                └ elsewhere ─▶ gate ─▶ cache ─▶ flights ─▶ forward ─▶ answer   (host: REFUSED)
//!                   └ FORMERR, NOTIMP, REFUSED, BADVERS
//! ```

mod answer;
mod cache;
mod flights;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gate;
mod host;
mod message;
mod names;
mod resolv;
mod server;
mod stream;
mod table;
#[cfg(test)]
mod testing;
mod upstreams;
mod wire;

pub use gate::{Gate, Open};
pub use host::{Error, HostPort};
pub use names::{Container, Names};
pub use server::{Dns, From, Over};
pub use upstreams::Upstreams;
