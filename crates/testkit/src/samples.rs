//! Data to send through an engine: trees of files with a digest that both sides can compute.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result, place};

/// Fills `dir` with `files` files of `size` bytes each, spread over sub-directories of a hundred, none like another and
/// none compressible; the same for every run.
///
/// # Errors
/// [`Error::Io`] when a file cannot be written.
pub fn tree(dir: &Path, files: usize, size: usize) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0_u8; size.next_multiple_of(8)];
    for number in 0..files {
        let sub = dir.join(format!("{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&sub).map_err(Error::io("create directory", &sub))?;
        }
        for chunk in bytes.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        place::write(&sub.join(format!("{number:05}.bin")), &bytes[..size])?;
    }
    Ok(())
}

/// One digest over the names and contents of all files below `dir`: what
/// `find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` prints in it.
///
/// # Errors
/// [`Error::Io`] when something cannot be read.
pub fn digest(dir: &Path) -> Result<String> {
    let mut names = Vec::new();
    list(dir, ".", &mut names)?;
    names.sort();
    let mut whole = Sha256::new();
    for name in names {
        let path = dir.join(&name);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        whole.update(format!("{}  {name}\n", hex(&Sha256::digest(bytes))));
    }
    Ok(hex(&whole.finalize()))
}

/// The shell command that prints the same digest of the directory it runs in.
pub const DIGEST: &str = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1";

fn list(dir: &Path, name: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let below = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), &below, names)?;
        } else {
            names.push(below);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Run;

    #[test]
    fn the_digest_is_the_one_that_a_shell_computes() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), 120, 1000).unwrap();
        let shell = Run::new("sh").args(["-c", DIGEST]).dir(dir.path()).ok().unwrap();
        assert_eq!(digest(dir.path()).unwrap(), shell.text());
    }
}
