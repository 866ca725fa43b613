//! Machines as the daemon sees them: one for each role. [`plan`](crate::plan) computes what a machine should be made of,
//! from the configuration, the boot assets and the host's probes; a task for each machine ([`machine`](crate::machine), reached
//! through its [`handle`](crate::handle)) owns its state and drives its supervisor; [`Engine`] is the whole, and
//! [`wake`](crate::wake) starts the foreign machine when a request needs it. Decisions are pure: [`decide`](crate::decide)
//! (what `up` means), [`ready`](crate::ready) (whether to wait), [`retry`](crate::retry) (when to try again),
//! [`offer`](crate::offer) (whether this host has a foreign machine at all), [`native`](crate::native) (what "native" means). [`record`](crate::record) keeps what was in a
//! machine that is off.
#![forbid(unsafe_code)]

mod agent;
mod decide;
mod disk;
pub mod doctor;
mod engine;
mod error;
mod handle;
mod idle;
mod machine;
mod native;
mod offer;
mod plan;
mod progress;
mod ready;
mod record;
mod rescue;
mod retry;
mod sleep;
mod snapshot;
mod supervisor;
mod timeline;
pub mod translators;
mod wake;

pub use disk::{Compacted, DiskUsage, Grown};
pub use engine::{Engine, Stopped};
pub use error::{Error, Result, assets_failure};
pub use handle::Up;
pub use offer::{NotOffered, Platform, foreign};
pub use plan::{agent_file, shares, words as build_words};
pub use progress::{Progress, Reporter};
pub use rescue::{Kind, Thing};
pub use sleep::{Slept, Supervisors};
pub use snapshot::{Event, Observer, Snapshot, Usage};
pub use timeline::Timed;
