//! The store: boot assets by digest, shared by every engine of a host.
//!
//! ```text
//!  blobs/sha256/DIGEST        files, mode 0444, whole from the moment they have this name
//!  blobs/sha256/DIGEST.blocks digests of their blocks, to tell where one is damaged
//!  stamps/DIGEST              size, inode and times of a file when its content was last known to be right
//!  manifests/ARCH-ID.json     what was built from what; the ID is the beginning of the manifest's own digest
//!  current/ARCH               the manifest that new machines of an architecture boot
//!  packages/DIGEST            verified packages; DIGEST.part while they are downloaded
//!  translators/*.json         which packages translators came from
//!  images/NAME-ARCH.tar       root file systems of containers, and in .json what they were made of: a cache
//!  uses/ID.json               which home's machines use which digests
//!  locks/, tmp/               one builder at a time, and its unfinished work
//! ```

mod blob;
mod clean;
mod quick;

use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use dhow_home::lock::FileLock;
use dhow_model::Arch;

pub use self::clean::Removed;
use crate::error::{At as _, Error, Result};
use crate::manifest::{Bundle, Manifest};
use crate::progress::{Report, Step, begin};

const DIRECTORIES: [&str; 10] = [
    "blobs/sha256",
    "stamps",
    "manifests",
    "current",
    "packages",
    "translators",
    "images",
    "uses",
    "locks",
    "tmp",
];

/// A directory of boot assets. One that belongs to another user can be read.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens a store, making it where there is none.
    ///
    /// # Errors
    /// The directory cannot be made, or is none.
    pub fn open(directory: PathBuf) -> Result<Self> {
        for below in ["", "blobs"].into_iter().chain(DIRECTORIES) {
            let path = if below.is_empty() { directory.clone() } else { directory.join(below) };
            if path.is_dir() {
                continue;
            }
            match DirBuilder::new().recursive(below.is_empty()).mode(0o755).create(&path) {
                // A umask may have taken rights that readers of other users need.
                Ok(()) => std::fs::set_permissions(&path, Permissions::from_mode(0o755))
                    .at("open to readers", &path)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // Somebody else's store: what is there can be read.
                Err(_) if !below.is_empty() && directory.join("blobs/sha256").is_dir() => {}
                Err(error) => return Err(error).at("create the directory", &path),
            }
        }
        let root = directory.canonicalize().at("find", &directory)?;
        Ok(Self { root })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What new machines of an architecture boot; `None` before the first build.
    ///
    /// # Errors
    /// The store cannot be read, or what it points to is damaged.
    pub fn current(&self, arch: Arch) -> Result<Option<Bundle>> {
        let pointer = self.at("current").join(arch.debian());
        let name = match std::fs::read_to_string(&pointer) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.at("read", &pointer)?,
        };
        let name = name.trim();
        let refuse =
            |reason: &str| Error::NotBootable { path: pointer.clone(), arch, reason: reason.to_owned() };
        if name.contains('/') || !name.starts_with(arch.debian()) {
            return Err(refuse("it names no manifest of this architecture"));
        }
        match self.manifest(&self.at("manifests").join(name)) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(refuse("the manifest that it names is gone"))
            }
            other => other.map(|manifest| Some(self.bundle(manifest))),
        }
    }

    /// Every build in the store, by name. A manifest that is damaged is left out, and said in the log.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Bundle>> {
        let mut bundles = Vec::new();
        for path in self.entries("manifests")? {
            match self.manifest(&path) {
                Ok(manifest) => bundles.push(self.bundle(manifest)),
                Err(error) => tracing::warn!(%error, "a manifest cannot be read"),
            }
        }
        Ok(bundles)
    }

    pub(crate) fn at(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(crate) fn bundle(&self, manifest: Manifest) -> Bundle {
        Bundle::new(manifest, &self.at("blobs/sha256"))
    }

    /// Files of a directory of the store, by name.
    fn entries(&self, below: &str) -> Result<Vec<PathBuf>> {
        let directory = self.at(below);
        let mut paths = Vec::new();
        for entry in directory.read_dir().at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            // Names with a dot in front are files that are being written.
            if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn manifest(&self, path: &Path) -> Result<Manifest> {
        let text = std::fs::read(path).at("read", path)?;
        let malformed = |reason: String| Error::malformed(path.display().to_string(), "manifest", reason);
        let manifest = Manifest::parse(&text).map_err(malformed)?;
        let name = manifest_name(&manifest);
        if path.file_name().is_none_or(|found| found != name.as_str()) {
            return Err(malformed(format!("its content is that of {name}: it was changed")));
        }
        Ok(manifest)
    }

    /// Puts a manifest whose files are all there, and makes it what new machines boot.
    pub(crate) fn publish(&self, manifest: Manifest) -> Result<Bundle> {
        let name = manifest_name(&manifest);
        let path = self.at("manifests").join(&name);
        dhow_home::atomic::write(&path, &manifest.to_json(), 0o644).at("write", &path)?;
        let pointer = self.at("current").join(manifest.arch.debian());
        dhow_home::atomic::write(&pointer, format!("{name}\n").as_bytes(), 0o644).at("write", &pointer)?;
        Ok(self.bundle(manifest))
    }

    /// The right to change the store's content, waited for; whatever an interrupted holder left unfinished is removed.
    pub(crate) fn exclusive(&self, limit: Duration, report: Report<'_>) -> Result<FileLock> {
        let path = self.at("locks").join("build");
        let began = Instant::now();
        let mut told = false;
        loop {
            if let Some(lock) = FileLock::try_exclusive(&path).at("lock", &path)? {
                self.remove_debris()?;
                return Ok(lock);
            }
            if began.elapsed() >= limit {
                return Err(Error::Busy { path, seconds: began.elapsed().as_secs() });
            }
            if !told {
                begin(report, Step::Wait, format!("for another build in {}", self.root.display()));
                told = true;
            }
            park_timeout(Duration::from_millis(50));
        }
    }

    fn remove_debris(&self) -> Result<()> {
        let directory = self.at("tmp");
        for entry in directory.read_dir().at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
                .at("remove", &path)?;
        }
        Ok(())
    }
}

fn manifest_name(manifest: &Manifest) -> String {
    format!("{}-{}.json", manifest.arch, manifest.id())
}
