//! The one table of names (spec 5.3), swapped whole: whoever asks sees all of a change or nothing of it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::table::Table;

/// A container as names see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Its canonical ID; two entries of one ID are two containers all the same.
    pub id: String,
    /// Its name, without Docker's leading slash.
    pub name: String,
    /// The label `com.docker.compose.project`.
    pub project: Option<String>,
    /// The label `com.docker.compose.service`.
    pub service: Option<String>,
    /// Further names under the domain.
    pub aliases: Vec<String>,
    /// Its addresses on every network, in the order in which they shall be answered.
    pub addresses: Vec<IpAddr>,
}

/// Names of containers and of the host, for the guest's resolver and the host's.
#[derive(Debug, Default)]
pub struct Names {
    table: RwLock<Arc<Table>>,
    engine: OnceLock<String>,
}

impl Names {
    /// A table that knows the host's names only.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whose names these are, once: the tag of the engine's directory. `dhow dns status` asks for it, since only one of several
    /// engines can have the port that the host's resolver knows.
    pub fn of_engine(&self, tag: impl Into<String>) {
        // The first one stays: an engine never becomes another.
        self.engine.get_or_init(|| tag.into());
    }

    pub(crate) fn engine(&self) -> Option<&str> {
        self.engine.get().map(String::as_str)
    }

    /// The containers that run now take the place of all earlier ones.
    pub fn replace(&self, containers: Vec<Container>) {
        let table = Arc::new(Table::of(&containers));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}
