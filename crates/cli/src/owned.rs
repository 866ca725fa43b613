//! Files of ours among somebody else's: the first line says whose, with the digest of all that follows. One that does not, or not
//! any more, is never overwritten or removed.

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// A longer file is not ours.
const LONGEST: u64 = 64 << 10;

/// Whose a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// There is none.
    Nobody,
    /// We wrote this below the first line, and nobody changed it.
    Us(String),
    /// It is somebody else's, and why we think so.
    Other(&'static str),
}

/// Looks at a file whose first line would begin with this mark.
///
/// # Errors
/// When it cannot be read.
pub fn look(path: &Path, mark: &str) -> io::Result<Owner> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(e) if is_absent(&e) => return Ok(Owner::Nobody),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Ok(Owner::Other("it is a link, a directory or a device"));
    }
    if metadata.len() > LONGEST {
        return Ok(Owner::Other("dhow did not write it"));
    }
    Ok(judge(&std::fs::read(path)?, mark))
}

fn judge(bytes: &[u8], mark: &str) -> Owner {
    let Some((digest, rest)) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.strip_prefix(mark))
        .and_then(|text| text.split_once('\n'))
    else {
        return Owner::Other("dhow did not write it");
    };
    if digest != self::digest(rest) {
        return Owner::Other("somebody changed it after dhow wrote it");
    }
    Owner::Us(rest.to_owned())
}

/// A file with this text below its first line.
#[must_use]
pub fn render(mark: &str, text: &str) -> String {
    format!("{mark}{}\n{text}", digest(text))
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
