//! What fuzzing has found, fed to its targets again by ordinary tests.

use std::path::Path;

use crate::{Error, Result};

/// What a fuzz target does with bytes. It panics where they do harm.
pub type Target = fn(&[u8]);

/// Feeds each target the files of the directory of its name in `fuzz-corpus`, in the crate whose manifest is in `package`.
///
/// # Errors
/// When a directory cannot be read, or has no file: a target without a corpus would pass unseen.
pub fn replay(package: &str, targets: &[(&str, Target)]) -> Result<()> {
    for (name, target) in targets {
        let dir = Path::new(package).join("fuzz-corpus").join(name);
        let mut count = 0;
        for entry in std::fs::read_dir(&dir).map_err(Error::io("read directory", &dir))? {
            let file = entry.map_err(Error::io("read directory", &dir))?.path();
            target(&std::fs::read(&file).map_err(Error::io("read", &file))?);
            count += 1;
        }
        if count == 0 {
            return Err(Error::Missing {
                what: format!("a corpus in {}", dir.display()),
                hint: format!("fuzz the target {name}"),
            });
        }
    }
    Ok(())
}
