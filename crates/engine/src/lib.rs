//! Machines as the daemon sees them. [`plan`](crate::plan) computes what a machine should be made of, from the
//! configuration, the boot assets and the host's probes; a task for each machine ([`machine`](crate::machine)) owns its
//! state and drives its supervisor; [`Engine`] is the whole. Decisions (what to do on `up`, when to try again) are pure:
//! [`decide`](crate::decide), [`retry`](crate::retry).
#![forbid(unsafe_code)]

mod decide;
pub mod doctor;
mod engine;
mod error;
mod machine;
mod plan;
mod progress;
mod retry;
mod snapshot;
mod supervisor;
mod timeline;

pub use engine::{Engine, Up};
pub use error::{Error, Result, assets_failure};
pub use plan::{agent_file, words as build_words};
pub use progress::{Progress, Reporter};
pub use snapshot::{Event, Ready, Snapshot};
pub use timeline::Timed;
