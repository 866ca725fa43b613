//! The look before each boot (spec 7.4): cheap while nothing changed, thorough as soon as anything did.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dhow_model::Arch;

use super::Store;
use crate::error::{At as _, Error, Result};
use crate::guest::kernel;
use crate::manifest::{Bundle, Output};

impl Store {
    /// Whether a build can be booted: its files are there, regular, of the right size, of the right kind and architecture, and
    /// untouched since their content was last verified. A file that was touched is hashed again.
    ///
    /// # Errors
    /// [`Error::NotBootable`] names the file, what is wrong and what to run.
    pub fn check_quick(&self, bundle: &Bundle) -> Result<()> {
        let arch = bundle.arch;
        let manifest = &bundle.manifest;
        for (output, check) in [
            (&manifest.kernel, kernel::check_header as fn(&[u8], Arch) -> Result<(), String>),
            (&manifest.initrd, check_initrd),
            (&manifest.root, check_root),
        ] {
            let path = self.blob(&output.sha256);
            self.check_file(&path, output, arch, check)?;
        }
        Ok(())
    }

    fn check_file(
        &self,
        path: &Path,
        output: &Output,
        arch: Arch,
        check: fn(&[u8], Arch) -> Result<(), String>,
    ) -> Result<()> {
        let refuse = |reason: String| Error::NotBootable { path: path.to_path_buf(), arch, reason };
        let metadata = match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse("it is missing".to_owned()));
            }
            other => other.at("look at", path)?,
        };
        if !metadata.is_file() {
            return Err(refuse("it is no regular file".to_owned()));
        }
        if metadata.len() != output.size {
            return Err(refuse(format!("it has {} bytes instead of {}", metadata.len(), output.size)));
        }
        let mut head = Vec::with_capacity(2048);
        File::open(path).at("open", path)?.take(2048).read_to_end(&mut head).at("read", path)?;
        check(&head, arch).map_err(refuse)?;
        if self.stamp(output).is_some_and(|stamp| stamp == stamp_of(&metadata)) {
            return Ok(());
        }
        self.check_blob(output, &mut |_| {}).map_err(|error| refuse(error.to_string()))?;
        if let Err(error) = self.write_stamp(output) {
            tracing::debug!(%error, "a stamp could not be written");
        }
        Ok(())
    }

    /// Whether a file is there and known to be right, without reading it where possible.
    pub(crate) fn is_intact(&self, output: &Output) -> bool {
        let Ok(metadata) = self.blob(&output.sha256).symlink_metadata() else { return false };
        if !metadata.is_file() || metadata.len() != output.size {
            return false;
        }
        self.stamp(output).is_some_and(|stamp| stamp == stamp_of(&metadata))
            || self.check_blob(output, &mut |_| {}).and_then(|()| self.write_stamp(output)).is_ok()
    }

    fn stamp(&self, output: &Output) -> Option<String> {
        std::fs::read_to_string(self.at("stamps").join(&output.sha256)).ok()
    }

    pub(super) fn remove_stamp(&self, output: &Output) {
        let path = self.at("stamps").join(&output.sha256);
        if let Err(error) = std::fs::remove_file(path) {
            tracing::debug!(%error, "a stamp could not be removed");
        }
    }

    pub(super) fn write_stamp(&self, output: &Output) -> Result<()> {
        let path = self.blob(&output.sha256);
        let stamp = stamp_of(&path.symlink_metadata().at("look at", &path)?);
        if self.stamp(output).as_ref() == Some(&stamp) {
            return Ok(());
        }
        let path = self.at("stamps").join(&output.sha256);
        dhow_home::atomic::write(&path, stamp.as_bytes(), 0o644).at("write", &path)
    }
}

/// The change time is among them: no program can set it back.
fn stamp_of(metadata: &Metadata) -> String {
    let (modified, changed) =
        ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
    format!("{} {} {modified:?} {changed:?}\n", metadata.size(), metadata.ino())
}

fn check_initrd(head: &[u8], _: Arch) -> Result<(), String> {
    if head.starts_with(b"070701") { Ok(()) } else { Err("it is no initial RAM disk (cpio)".to_owned()) }
}

fn check_root(head: &[u8], _: Arch) -> Result<(), String> {
    let magic = 0xE0F5_E1E2_u32.to_le_bytes();
    if head.get(1024..1028) == Some(&magic) { Ok(()) } else { Err("it is no root image (EROFS)".to_owned()) }
}
