//! Files by digest: put in whole or not at all, and verified down to the block.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::Store;
use crate::error::{At as _, Error, Result};
use crate::hash::{self, HashingWriter};
use crate::manifest::{Bundle, Output};
use crate::progress::{Progress, Report, Step};

/// A file on its way into the store: a temporary file that is hashed as it is written.
pub(crate) type Sink = HashingWriter<BufWriter<NamedTempFile>>;

impl Store {
    /// Writes a file into the store; a write that fails leaves nothing that has a name there.
    pub(crate) fn put(&self, write: impl FnOnce(&mut Sink) -> std::io::Result<()>) -> Result<Output> {
        self.put_checked(write, &|_| Ok(()))
    }

    /// Like [`Self::put`]; what was written is looked at before it gets its name.
    pub(crate) fn put_checked(
        &self,
        write: impl FnOnce(&mut Sink) -> std::io::Result<()>,
        check: &dyn Fn(&Output) -> Result<()>,
    ) -> Result<Output> {
        let scratch = self.at("tmp");
        let file = NamedTempFile::new_in(&scratch).at("create a file in", &scratch)?;
        let mut sink = HashingWriter::new(BufWriter::with_capacity(1 << 20, file));
        write(&mut sink).at("write a file in", &scratch)?;
        sink.flush().at("write a file in", &scratch)?;
        let (buffer, sha256, size) = sink.finish();
        let output = Output { sha256, size };
        check(&output)?;
        let file = buffer
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .at("write a file in", &scratch)?;
        self.place(file, &output)?;
        Ok(output)
    }

    fn place(&self, file: NamedTempFile, output: &Output) -> Result<()> {
        let path = self.blob(&output.sha256);
        if self.is_intact(output) {
            return Ok(());
        }
        let blocks = hash::blocks(file.path())?;
        dhow_home::atomic::write(&self.block_list(&output.sha256), &blocks, 0o644).at("write", &path)?;
        file.as_file().set_permissions(Permissions::from_mode(0o444)).at("protect", file.path())?;
        file.as_file().sync_all().at("sync", file.path())?;
        file.persist(&path).map_err(|error| error.error).at("place", &path)?;
        let directory = self.at("blobs/sha256");
        File::open(&directory).and_then(|directory| directory.sync_all()).at("sync", &directory)?;
        self.write_stamp(output)
    }

    /// Hashes every file of a build.
    ///
    /// # Errors
    /// [`Error::WrongHash`] names the first damaged file, what was expected and found, and the bytes where it differs.
    pub fn verify(&self, bundle: &Bundle, report: Report<'_>) -> Result<()> {
        for (name, output) in bundle.manifest.blobs() {
            let detail = format!("{name} {}", &output.sha256[..12]);
            let checked = self.check_blob(output, &mut |done| {
                let detail = detail.clone();
                report(Progress::Bytes { step: Step::Verify, detail, done, total: output.size });
            });
            if let Err(error) = checked {
                // A disk that rots does not touch a file's times: what was found must be found again before a boot.
                self.remove_stamp(output);
                return Err(error);
            }
            // A reader of another user's store keeps no stamps.
            if let Err(error) = self.write_stamp(output) {
                tracing::debug!(%error, "a stamp could not be written");
            }
        }
        Ok(())
    }

    /// Hashes one file.
    pub(crate) fn check_blob(&self, output: &Output, done: &mut dyn FnMut(u64)) -> Result<()> {
        let path = self.blob(&output.sha256);
        let (found, length) = hash::file_with(&path, done)?;
        if found == output.sha256 {
            return Ok(());
        }
        let name = path.display().to_string();
        let place = std::fs::read(self.block_list(&output.sha256)).ok().and_then(|expected| {
            let found = hash::blocks(&path).ok()?;
            hash::first_difference(&expected, &found)
        });
        let what = match place {
            Some((start, end)) => {
                format!("the first difference is in bytes {start} to {}", end.min(length.max(start + 1)) - 1)
            }
            None => "where it differs is not known".to_owned(),
        };
        if length != output.size {
            let hint = format!("; {what}");
            return Err(Error::WrongSize { name, expected: output.size, found: length, hint });
        }
        let hint = format!("; {what}; `dhow assets build` replaces it");
        Err(Error::WrongHash { name, expected: output.sha256.clone(), found, hint })
    }

    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.at("blobs/sha256").join(digest)
    }

    pub(super) fn block_list(&self, digest: &str) -> PathBuf {
        self.at("blobs/sha256").join(format!("{digest}.blocks"))
    }
}
