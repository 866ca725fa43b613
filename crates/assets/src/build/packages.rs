//! Packages in the store: downloaded once, verified before they get their name, verified again whenever they are used.

use std::path::{Path, PathBuf};

use crate::debian::Mirrors;
use crate::error::{At as _, Error, Result};
use crate::hash;
use crate::http::{Client, Expected};
use crate::lock::{Lock, LockedPackage};
use crate::progress::{Progress, Report, Step};
use crate::store::Store;

/// Where a package stands.
pub(crate) fn path(store: &Store, package: &LockedPackage) -> PathBuf {
    store.at("packages").join(&package.sha256)
}

/// Whether a build has to download anything.
pub(crate) fn missing(store: &Store, lock: &Lock) -> Result<bool> {
    Ok(!lock.packages.iter().all(|package| is_there(&path(store, package), package)))
}

fn is_there(path: &Path, package: &LockedPackage) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == package.size)
}

/// Downloads what is missing.
pub(crate) fn fetch(
    store: &Store,
    client: &Client,
    mirrors: Option<&Mirrors>,
    lock: &Lock,
    report: Report<'_>,
) -> Result<()> {
    let total = lock.total_size();
    let mut before = 0;
    for package in &lock.packages {
        let place = path(store, package);
        if !is_there(&place, package) {
            let mirrors = mirrors.ok_or(Error::NoMirror)?;
            let address = mirrors.address(&package.source).ok_or_else(|| Error::NoMirrorOf {
                archive: package.source.clone(),
                package: package.name.clone(),
            })?;
            let url = format!("{address}/{}", encoded(&package.filename));
            let part = place.with_extension("part");
            let expected = Expected { sha256: &package.sha256, size: package.size };
            let detail = format!("{} {}", package.name, package.version);
            client.file(&url, &part, expected, &mut |done| {
                let detail = detail.clone();
                report(Progress::Bytes { step: Step::Download, detail, done: before + done, total });
            })?;
            std::fs::rename(&part, &place).at("place", &place)?;
        }
        before += package.size;
    }
    Ok(())
}

/// A package's bytes, if they are what the lock says; damaged ones are removed, so that the next build fetches them again.
pub(crate) fn read(store: &Store, package: &LockedPackage) -> Result<Vec<u8>> {
    let path = path(store, package);
    let content = std::fs::read(&path).at("read", &path)?;
    let found = hash::bytes(&content);
    if found == package.sha256 {
        return Ok(content);
    }
    std::fs::remove_file(&path).at("remove", &path)?;
    let name = format!("{} ({})", path.display(), package.filename);
    let hint = "; it was removed, run the command again to fetch it anew".to_owned();
    Err(Error::WrongHash { name, expected: package.sha256.clone(), found, hint })
}

/// A path as part of an address: `+` and `~` occur in names, and mean themselves in a path.
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace(' ', "%20").replace('#', "%23").replace('?', "%3f")
}
