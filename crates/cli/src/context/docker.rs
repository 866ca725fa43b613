//! Docker's directory: `config.json` and the contexts' metadata.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dhow_home::atomic;

use super::{DEFAULT, Error, Result, io_error, rules};

/// One of Docker's directories.
#[derive(Debug, Clone)]
pub struct Docker {
    dir: PathBuf,
}

impl Docker {
    /// The one that `DOCKER_CONFIG` names, or else `.docker` in the user's own.
    pub fn locate() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let dir = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
        // The record outlives this command's working directory.
        let dir = std::path::absolute(dir.ok_or(Error::Nowhere)?).map_err(|_| Error::Nowhere)?;
        Ok(Self::at(dir))
    }

    /// The one at `dir`, which need not exist.
    pub const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A context's metadata file; `None` if there is no such context.
    pub fn meta(&self, name: &str) -> Result<Option<String>> {
        read(&rules::meta_file(&self.dir, name))
    }

    /// Whether a context exists.
    pub fn exists(&self, name: &str) -> bool {
        name == DEFAULT || rules::meta_file(&self.dir, name).exists()
    }

    /// Makes a context.
    pub fn write_meta(&self, name: &str, content: &str) -> Result<()> {
        let path = rules::meta_file(&self.dir, name);
        if let Some(dir) = path.parent() {
            self.create_dir(dir)?;
        }
        atomic::write(&path, content.as_bytes(), 0o644).map_err(io_error(&path, "written"))
    }

    /// Removes a context and its directory, where nothing else is in it.
    pub fn remove_meta(&self, name: &str) -> Result<()> {
        let path = rules::meta_file(&self.dir, name);
        atomic::remove(&path).map_err(io_error(&path, "removed"))?;
        match path.parent().map(std::fs::remove_dir) {
            Some(Err(e)) if e.kind() != io::ErrorKind::DirectoryNotEmpty => {
                Err(io_error(&path, "removed")(e))
            }
            _ => Ok(()),
        }
    }

    /// The context that `config.json` names.
    pub fn current(&self) -> Result<String> {
        let path = self.config_file();
        rules::current(read(&path)?.as_deref(), &path)
    }

    /// Makes a context current. The file keeps its mode, and its place where it is a symbolic link.
    pub fn set_current(&self, name: &str) -> Result<()> {
        let path = self.config_file();
        let before = read(&path)?;
        let after = rules::with_current(before.as_deref(), &path, name)?;
        let (path, mode) = match before {
            None => {
                self.create_dir(&self.dir)?;
                (path, 0o600)
            }
            Some(_) => {
                let real = path.canonicalize().map_err(io_error(&path, "read"))?;
                let mode = real.metadata().map_err(io_error(&path, "read"))?.permissions().mode();
                (real, mode & 0o777)
            }
        };
        atomic::write(&path, after.as_bytes(), mode).map_err(io_error(&path, "written"))
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Docker makes its own directory 0700 and those of contexts 0755, so that is what we make.
    fn create_dir(&self, dir: &Path) -> Result<()> {
        let make = |dir: &Path, mode| {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(dir)
                .map_err(io_error(dir, "written"))
        };
        make(&self.dir, 0o700)?;
        make(dir, 0o755)
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            Err(Error::Malformed { path: path.to_owned(), why: e.to_string() })
        }
        Err(e) => Err(io_error(path, "read")(e)),
    }
}
