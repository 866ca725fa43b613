//! Published ports (spec 4). dockerd runs a `docker-proxy` for each port that it publishes, before the container's process
//! starts, and takes its word for whether the port could be had. Ours asks the host:
//!
//! ```text
//!  dockerd ── runs ──▶ docker-proxy ([`proxy`]) ── Unix socket ──▶ agent ([`service`]) ── Ports stream ──▶ supervisor
//!     ◀── "0\n" or "1\n" and Docker's words ──┘ ◀── bound, refused ──┘ ◀── bound, refused ──────────────────┘
//! ```
//!
//! Who holds what is decided in [`table`], which does no I/O; what proxy and agent say to each other stands in [`words`].
//! A dockerd that is killed in the middle of a start leaves a port in its records ([`restore`]) and a process that waits for
//! ever ([`cut_short`]), or a container that runs and that the next one does not know ([`orphans`]); what is bound and listed
//! by no running container is released ([`reconcile`]).
//! The proxy also holds the address inside the guest, for connections that come from there ([`forward`]).

pub mod cut_short;
pub mod forward;
pub mod kernel;
pub mod list;
pub mod orphans;
pub mod proxy;
pub mod reconcile;
pub mod restore;
pub mod service;
pub mod socket;
pub mod table;
pub mod words;

pub use service::Ports;
