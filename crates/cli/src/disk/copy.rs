//! `dhow disk export`: the image as it is, holes as holes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use dhow_model::{Failure, MachineName};
use serde::Serialize;

use super::{image, state};
use crate::command::Caller;
use crate::error::{Error, Result};
use crate::house::Report as _;
use crate::progress::Progress;
use crate::{exit, text};

/// What `dhow disk export --json` prints.
#[derive(Debug, Serialize)]
struct Exported {
    machine: String,
    file: String,
    size_bytes: u64,
    /// What was not empty.
    copied_bytes: u64,
}

/// Copies a data disk.
pub async fn export(caller: &Caller, machine: &MachineName, file: &Path) -> Result<u8> {
    let state = state(caller, machine).await?;
    if !matches!(state.as_str(), "created" | "stopped" | "failed" | "rescue") {
        let message = format!("machine {machine} is {state}: a copy of a disk in use would not be whole");
        return Err(Error::Failed(Failure::new(
            "disk-in-use",
            message,
            "dhow down, then the same command again",
        )));
    }
    let from = caller.home.machine(machine).data_image();
    let mut progress = Progress::new(&caller.output);
    progress.step("copying the data disk");
    let (size_bytes, total) = image(caller, machine);
    let copied = copy(&from, file, &mut |done| progress.bytes(done, Some(total))).map_err(|source| {
        let message = format!("{} could not be copied to {}: {source}", from.display(), file.display());
        Error::Failed(Failure::new("files", message, "choose another place, with more room"))
    })?;
    progress.finish();
    let answer = Exported {
        machine: machine.to_string(),
        file: file.display().to_string(),
        size_bytes,
        copied_bytes: copied,
    };
    let words = format!(
        "{} is the data disk of {machine}, {} in {}\n",
        answer.file,
        text::bytes(copied),
        text::bytes(size_bytes)
    );
    caller.output.answer(&words, &answer)?;
    Ok(exit::OK)
}

/// Copies what is data, and leaves holes; answers how many bytes that were. A copy that fails is removed.
fn copy(from: &Path, to: &Path, told: &mut dyn FnMut(u64)) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let copied = copy_data(&mut source, &mut target, told);
    if copied.is_err() {
        std::fs::remove_file(to)?;
    }
    copied
}

fn copy_data(source: &mut File, target: &mut File, told: &mut dyn FnMut(u64)) -> io::Result<u64> {
    use rustix::fs::SeekFrom as Place;
    let length = source.metadata()?.len();
    let mut buffer = vec![0; 1 << 20];
    let (mut at, mut copied) = (0, 0);
    loop {
        // Where the next data begins and where it ends (lseek(2)).
        let begin = match rustix::fs::seek(&*source, Place::Data(at)) {
            Ok(begin) => begin,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*source, Place::Hole(begin))?;
        source.seek(SeekFrom::Start(begin))?;
        target.seek(SeekFrom::Start(begin))?;
        at = begin;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = &mut buffer[..want];
            source.read_exact(part)?;
            target.write_all(part)?;
            at += want as u64;
            copied += want as u64;
            told(copied);
        }
    }
    target.set_len(length)?;
    target.sync_all()?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    /// Spec 7.6: a copy of the disk as it is can always be made, and takes no more room than the disk.
    #[test]
    fn a_copy_has_every_byte_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let image = File::create(&from).unwrap();
        image.set_len(1 << 30).unwrap();
        for at in [0, 5 << 20, (1 << 30) - 4096] {
            image.write_all_at(&[7; 4096], at).unwrap();
        }
        let mut last = 0;
        let copied = copy(&from, &to, &mut |done| last = done).unwrap();
        assert!(copied == last && (12_288..1 << 20).contains(&copied), "{copied}");
        assert_eq!(to.metadata().unwrap().len(), 1 << 30);
        assert!(dhow_home::process::allocated_bytes(&to) < 1 << 20);
        let mut read = [0; 4096];
        File::open(&to).unwrap().read_exact_at(&mut read, 5 << 20).unwrap();
        assert_eq!(read, [7; 4096]);
        // What is there already is never written over.
        assert!(copy(&from, &to, &mut |_| {}).is_err() && to.exists());
    }
}
