//! The lock file: every package of a build, so that the same build can be made again (spec 7.2).

use std::path::Path;

use dhow_model::Arch;
use serde::{Deserialize, Serialize};

use crate::debian::Package;
use crate::error::{At as _, Error, Result};
use crate::hash;

/// Version of the file's form.
const FORMAT: u32 = 1;

/// The packages of one build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of this form.
    pub format: u32,
    /// The guest's architecture.
    pub arch: Arch,
    /// Debian's release.
    pub suite: String,
    /// The packages, by name.
    pub packages: Vec<LockedPackage>,
}

/// One package of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Which of the distribution's archives has it: `debian` or `debian-security`. The address is the mirror's, and not part of
    /// a lock.
    pub source: String,
    /// Path below the archive's address.
    pub filename: String,
    /// Digest of the file.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl Lock {
    pub(crate) fn new(arch: Arch, suite: &str, packages: &[&Package]) -> Self {
        let packages = packages.iter().map(|package| LockedPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            source: package.archive.clone(),
            filename: package.filename.clone(),
            sha256: package.sha256.clone(),
            size: package.size,
        });
        Self { format: FORMAT, arch, suite: suite.to_owned(), packages: packages.collect() }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// It cannot be read, or is no lock file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).at("read", path)?;
        let malformed = |reason: String| Error::malformed(path.display().to_string(), "lock file", reason);
        let lock: Self = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        lock.check().map_err(malformed)?;
        Ok(lock)
    }

    /// Writes a lock file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        dhow_home::atomic::write(path, &self.to_json(), 0o644).at("write", path)
    }

    /// Bytes of all packages together.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.packages.iter().map(|package| package.size).sum()
    }

    pub(crate) fn digest(&self) -> String {
        hash::bytes(&self.to_json())
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("it has format {}, and this Dhow reads {FORMAT}", self.format));
        }
        for package in &self.packages {
            if !hash::is_digest(&package.sha256) {
                return Err(format!("the package `{}` has no valid sha256", package.name));
            }
            if package.filename.starts_with('/') || package.filename.split('/').any(|part| part == "..") {
                return Err(format!("the package `{}` has a filename outside the archive", package.name));
            }
        }
        Ok(())
    }

    fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}
