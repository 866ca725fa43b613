//! What tests and benches of Dhow stand on. A command with a time limit ([`run`]), a wait with one ([`wait`]), programs
//! of Debian's that the host need not have ([`debian`], [`tools`]), images made without a registry ([`images`]), a real
//! dockerd without a machine ([`dockerd`]), the published description of its API ([`description`]), and a whole engine
//! with one ([`engine`]); client libraries that others wrote
//! ([`clients`]); servers for containers to reach ([`serve`]), what a process holds ([`process`]) and what
//! fuzzing has found ([`corpus`]). The machine tests are in `tests/`.
//!
//! Everything is kept in `.dev/` at the repository's root, made once and shared by all test processes.
#![forbid(unsafe_code)]

pub mod clients;
pub mod corpus;
pub mod debian;
pub mod description;
pub mod docker;
#[cfg(target_os = "linux")]
pub mod dockerd;
pub mod engine;
mod error;
pub mod images;
pub mod place;
pub mod process;
pub mod run;
pub mod samples;
pub mod scene;
pub mod serve;
pub mod tools;
pub mod wait;

pub use docker::Docker;
#[cfg(target_os = "linux")]
pub use dockerd::Dockerd;
pub use engine::Engine;
pub use error::{Error, Result};
pub use images::Image;
pub use run::{Outcome, Run};
pub use scene::Scene;
pub use serve::Server;
pub use tools::Tools;
