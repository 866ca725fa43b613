//! Which homes use what, and the removal of what none uses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Store;
use crate::error::{At as _, Error, Result};
use crate::hash;

/// How long a clean waits for a running build; it is not disturbed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something that [`Store::clean`] removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Use {
    home: PathBuf,
    digests: BTreeSet<String>,
}

impl Store {
    /// Removes what no machine uses: builds that are neither current nor used by a home that still exists, and packages that
    /// belong to no build that stays. With `dry_run` it only says what it would remove.
    ///
    /// # Errors
    /// [`Error::Busy`] while a build runs; a file cannot be removed.
    pub fn clean(&self, dry_run: bool) -> Result<Vec<Removed>> {
        let _lock = self.exclusive(PATIENCE, &mut |_| {})?;
        let mut unused = Vec::new();
        let mut used_digests = BTreeSet::new();
        for path in self.entries("uses")? {
            match read_use(&path) {
                Some(used) if used.home.is_dir() => used_digests.extend(used.digests),
                _ => unused.push(path),
            }
        }
        let mut current = BTreeSet::new();
        for path in self.entries("current")? {
            let name = std::fs::read_to_string(&path).at("read", &path)?;
            current.insert(name.trim().to_owned());
        }
        let mut kept = used_digests.clone();
        let mut packages = BTreeSet::new();
        for path in self.entries("manifests")? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Ok(manifest) = self.manifest(&path) else {
                unused.push(path);
                continue;
            };
            let blobs = manifest.blobs();
            // Builds share files; one is in use if all that a machine boots from is.
            let boots = [&manifest.kernel, &manifest.initrd, &manifest.root];
            if current.contains(&name) || boots.iter().all(|output| used_digests.contains(&output.sha256)) {
                kept.extend(blobs.iter().map(|(_, output)| output.sha256.clone()));
                packages.extend(manifest.lock.packages.iter().map(|package| package.sha256.clone()));
            } else {
                unused.push(path);
            }
        }
        for (below, keep) in [("blobs/sha256", &kept), ("stamps", &kept), ("packages", &packages)] {
            for path in self.entries(below)? {
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let digest = name.split('.').next().unwrap_or(&name);
                if !keep.contains(digest) {
                    unused.push(path);
                }
            }
        }
        // No machine boots from them, and who needs one makes it again.
        unused.extend(self.entries("images")?);
        let mut removed = Vec::new();
        for path in unused {
            let size = path.symlink_metadata().map_or(0, |metadata| metadata.len());
            if !dry_run {
                std::fs::remove_file(&path).at("remove", &path)?;
            }
            removed.push(Removed { path, size });
        }
        Ok(removed)
    }

    /// Says that machines of a home use these digests (all of them: what was said before is replaced). In a store of another
    /// user nothing can be said, and its owner decides alone.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn register_use(&self, home: &Path, digests: &[String]) -> Result<()> {
        let used = Use { home: home.to_path_buf(), digests: digests.iter().cloned().collect() };
        let path = self.use_file(home);
        let text = serde_json::to_vec_pretty(&used).unwrap_or_default();
        match dhow_home::atomic::write(&path, &text, 0o644).at("write", &path) {
            Err(Error::Io { source, .. }) if is_read_only(&source) => {
                tracing::debug!(path = %path.display(), "the store belongs to another user: no use is recorded");
                Ok(())
            }
            other => other,
        }
    }

    /// Says that no machine of a home uses anything.
    ///
    /// # Errors
    /// The record cannot be removed.
    pub fn release_use(&self, home: &Path) -> Result<()> {
        let path = self.use_file(home);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || is_read_only(&error) => Ok(()),
            other => other.at("remove", &path),
        }
    }

    fn use_file(&self, home: &Path) -> PathBuf {
        let name = hash::bytes(home.as_os_str().as_encoded_bytes());
        self.at("uses").join(format!("{}.json", &name[..16]))
    }
}

fn is_read_only(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem)
}

fn read_use(path: &Path) -> Option<Use> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
