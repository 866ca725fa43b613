//! What we changed in Docker's directories, remembered in Dhow's own: `context.json`.

use std::io;
use std::path::PathBuf;

use dhow_home::{Home, atomic};

use super::{Entry, Error, Result, io_error};

/// The record's file.
#[derive(Debug, Clone)]
pub struct Record {
    path: PathBuf,
}

impl Record {
    /// The record in `home`.
    pub fn of(home: &Home) -> Self {
        Self { path: home.root().join("context.json") }
    }

    /// Every entry. A record that is not there is empty.
    pub fn read(&self) -> Result<Vec<Entry>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::Malformed { path: self.path.clone(), why: e.to_string() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(io_error(&self.path, "read")(e)),
        }
    }

    /// Adds an entry, in place of an earlier one about the same context.
    pub fn put(&self, entry: Entry) -> Result<()> {
        let mut entries = self.read()?;
        if entries.contains(&entry) {
            return Ok(());
        }
        entries.retain(|e| !is_about(e, &entry));
        entries.push(entry);
        self.write(&entries)
    }

    /// Removes the entry about the same context; an empty record is removed.
    pub fn forget(&self, entry: &Entry) -> Result<()> {
        let mut entries = self.read()?;
        entries.retain(|e| !is_about(e, entry));
        self.write(&entries)
    }

    fn write(&self, entries: &[Entry]) -> Result<()> {
        if entries.is_empty() {
            return atomic::remove(&self.path).map_err(io_error(&self.path, "removed"));
        }
        let bytes = serde_json::to_vec(entries)
            .map_err(|e| Error::Malformed { path: self.path.clone(), why: e.to_string() })?;
        atomic::write(&self.path, &bytes, 0o600).map_err(io_error(&self.path, "written"))
    }
}

fn is_about(one: &Entry, other: &Entry) -> bool {
    one.docker_config == other.docker_config && one.context == other.context
}
