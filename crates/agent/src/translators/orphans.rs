//! Containers whose translator was taken away while they run. Their processes go on, since the kernel keeps the interpreter's
//! file open, and may be unable to start another program.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dhow_model::{Arch, TranslatorName};
use dhow_proto::agent::Orphaned;

/// A translator that is no longer registered, by its file's identity, which outlives the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Withdrawn {
    name: TranslatorName,
    serves: Arch,
    file: (u64, u64),
}

impl Withdrawn {
    /// The translator whose file is still there; it is taken away next.
    pub fn of(path: &Path, name: TranslatorName, serves: Arch) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self { name, serves, file: (metadata.dev(), metadata.ino()) })
    }
}

/// Counts containers with processes of withdrawn translators, those of architectures that are not served now. Forgets what
/// nothing uses any more.
pub(super) fn count(
    proc: &Path,
    withdrawn: &mut Vec<Withdrawn>,
    serves: impl Fn(Arch) -> bool,
) -> Vec<Orphaned> {
    if withdrawn.is_empty() {
        return Vec::new();
    }
    let running = processes(proc);
    withdrawn.retain(|gone| running.iter().any(|(file, _)| *file == gone.file));
    let of = |gone: &Withdrawn| {
        let groups = running.iter().filter(|(file, _)| *file == gone.file).map(|(_, group)| group.as_str());
        groups.collect::<BTreeSet<_>>().len()
    };
    withdrawn
        .iter()
        .filter(|gone| !serves(gone.serves))
        .map(|gone| Orphaned {
            name: gone.name.to_string(),
            serves: gone.serves.to_string(),
            containers: u32::try_from(of(gone)).unwrap_or(u32::MAX),
        })
        .collect()
}

/// What each process executes, and the control group that it is in, which is its container's.
fn processes(proc: &Path) -> Vec<((u64, u64), String)> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let processes = entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    processes
        .filter_map(|entry| {
            // The link leads to the file itself, also where that has no name any more.
            let file = entry.path().join("exe").metadata().ok()?;
            let group = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            Some(((file.dev(), file.ino()), group))
        })
        .collect()
}
