//! Directories of the host, mounted at the same paths (spec 14.1). One file system holds them all, each by its number, and is
//! itself out of sight afterwards.

use std::fs;
use std::path::Path;

use dhow_model::config::{Access, Share};
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};

use crate::mounts::attach;
use crate::{Error, Result, changes};

/// Where all of them lie for a moment.
const ALL: &str = "/run/dhow-shares";

/// Mounts each; answers what a reader may want to know. The outer ones come first, so that an inner one lies over them.
pub fn mount(shares: &[Share]) -> Result<String> {
    if shares.is_empty() {
        return Ok("none".to_owned());
    }
    // A device node of the host's is none here.
    attach(dhow_model::SHARES_TAG, ALL, "virtiofs", MountFlags::NODEV, "")?;
    for (number, Share { path, access }) in shares.iter().enumerate() {
        fs::create_dir_all(path).map_err(Error::file("make", path))?;
        let from = Path::new(ALL).join(number.to_string());
        mount_bind(&from, path).map_err(Error::file("mount", path))?;
        if *access == Access::ReadOnly {
            // The host refuses to change it in any case; programs are told so in the usual words.
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV;
            mount_remount(path, flags, "").map_err(Error::file("mount", path))?;
        }
    }
    changes::begin(Path::new(ALL))?;
    unmount(ALL, UnmountFlags::DETACH).map_err(Error::file("unmount", ALL))?;
    Ok(shares.iter().map(|share| share.path.display().to_string()).collect::<Vec<_>>().join(", "))
}
