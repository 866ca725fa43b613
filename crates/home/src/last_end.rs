//! Why a machine last ended, left by its supervisor for a daemon that was not there to hear it.

use std::io;

use dhow_model::Failure;
use serde::{Deserialize, Serialize};

use crate::{MachineDir, atomic};

/// The end of a machine's last run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd {
    /// Which supervisor wrote it.
    pub supervisor_pid: u32,
    /// Why it ended, if nobody asked for that.
    pub failure: Option<Failure>,
}

impl LastEnd {
    /// Writes it down.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, dir: &MachineDir) -> io::Result<()> {
        atomic::write(&dir.last_end(), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// Removes what an earlier run left, so that whatever is found later is this run's.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(dir: &MachineDir) -> io::Result<()> {
        atomic::remove(&dir.last_end())
    }

    /// How the last run ended; `None` if its supervisor was killed before it could write that.
    #[must_use]
    pub fn read(dir: &MachineDir) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.last_end()).ok()?).ok()
    }
}
