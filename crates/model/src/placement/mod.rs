//! Where a workload goes, or why it is refused (spec 1.1 to 1.4, 1.10, 3.6): one pure function over what the host has and
//! what a request asks.
//!
//! With the default placement every workload runs in the native machine, and its platform chooses a translator. With
//! `foreign-machine` its platform chooses a machine. Nothing ever falls back to what the user's configuration does not name.

mod admit;
mod guest;
mod refusal;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::translator::Served;
use crate::{Platform, Role, TranslatorName};

pub use admit::admit;
pub use guest::Guest;
pub use refusal::Refusal;

/// Which machine runs workloads of a foreign architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The native one, which runs everything; a translator runs the foreign programs in it.
    #[default]
    NativeMachine,
    /// A second one of their own architecture, beside the native one.
    ForeignMachine,
}

/// What the host has, fresh for each decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What the host is, for people: `linux/amd64`, `macos/arm64`.
    pub name: String,
    /// Where foreign workloads go.
    pub placement: Placement,
    /// The native machine's guest.
    pub native: Guest,
    /// The translators of the native machine, by the architecture that they serve.
    pub translators: Vec<Served>,
    /// The foreign machine that this host can offer, or why it can offer none.
    pub foreign: Result<ForeignMachine, String>,
}

/// The second machine, as this host would build it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignMachine {
    /// Its guest.
    pub guest: Guest,
    /// What runs programs of the other architecture in it: Rosetta on Apple silicon, nothing elsewhere. Who chooses this
    /// placement there chooses Rosetta with it.
    pub translator: Option<TranslatorName>,
}

/// What a request asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The platforms that it names: none or one for a create, any number for a build.
    pub platforms: Vec<Platform>,
    /// The platforms under which a create's image is there, in each machine; empty: it is nowhere.
    pub image: Vec<(Role, Platform)>,
    /// The Compose project that it belongs to, once that is bound to a machine. Without meaning in the default placement.
    pub project: Option<Bound>,
}

/// A Compose project whose first service chose a machine (spec 3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The project's name, as its label says it.
    pub project: String,
    /// Where its services run.
    pub role: Role,
}

/// Where a workload goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To which machine.
    pub role: Role,
    /// What runs it there; `None`: the machine's own processor.
    pub translator: Option<TranslatorName>,
    /// The reason, one clause for people: "the image exists only for linux/arm64".
    pub why: String,
}
