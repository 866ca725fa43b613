//! The Docker API face: the Unix socket that Docker clients talk to, in front of dockerd in the guest.
//!
//! What needs no decision is forwarded as the bytes that were sent: bodies, chunking, trailers, reason phrases, the case
//! and order of headers. The additions are `X-Trace-Id` on every request and answer, and `X-Dhow-Placement` on the answers
//! to creates and builds. A connection is one task that moves both directions through two buffers.
//!
//! From the socket inwards: [`Face`] accepts, `connection` goes from request to request, [`route`](mod@route) says what each
//! one is about, `place` to which engine it goes. `create` and `build` ask for admission, `images` for what an image is
//! built for; [`registry`] knows which engine has a container, `merge` makes one list of two, `session`, `buildkit` and
//! `compose` keep together what belongs together. `wire` moves the bytes, `pool` keeps the connections to the [`Engines`],
//! `ask` puts the face's own questions, `note` reads answers for the registry and the [`Hooks`], `answer` holds what the
//! face says itself, `inspect` explains where a container is.
#![forbid(unsafe_code)]

mod answer;
mod ask;
mod binds;
mod build;
mod buildkit;
mod compose;
mod compose_move;
mod compose_table;
mod connection;
mod create;
mod decisions;
mod description;
mod engines;
mod error;
mod face;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hooks;
mod images;
mod inspect;
mod merge;
mod note;
mod place;
mod pool;
pub mod registry;
mod resolve;
pub mod route;
mod session;
mod session_table;
mod stats;
mod trace;
mod wire;

pub use decisions::HEADER as PLACEMENT_HEADER;
pub use engines::{ByteStream, Engines, Unavailable};
pub use error::{Error, Result};
pub use face::{Face, runtime, widen};
pub use hooks::{Hooks, LifecycleCall, LogHooks};
pub use inspect::{Inspection, Reason};
pub use route::Action;
pub use stats::{Stats, Usage};
pub use trace::TraceId;
