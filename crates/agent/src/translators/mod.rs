//! Translators in the guest (spec 1.5 to 1.9): files that the host hands over, registered in the kernel's `binfmt_misc` exactly
//! as the host asks, and what the kernel then says of them.
//!
//! ```text
//!  host ── Put ──▶ /run/dhow/translators/DIGEST/FILE ── Use ──▶ register ─▶ read back ─▶ test program ─▶ labels of dockerd
//! ```
//!
//! The files lie in memory: nothing of an earlier boot can be registered, and what the host's directory lacks, the guest lacks.

mod binfmt;
mod labels;
mod orphans;
mod receive;
mod used;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dhow_model::Arch;
use dhow_model::translator::probe;
use dhow_proto::agent::{self as proto, TranslatorFile, TranslatorPart};
use tokio::sync::watch;
use tokio_stream::Stream;

pub use self::binfmt::Binfmt;
use self::orphans::Withdrawn;
use self::used::Used;
use crate::reaper::Reaper;
use crate::{Error, Result};

/// Where the files are.
const FILES: &str = "/run/dhow/translators";
/// For the directories that a file and an entry need to be there.
const ROOT: Duration = Duration::from_secs(20);

/// The guest's translators.
#[derive(Debug, Clone)]
pub struct Translators(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: PathBuf,
    binfmt: Binfmt,
    guest: Option<Arch>,
    /// Whether the root is there, and with it a place for files.
    opened: watch::Sender<bool>,
    /// Whether the host has said what to register.
    told: watch::Sender<bool>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Absent until the host has said.
    used: Option<Vec<Used>>,
    withdrawn: Vec<Withdrawn>,
    /// What dockerd's configuration says.
    labels: Vec<String>,
}

impl Default for Translators {
    fn default() -> Self {
        Self::at(FILES.into(), Binfmt::default(), Arch::host())
    }
}

impl Translators {
    fn at(files: PathBuf, binfmt: Binfmt, guest: Option<Arch>) -> Self {
        Self(Arc::new(Inner {
            files,
            binfmt,
            guest,
            opened: watch::Sender::new(false),
            told: watch::Sender::new(false),
            changing: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }))
    }

    /// Says that files have a place: the root is there.
    pub fn open(&self) {
        self.0.opened.send_replace(true);
    }

    /// Waits until the host has said what to register; answers what is, for a person.
    pub async fn settled(&self, limit: Duration) -> String {
        let mut told = self.0.told.subscribe();
        let waited = tokio::time::timeout(limit, told.wait_for(|told| *told)).await;
        match waited {
            Ok(Ok(_)) => {
                let labels = self.labels();
                let words = labels.iter().map(|label| label.trim_start_matches(labels::PREFIX));
                let words: Vec<&str> = words.collect();
                if words.is_empty() { "none".to_owned() } else { words.join(", ") }
            }
            _ => format!("the host did not say within {} s which to use", limit.as_secs()),
        }
    }

    /// Keeps a file that the host sends.
    ///
    /// # Errors
    /// When it is not what was promised, or cannot be kept.
    pub async fn put<E: std::fmt::Display>(
        &self,
        parts: impl Stream<Item = Result<TranslatorPart, E>> + Unpin,
    ) -> Result<()> {
        self.root().await?;
        receive::file(&self.0.files, self.0.guest, parts).await
    }

    /// Registers exactly these.
    ///
    /// # Errors
    /// When what is asked for makes no sense. What the kernel refuses is told in the answer.
    pub async fn replace(&self, wanted: Vec<TranslatorFile>, reaper: Reaper) -> Result<proto::Translators> {
        let wanted = used::understood(&self.0.files, self.0.guest, wanted)?;
        self.root().await?;
        let _one = self.0.changing.lock().await;
        let (this, failed) = (self.clone(), |_| Error::Translator("the agent is ending".to_owned()));
        tokio::task::spawn_blocking(move || {
            this.0.replace(wanted, &reaper);
            this.report().unwrap_or_default()
        })
        .await
        .map_err(failed)
    }

    /// What is true now, read back from the kernel; nothing until the host has said what to register.
    #[must_use]
    pub fn report(&self) -> Option<proto::Translators> {
        let mut state = self.0.state();
        let State { used, withdrawn, .. } = &mut *state;
        let used = used.as_ref()?;
        let given: Vec<proto::Translator> = used.iter().map(|one| one.report(&self.0.binfmt)).collect();
        let serves = |arch: Arch| {
            given.iter().any(|one| {
                one.problem.is_empty()
                    && one.file.as_ref().is_some_and(|file| file.serves == arch.to_string())
            })
        };
        let orphaned = orphans::count(Path::new("/proc"), withdrawn, serves);
        Some(proto::Translators { given, orphaned })
    }

    /// What `docker info` says of them: those that serve, and no others (spec 1.9).
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        labels::of(&self.report().unwrap_or_default())
    }

    async fn root(&self) -> Result<()> {
        let mut opened = self.0.opened.subscribe();
        let waited = tokio::time::timeout(ROOT, opened.wait_for(|opened| *opened)).await;
        if matches!(waited, Ok(Ok(_))) {
            return Ok(());
        }
        Err(Error::Translator(format!("the guest had no root after {} s", ROOT.as_secs())))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is new is registered before what it replaces is taken away.
    fn replace(&self, wanted: Vec<Used>, reaper: &Reaper) {
        let before = self.state().used.clone().unwrap_or_default();
        let mut now: Vec<Used> = Vec::new();
        for mut one in wanted {
            match before.iter().find(|earlier| earlier.entry == one.entry) {
                Some(earlier) if earlier.report(&self.binfmt).problem.is_empty() => one = earlier.clone(),
                _ => one.register(&self.binfmt, &self.files, reaper),
            }
            now.push(one);
        }
        let mut withdrawn = Vec::new();
        for earlier in before {
            if now.iter().any(|one| one.entry == earlier.entry) {
                continue;
            }
            withdrawn.extend(earlier.withdraw(&self.binfmt));
        }
        // What the kernel did not let go of when it was withdrawn.
        self.binfmt.forget_ours(|entry| now.iter().any(|one| one.entry == entry));
        used::forget_files(&self.files, &now);
        let mut state = self.state();
        state.used = Some(now);
        state.withdrawn.extend(withdrawn);
    }
}

/// The name of an architecture's test program among the files.
fn probe_file(files: &Path, arch: Arch) -> (PathBuf, Vec<u8>) {
    (files.join(format!("probe-{arch}")), probe::program(arch))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
