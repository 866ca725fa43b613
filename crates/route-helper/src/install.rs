//! The program's place on the host: a file of root's with one capability, and beside it a record of what was written. What the
//! record does not know is never overwritten, removed or started.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Gid, Uid, XattrFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, PROGRAM, Result};

/// Where, below the root.
const DIRECTORY: &str = "usr/local/libexec/dhow";
const RECORD: &str = "route-helper.json";
/// Root may do everything with it, its group may run it.
const MODE: u32 = 0o750;
const XATTR: &str = "security.capability";
/// `struct vfs_cap_data` (`linux/capability.h`), revision 2: `cap_net_admin+ep`.
const CAPABILITY: [u8; 20] = {
    let mut bytes = [0; 20];
    // VFS_CAP_FLAGS_EFFECTIVE, and the revision in the highest byte.
    bytes[0] = 1;
    bytes[3] = 2;
    // The permitted set's lower half; CAP_NET_ADMIN is bit 12.
    bytes[5] = 1 << 4;
    bytes
};

/// Where the program is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    directory: PathBuf,
    made_up_to: PathBuf,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Of which release.
    version: String,
    /// SHA-256 of the program; while one is being replaced, of its predecessor, too.
    sha256: Vec<String>,
    /// Directories that were made for it.
    made: Vec<PathBuf>,
}

/// An installed program that can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The program.
    pub program: PathBuf,
    /// The release that it came with.
    pub version: String,
    /// The group that may run it.
    pub group: u32,
}

impl Default for Place {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Place {
    /// The place below another root directory, for packages and tests.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { directory: root.join(DIRECTORY), made_up_to: root.to_owned() }
    }

    /// The program's file.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.directory.join(PROGRAM)
    }

    /// The record's file.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.directory.join(RECORD)
    }

    /// Looks at what is installed: whether the program is what [`Place::install`] wrote, and nobody but root can change it.
    ///
    /// # Errors
    /// When it is not installed, or is not what was written; the error says how it differs.
    pub fn check(&self) -> Result<Installed> {
        let path = self.program();
        let foreign = |path: &Path, why: &str| Error::Foreign { path: path.to_owned(), why: why.to_owned() };
        let about = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NotInstalled(path)),
            about => about.map_err(io_error(&path, "read"))?,
        };
        let record = self.read_record()?.ok_or_else(|| foreign(&path, "there is no record of it"))?;
        for path in [&self.directory, &self.record(), &path] {
            let about = fs::symlink_metadata(path).map_err(io_error(path, "read"))?;
            only_roots(&about).map_err(|why| foreign(path, why))?;
        }
        if !about.is_file() {
            return Err(foreign(&path, "it is no regular file"));
        }
        let not_ours = |error: rustix::io::Errno| match error {
            rustix::io::Errno::ACCESS => {
                foreign(&path, "only root and its group may run it, and you are not in that group")
            }
            other => io_error(&path, "read")(other.into()),
        };
        rustix::fs::access(&path, Access::EXEC_OK | Access::READ_OK).map_err(not_ours)?;
        let (digest, capability) = self.read_program()?;
        if record.sha256.first() != Some(&digest) {
            return Err(foreign(&path, "its content is another one"));
        }
        if capability != CAPABILITY {
            return Err(foreign(&path, "it does not have the capability cap_net_admin+ep"));
        }
        Ok(Installed { program: path, version: record.version, group: about.gid() })
    }

    /// What [`Place::install`] would do, without doing it.
    ///
    /// # Errors
    /// As [`Place::install`], as far as that can be known.
    pub fn may_install(&self, source: &Path) -> Result<()> {
        File::open(source).map_err(io_error(source, "read"))?;
        self.ours().map(|_| ())
    }

    /// Writes the program, which `source` is a copy of, for root and a group.
    ///
    /// # Errors
    /// When the caller is not root, a file cannot be written, or a file is there that is not ours: it is left as it is.
    pub fn install(&self, source: &Path, group: u32, version: &str) -> Result<Installed> {
        self.must_be_root()?;
        let bytes = fs::read(source).map_err(io_error(source, "read"))?;
        let before = self.ours()?;
        let mut record = Record {
            version: version.to_owned(),
            sha256: vec![digest(&bytes)],
            made: before.as_ref().map(|record| record.made.clone()).unwrap_or_default(),
        };
        self.make_directories(&mut record.made)?;
        // The record knows both programs while one takes the other's place, so that neither is a stranger after a crash.
        let new = record.sha256.len();
        record.sha256.extend(before.into_iter().flat_map(|record| record.sha256));
        self.write_record(&record)?;
        self.put(&self.program(), &bytes, MODE, group, &CAPABILITY)?;
        record.sha256.truncate(new);
        self.write_record(&record)?;
        self.check()
    }

    /// What [`Place::uninstall`] would remove: nothing when nothing is there.
    ///
    /// # Errors
    /// When a file is there that is not ours.
    pub fn may_uninstall(&self) -> Result<Vec<PathBuf>> {
        let made = self.ours()?.map(|record| record.made).unwrap_or_default();
        let files = [self.program(), self.record(), temporary(&self.program()), temporary(&self.record())];
        Ok(files
            .into_iter()
            .chain(made.into_iter().rev())
            .filter(|path| path.symlink_metadata().is_ok())
            .collect())
    }

    /// Removes the program, its record, and the directories that were made for them if nothing else is in them.
    ///
    /// # Errors
    /// When the caller is not root, or the program is not ours: it is left as it is.
    pub fn uninstall(&self) -> Result<Vec<PathBuf>> {
        if self.directory.symlink_metadata().is_ok() {
            self.must_be_root()?;
        }
        let mut removed = self.may_uninstall()?;
        let mut failed = None;
        removed.retain(|path| {
            let is_dir = path.is_dir();
            match if is_dir { fs::remove_dir(path) } else { fs::remove_file(path) } {
                Ok(()) => true,
                Err(error) if is_dir && error.kind() == io::ErrorKind::DirectoryNotEmpty => false,
                Err(error) => {
                    failed.get_or_insert(io_error(path, "removed")(error));
                    false
                }
            }
        });
        failed.map_or(Ok(removed), Err)
    }

    /// The record, if what is there is what it says, or nothing is there.
    fn ours(&self) -> Result<Option<Record>> {
        let path = self.program();
        let record = self.read_record()?;
        if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(record);
        }
        let why = |why: &str| Error::Foreign { path: path.clone(), why: why.to_owned() };
        let Some(record) = record else { return Err(why("there is no record of it")) };
        let is_file = path.symlink_metadata().is_ok_and(|about| about.is_file());
        if !is_file || !record.sha256.contains(&self.read_program()?.0) {
            return Err(why("its content is another one"));
        }
        Ok(Some(record))
    }

    fn read_record(&self) -> Result<Option<Record>> {
        let path = self.record();
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path, "read")(error)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::Foreign { path, why: error.to_string() }),
        }
    }

    fn read_program(&self) -> Result<(String, Vec<u8>)> {
        let path = self.program();
        let read = || -> io::Result<_> {
            let mut file = File::open(&path)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let mut capability = [0; 64];
            let length = match rustix::fs::fgetxattr(&file, XATTR, &mut capability) {
                Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => 0,
                length => length?,
            };
            Ok((digest(&bytes), capability[..length].to_vec()))
        };
        read().map_err(io_error(&path, "read"))
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.record();
        let bytes = serde_json::to_vec_pretty(record).map_err(|e| io_error(&path, "written")(e.into()))?;
        self.put(&path, &bytes, 0o644, 0, &[])
    }

    /// Writes a file of root's whole, with its capability, or not at all.
    fn put(&self, path: &Path, bytes: &[u8], mode: u32, group: u32, capability: &[u8]) -> Result<()> {
        let new = temporary(path);
        let write = || -> io::Result<()> {
            fs::remove_file(&new)
                .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            rustix::fs::fchown(&file, Some(Uid::ROOT), Some(Gid::from_raw(group)))?;
            file.set_permissions(Permissions::from_mode(mode))?;
            // Last, since writing and changing the owner take it away.
            if !capability.is_empty() {
                rustix::fs::fsetxattr(&file, XATTR, capability, XattrFlags::empty())?;
            }
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| {
            fs::remove_file(&new).ok();
            io_error(path, "written")(error)
        })
    }

    fn make_directories(&self, made: &mut Vec<PathBuf>) -> Result<()> {
        let missing: Vec<&Path> = self
            .directory
            .ancestors()
            .take_while(|dir| *dir != self.made_up_to && dir.symlink_metadata().is_err())
            .collect();
        for dir in missing.into_iter().rev() {
            DirBuilder::new().mode(0o755).create(dir).map_err(io_error(dir, "made"))?;
            // Whatever the caller's umask is.
            fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(io_error(dir, "made"))?;
            if !made.iter().any(|known| known == dir) {
                made.push(dir.to_owned());
            }
        }
        Ok(())
    }

    fn must_be_root(&self) -> Result<()> {
        if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NeedsRoot(self.program())) }
    }
}

fn only_roots(about: &Metadata) -> Result<(), &'static str> {
    if about.uid() != 0 {
        Err("it is not root's")
    } else if about.mode() & 0o022 != 0 {
        Err("others than root may write to it")
    } else {
        Ok(())
    }
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".new-{name}"))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn io_error(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, done, source }
}
