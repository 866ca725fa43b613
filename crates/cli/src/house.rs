//! What the command line may ask of the whole executable. This crate stands beside the daemon and never imports the
//! engine, so whoever puts the executable together hands these powers in.

use std::path::PathBuf;
use std::process::ExitCode;

use dhow_home::Home;
use dhow_model::{Arch, Config, Failure, MachineName, Purpose, TranslatorName};
use serde::Serialize;

/// The rest of the executable. Calls block; each runs on the program's first thread, outside of any runtime, so that an
/// implementation may start its own.
pub trait House {
    /// Is the daemon until it ends (`dhow daemon`). When it serves, it says so with [`dhow_home::launch::answer`]; when it
    /// cannot start, it says why with the same. As a `service` it takes the service manager's sockets, tells it that it serves, and
    /// saves machines to disk when it is told to end.
    fn daemon(&self, home: &Home, service: bool) -> ExitCode;

    /// Is the supervisor of a machine, which is booted for this purpose, until it ends (`dhow supervise NAME`).
    fn supervise(&self, home: &Home, machine: &MachineName, purpose: Purpose) -> ExitCode;

    /// Runs a few guest instructions on KVM; the exit status is the answer (`dhow probe-kvm`).
    fn probe_kvm(&self) -> ExitCode;

    /// Works on boot assets. Long work is reported as it goes on.
    ///
    /// # Errors
    /// When it could not be done. A damaged asset that `verify` finds is no error but a problem in the answer.
    fn assets(
        &self,
        home: &Home,
        config: &Config,
        command: &AssetsCommand,
        report: &mut dyn Report,
    ) -> Result<AssetsDone, Failure>;

    /// Works on translators. Long work is reported as it goes on.
    ///
    /// # Errors
    /// When it could not be done. A translator that is not provisioned, or that a probe finds broken, is no error but part of the
    /// answer.
    fn translators(
        &self,
        home: &Home,
        config: &Config,
        command: &TranslatorCommand,
        report: &mut dyn Report,
    ) -> Result<TranslatorsDone, Failure>;

    /// Looks at what the engine needs of the host: hypervisor, accelerator, channel, space, assets (spec 9.3).
    fn doctor(&self, home: &Home) -> Vec<Check>;
}

/// Where long work tells how far it is.
pub trait Report {
    /// A step began.
    fn step(&mut self, text: &str);
    /// More about the running step; replaces the last one.
    fn detail(&mut self, text: &str);
    /// Something a person should know.
    fn note(&mut self, text: &str);
    /// How many bytes of the running step are done, and of how many, where that is known.
    fn bytes(&mut self, done: u64, total: Option<u64>);
}

/// What `dhow assets` was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssetsCommand {
    /// Name every set of boot assets in the store.
    List,
    /// Get what a build needs ahead of the first start.
    Fetch {
        /// The guest's architecture.
        arch: Arch,
        /// Where the packages are, instead of what the host's configuration says.
        mirror: Option<String>,
    },
    /// Compare every byte with its digest.
    Verify {
        /// Only sets of this architecture.
        arch: Option<Arch>,
    },
    /// Make a set from a distribution's packages.
    Build {
        /// The guest's architecture.
        arch: Arch,
        /// The file that pins the packages; one that is missing is written.
        lock: Option<PathBuf>,
        /// Where the packages are, instead of what the host's configuration says.
        mirror: Option<String>,
        /// The agent's executable, instead of the one that comes with Dhow.
        agent: Option<PathBuf>,
    },
    /// Write a set to one file.
    Export {
        /// The guest's architecture.
        arch: Arch,
        /// The file to write.
        file: PathBuf,
    },
    /// Read a set from a file that `export` wrote.
    Import {
        /// The file to read.
        file: PathBuf,
    },
    /// Remove what no machine uses.
    Clean {
        /// Only say what would go.
        dry_run: bool,
    },
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AssetsDone {
    /// One sentence for people.
    pub summary: String,
    /// The assets that it was about: listed, fetched, verified, built, written, read or removed.
    pub assets: Vec<Asset>,
    /// What is wrong with them; the command fails when there is any.
    pub problems: Vec<Problem>,
}

/// One file of a set of boot assets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asset {
    /// The set that it belongs to: a digest or another name that does not change.
    pub set: String,
    /// kernel, initrd, root, agent.
    pub name: String,
    /// Its version, where it has one.
    pub version: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// A word about it: ready, unused, damaged, removed.
    pub state: String,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What was expected and what was found, and where.
    pub message: String,
    /// What to type.
    pub hint: String,
}

/// What `dhow translator` was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TranslatorCommand {
    /// Name every translator for guests of an architecture.
    List {
        /// The guest's architecture.
        guest: Arch,
    },
    /// Get a translator's file.
    Provision {
        /// The guest's architecture.
        guest: Arch,
        /// Which.
        name: TranslatorName,
        /// From where.
        from: TranslatorFrom,
    },
    /// Take a translator's file away.
    Remove {
        /// The guest's architecture.
        guest: Arch,
        /// Which.
        name: TranslatorName,
    },
    /// Have translators run a test program.
    Probe {
        /// The guest's architecture.
        guest: Arch,
        /// Only this one; absent: all that are provisioned.
        name: Option<TranslatorName>,
    },
}

/// Where a translator's file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TranslatorFrom {
    /// The distribution's package.
    Package {
        /// Where the packages are, instead of what the host's configuration says.
        mirror: Option<String>,
        /// Look for a newer one than the last.
        refresh: bool,
    },
    /// A file of this computer.
    File(PathBuf),
    /// An address.
    Address {
        /// Where.
        url: String,
        /// What must be there: 64 hexadecimal digits.
        sha256: String,
    },
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TranslatorsDone {
    /// One sentence for people.
    pub summary: String,
    /// The translators that it was about.
    pub translators: Vec<TranslatorRow>,
}

/// One translator for one pair of architectures, on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TranslatorRow {
    /// Which.
    pub name: TranslatorName,
    /// The architecture of guests that it runs in.
    pub guest: Arch,
    /// The architecture of programs that it runs.
    pub serves: Arch,
    /// Whether the configuration's list names it.
    pub listed: bool,
    /// Whether it is the first of the list that is provisioned.
    pub chosen: bool,
    /// Its file in the runtime directory.
    pub file: PathBuf,
    /// Whether that is fit for a guest.
    pub provisioned: bool,
    /// Why not; empty when it is.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
    /// Digest of the file; null when it is not fit.
    pub sha256: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// What is known not to work under it.
    pub gaps: Vec<String>,
    /// How a test program ran on this host; null when it was not asked for.
    pub probe: Option<TranslatorProbe>,
}

/// How a test program ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TranslatorProbe {
    /// Whether it should have run and did not.
    pub failed: bool,
    /// How it went.
    pub words: String,
}

/// One finding of `dhow doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: `kvm`, `qemu`, `docker context`.
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, in words.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub hint: String,
}

/// How a check of `dhow doctor` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but not as well as it could.
    Warning,
    /// The engine cannot run like this.
    Bad,
}

impl Check {
    /// A check that found everything as it should be.
    pub fn good(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Good, found: found.into(), hint: String::new() }
    }

    /// A check that found something that could be better.
    pub fn warning(name: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Warning, found: found.into(), hint: hint.into() }
    }

    /// A check that found why the engine cannot run.
    pub fn bad(name: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Bad, found: found.into(), hint: hint.into() }
    }
}
