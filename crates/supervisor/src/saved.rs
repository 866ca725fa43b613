//! What a sleeping machine was made from, and whether it may go on from its saved state. Every input is there by digest or mark,
//! and one that differs is named: there is a cold boot then, and never a wrong resume (spec 13.2).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dhow_hypervisor::{Dumped, Qemu};
use dhow_model::{MachineSpec, drift};
use serde::{Deserialize, Serialize};

/// The version of all files of a saved state. A Dhow that writes another does not read this one.
pub const FORMAT: u32 = 1;

/// A saved state's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// [`FORMAT`] of the Dhow that wrote it.
    pub format: u32,
    /// When the machine went to sleep, nanoseconds since 1970-01-01 UTC.
    pub since_unix_nanos: u64,
    /// What the machine and its state depend on.
    pub inputs: Inputs,
    /// What was written to `devices`.
    pub devices: Dumped,
    /// What was written to `memory`.
    pub memory: Dumped,
    /// Containers that ran, where that was known.
    pub running_containers: Option<u32>,
}

/// What must be the same when the machine goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// What the machine was made from; kernel, initial RAM disk and root image by their digests.
    pub machine: MachineSpec,
    /// The hypervisor's name and version.
    pub hypervisor: String,
    /// Its executable.
    pub executable: Mark,
    /// The host's processor, as far as a guest can see it; empty where it is emulated.
    pub processor: String,
    /// The data image.
    pub disk: Mark,
}

/// Tells whether a file is still what it was, without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The file, by its resolved path.
    pub path: PathBuf,
    /// Its number in its file system.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When it was last written, seconds and nanoseconds since 1970-01-01 UTC.
    pub modified: (i64, i64),
}

/// Why a saved state is not used. It completes the sentence "the machine boots anew since …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Another Dhow wrote it.
    #[error("its saved state has format {found}, and this Dhow reads {FORMAT}")]
    Format {
        /// Its format.
        found: u64,
    },
    /// It cannot be read.
    #[error("the description of its saved state is damaged: {0}")]
    Description(String),
    /// It was made from something else.
    #[error("its {field} was {saved} when it went to sleep and is {now}")]
    Differs {
        /// What.
        field: String,
        /// What it was.
        saved: String,
        /// What it is.
        now: String,
    },
    /// A supervisor or the host ended while it was being woken: what its disk holds may be newer than its memory.
    #[error("it was being woken, or had just been, when its supervisor ended")]
    Used,
    /// The hypervisor, the guest or a file did not do it.
    #[error("{0}")]
    Failed(String),
}

impl Saved {
    /// Reads a description.
    ///
    /// # Errors
    /// Its format is another, or it is damaged.
    pub fn parse(text: &[u8]) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Any {
            format: u64,
        }
        let damaged = |error: serde_json::Error| Unusable::Description(error.to_string());
        // Another format has other fields.
        let Any { format } = serde_json::from_slice(text).map_err(damaged)?;
        if format != u64::from(FORMAT) {
            return Err(Unusable::Format { found: format });
        }
        serde_json::from_slice(text).map_err(damaged)
    }
}

impl Inputs {
    /// Whether a machine that was saved with these may go on with what is there `now`.
    ///
    /// # Errors
    /// What differs, and how.
    pub fn allow(&self, now: &Self) -> Result<(), Unusable> {
        // The patterns name each one, so that a new field cannot be forgotten here.
        let Self { machine, hypervisor, executable, processor, disk } = self;
        let differs = |field: &str, saved: String, now: String| {
            if saved == now { Ok(()) } else { Err(Unusable::Differs { field: field.to_owned(), saved, now }) }
        };
        match drift::between(machine, &now.machine) {
            Ok(drifts) => {
                if let Some(drift) = drifts.into_iter().next() {
                    differs(drift.field, drift.made, drift.asked)?;
                }
            }
            Err(shrinks) => differs("disk", shrinks.made.to_string(), shrinks.asked.to_string())?,
        }
        differs("hypervisor", hypervisor.clone(), now.hypervisor.clone())?;
        differs("hypervisor's executable", executable.to_string(), now.executable.to_string())?;
        differs("host's processor", processor.clone(), now.processor.clone())?;
        differs("data disk", disk.to_string(), now.disk.to_string())?;
        // Whatever the words above leave out.
        if self == now { Ok(()) } else { differs("description", "another".to_owned(), "this".to_owned()) }
    }

    /// What is there now. The mark of `qemu`'s executable is the caller's: a hypervisor that runs may be another one than its file
    /// has become.
    ///
    /// # Errors
    /// A file that cannot be looked at.
    pub fn now(machine: &MachineSpec, qemu: &Qemu, executable: Mark, disk: &Path) -> std::io::Result<Self> {
        use dhow_hypervisor::Hypervisor as _;
        let processor = match machine.accelerator {
            dhow_model::Accelerator::Tcg => String::new(),
            _ => processor(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        };
        Ok(Self {
            machine: machine.clone(),
            hypervisor: qemu.name().to_owned(),
            executable,
            processor,
            disk: Mark::of(disk)?,
        })
    }
}

impl Mark {
    /// The mark of a file as it is now.
    ///
    /// # Errors
    /// When it is not there.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let path = path.canonicalize()?;
        let metadata = path.metadata()?;
        Ok(Self::new(path, &metadata))
    }

    fn new(path: PathBuf, metadata: &Metadata) -> Self {
        Self {
            path,
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, inode, bytes, modified: (seconds, nanos) } = self;
        write!(f, "{} (file {inode}, {bytes} bytes, written at {seconds}.{nanos:09})", path.display())
    }
}

/// The first processor's model and features, as a digest: a guest that runs on the host's own processor has seen them.
fn processor(cpuinfo: &str) -> String {
    let told: Vec<&str> = cpuinfo
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default().trim();
            ["vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features"]
                .contains(&name)
        })
        .collect();
    dhow_assets::hash::bytes(told.join("\n").as_bytes())
}

#[cfg(test)]
#[path = "saved_tests.rs"]
pub(crate) mod tests;
