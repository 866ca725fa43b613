//! Where things are: the repository, `.dev/` in it, and the directory of what `./dev build` puts together.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// `.dev/` and a place in it, made if missing. `DHOW_DEV` puts it elsewhere.
///
/// # Errors
/// [`Error::Io`] when it cannot be made.
pub fn dev(place: &str) -> Result<PathBuf> {
    let base = std::env::var_os("DHOW_DEV").map_or_else(|| root().join(".dev"), PathBuf::from);
    let path = base.join(place);
    fs::create_dir_all(&path).map_err(Error::io("create directory", &path))?;
    Ok(path)
}

/// The `dhow` executable that `./dev build` put together with its agents, or the one that `DHOW_BIN` names.
///
/// # Errors
/// [`Error::Missing`] when there is none.
pub fn dhow() -> Result<PathBuf> {
    let path = std::env::var_os("DHOW_BIN").map_or_else(|| root().join("target/dhow/dhow"), PathBuf::from);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Missing { what: path.display().to_string(), hint: "make it: ./dev build".to_owned() })
}

/// Holds other test processes off until dropped: what is made once is made by one.
///
/// # Errors
/// [`Error::Io`] when the lock file cannot be made or locked.
pub fn lock(name: &str) -> Result<File> {
    let path = dev("locks")?.join(name);
    let file = File::create(&path).map_err(Error::io("create lock", &path))?;
    file.lock().map_err(Error::io("lock", &path))?;
    Ok(file)
}

/// A short stable name for something made from `inputs`.
pub(crate) fn key(inputs: &[&str]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(inputs.join("\n"));
    digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a whole file.
///
/// # Errors
/// [`Error::Io`] with the file's path.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    use std::io::Write;
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes.as_ref()).map_err(Error::io("write", path))
}
