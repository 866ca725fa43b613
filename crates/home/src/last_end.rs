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

    /// What the supervisor with this process ID wrote; `None` if it was killed before it could.
    #[must_use]
    pub fn read(dir: &MachineDir, supervisor_pid: u32) -> Option<Self> {
        let end: Self = serde_json::from_slice(&std::fs::read(dir.last_end()).ok()?).ok()?;
        (end.supervisor_pid == supervisor_pid).then_some(end)
    }
}
