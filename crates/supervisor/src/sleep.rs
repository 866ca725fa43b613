//! Where a sleeping machine's state lies, and how it is written and consumed, so that a crash at any moment leaves either a whole
//! state, which is used once, or none.
//!
//! ```text
//!   sleep.new/ ── written, synced, renamed ──▶ sleep/ ── renamed before it is used ──▶ sleep.used/ ── the guest runs ──▶ removed
//!       │ cut off: removed                                                               │ unusable, or cut off
//!       ▼                                                                                ▼
//!     (none)                                                                     sleep.bad/ with `why`; the last one is kept
//! ```

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use dhow_home::{MachineDir, atomic};

use crate::saved::{Saved, Unusable};
use crate::{Error, Result};

const WHOLE: &str = "sleep";
const NEW: &str = "sleep.new";
const USED: &str = "sleep.used";
const BAD: &str = "sleep.bad";
const STATE: &str = "state.json";
const DEVICES: &str = "devices";
const MEMORY: &str = "memory";
const WHY: &str = "why";

/// A state's directory: one that is being written, or one that was taken to be used.
#[derive(Debug, Clone)]
pub struct Files {
    machine: PathBuf,
    at: PathBuf,
}

impl Files {
    /// Begins a new state.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn begin(dir: &MachineDir) -> Result<Self> {
        let files = Self { machine: dir.path().to_owned(), at: dir.path().join(NEW) };
        remove(&files.at)?;
        DirBuilder::new().mode(0o700).create(&files.at).map_err(file(&files.at))?;
        Ok(files)
    }

    /// Takes the whole state, if there is one; from now on nobody else can.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn take(dir: &MachineDir) -> Result<Option<Self>> {
        let machine = dir.path().to_owned();
        let (from, at) = (machine.join(WHOLE), machine.join(USED));
        match std::fs::rename(&from, &at) {
            Ok(()) => {
                atomic::sync_dir(&machine).map_err(file(&machine))?;
                Ok(Some(Self { machine, at }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file(&from)(error)),
        }
    }

    /// Tidies what a supervisor left that was cut off: a state that was never whole goes, one that was being used is set aside.
    /// Answers why, if one was.
    ///
    /// # Errors
    /// When a directory cannot be removed or renamed.
    pub fn tidy(dir: &MachineDir) -> Result<Option<Unusable>> {
        let machine = dir.path().to_owned();
        remove(&machine.join(NEW))?;
        let used = Self { at: machine.join(USED), machine };
        if !used.at.exists() {
            return Ok(None);
        }
        used.set_aside(&Unusable::Used)?;
        Ok(Some(Unusable::Used))
    }

    /// Removes the whole state, if there is one: the machine will not go on from it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn drop_whole(dir: &MachineDir) -> Result<()> {
        remove(&dir.path().join(WHOLE))
    }

    /// The file of the processors and devices.
    #[must_use]
    pub fn devices(&self) -> PathBuf {
        self.at.join(DEVICES)
    }

    /// The file of the memory.
    #[must_use]
    pub fn memory(&self) -> PathBuf {
        self.at.join(MEMORY)
    }

    /// Finishes a new state: its description, everything on the disk, and its name. Answers what it takes there, bytes.
    ///
    /// # Errors
    /// When something cannot be written; there is no whole state then.
    pub fn finish(self, saved: &Saved) -> Result<u64> {
        let state = self.at.join(STATE);
        let text = serde_json::to_vec_pretty(saved).map_err(|error| file(&state)(error.into()))?;
        let files = [self.devices(), self.memory()];
        for path in &files {
            File::open(path).and_then(|opened| opened.sync_all()).map_err(file(path))?;
        }
        atomic::write(&state, &text, 0o600).map_err(file(&state))?;
        let whole = self.machine.join(WHOLE);
        remove(&whole)?;
        std::fs::rename(&self.at, &whole).map_err(file(&whole))?;
        atomic::sync_dir(&self.machine).map_err(file(&self.machine))?;
        let bytes = |name| dhow_home::process::allocated_bytes(&whole.join(name));
        Ok(bytes(DEVICES) + bytes(MEMORY))
    }

    /// Reads the description.
    ///
    /// # Errors
    /// Why the state is of no use.
    pub fn saved(&self) -> Result<Saved, Unusable> {
        let path = self.at.join(STATE);
        let text = std::fs::read(&path)
            .map_err(|error| Unusable::Description(format!("{}: {error}", path.display())))?;
        Saved::parse(&text)
    }

    /// Removes the state.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(self) -> Result<()> {
        remove(&self.at)
    }

    /// Keeps the state where nobody uses it, instead of the one that was kept there before, and writes down why.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(self, why: &Unusable) -> Result<()> {
        let bad = self.machine.join(BAD);
        remove(&bad)?;
        std::fs::rename(&self.at, &bad).map_err(file(&bad))?;
        let told = bad.join(WHY);
        atomic::write(&told, format!("{why}\n").as_bytes(), 0o600).map_err(file(&told))?;
        atomic::sync_dir(&self.machine).map_err(file(&self.machine))
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(path)(error)),
        _ => Ok(()),
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhow_home::Home;
    use dhow_model::MachineName;

    fn dir(temp: &tempfile::TempDir) -> MachineDir {
        let home = Home::at(temp.path().join("h")).unwrap();
        home.create().unwrap();
        let dir = home.machine(&MachineName::native());
        dir.create().unwrap();
        dir
    }

    fn written(dir: &MachineDir) -> Files {
        let files = Files::begin(dir).unwrap();
        for path in [files.devices(), files.memory()] {
            atomic::write(&path, b"bytes", 0o600).unwrap();
        }
        files
    }

    fn there(dir: &MachineDir) -> Vec<String> {
        let mut names: Vec<String> = [WHOLE, NEW, USED, BAD]
            .into_iter()
            .filter(|name| dir.path().join(name).exists())
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// Spec 13.2.
    #[test]
    fn a_state_is_taken_once_and_what_was_taken_is_never_taken_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        assert!(Files::take(&dir).unwrap().is_none());
        written(&dir).finish(&crate::saved::tests::saved()).unwrap();
        assert_eq!(there(&dir), ["sleep"]);
        let taken = Files::take(&dir).unwrap().unwrap();
        assert_eq!(taken.saved().unwrap(), crate::saved::tests::saved());
        assert!(Files::take(&dir).unwrap().is_none());
        taken.discard().unwrap();
        assert_eq!(there(&dir), [""; 0]);
    }

    /// Spec 16.1, 16.3: a crash before a state is whole leaves none, one after it was taken leaves none that is used.
    #[test]
    fn a_crash_leaves_a_whole_state_or_none() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        drop(written(&dir));
        assert_eq!((Files::tidy(&dir).unwrap(), there(&dir)), (None, vec![]));
        written(&dir).finish(&crate::saved::tests::saved()).unwrap();
        assert_eq!((Files::tidy(&dir).unwrap(), there(&dir)), (None, vec!["sleep".to_owned()]));
        drop(Files::take(&dir).unwrap());
        assert_eq!(Files::tidy(&dir).unwrap(), Some(Unusable::Used));
        assert_eq!(there(&dir), ["sleep.bad"]);
        assert!(Files::take(&dir).unwrap().is_none());
    }

    /// Spec 13.2: what is set aside says why, and only the last one is kept.
    #[test]
    fn a_state_that_is_set_aside_says_why_and_takes_the_place_of_the_one_before() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        for why in ["first", "second"] {
            written(&dir).finish(&crate::saved::tests::saved()).unwrap();
            let taken = Files::take(&dir).unwrap().unwrap();
            taken.set_aside(&Unusable::Failed(why.to_owned())).unwrap();
        }
        assert_eq!(there(&dir), ["sleep.bad"]);
        let told = std::fs::read_to_string(dir.path().join("sleep.bad/why")).unwrap();
        assert_eq!(told, "second\n");
    }

    /// Without a description, or with half of one, nothing is used.
    #[test]
    fn a_state_without_a_readable_description_is_of_no_use() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        written(&dir).finish(&crate::saved::tests::saved()).unwrap();
        let taken = Files::take(&dir).unwrap().unwrap();
        std::fs::remove_file(taken.at.join(STATE)).unwrap();
        assert!(matches!(taken.saved(), Err(Unusable::Description(_))));
    }
}
