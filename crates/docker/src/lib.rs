//! The Docker API face: the Unix socket that Docker clients talk to, in front of dockerd in the guest.
//!
//! Heads are parsed, everything is forwarded as the bytes that were sent: bodies, chunking, trailers, reason phrases,
//! the case and order of headers. The one addition is `X-Trace-Id`, on the request and on the answer. A connection is
//! one task that moves both directions through two buffers; connections to the engine are pooled.
//!
//! From the socket inwards: [`Face`] accepts, `connection` goes from request to request (`client`, `head`, `body` read
//! them), [`route`](mod@route) says what each one is, `exchange` moves it and its answer, `tunnel` takes over where
//! HTTP ends, `pool` keeps the connections to the engine, `resolve` finds canonical IDs for the [`Hooks`], `answer`
//! holds what the face says itself.
#![forbid(unsafe_code)]

mod answer;
mod ask;
mod build;
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
pub use face::Face;
pub use hooks::{Hooks, LifecycleCall, LogHooks};
pub use inspect::{Inspection, Reason};
pub use route::Action;
pub use stats::Stats;
pub use trace::TraceId;
