//! What was in an engine machine when it was stopped, so that a lookup need not boot it to know (spec 2.6).

use serde::{Deserialize, Serialize};

/// The label by which Compose marks what belongs to a project (Compose specification, "Labels").
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";

/// A container's own name among those that dockerd lists for it, without the leading slash. A legacy link of another container's
/// gives it more, of the form `/other/alias`; they come in any order.
pub fn own_name<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    names.into_iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'))
}

/// Every container of one machine, running or not. Execs are not in it: they end with their machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The containers, in dockerd's order.
    pub containers: Vec<Recorded>,
}

/// A container of a machine that is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Its canonical ID, 64 hexadecimal digits.
    pub id: String,
    /// Its name, without the leading slash that Docker's API gives it.
    pub name: String,
    /// The Compose project that it belongs to, by its label `com.docker.compose.project` (spec 3.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}
