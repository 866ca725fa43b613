//! What can go wrong, one variant for each cause that somebody can act on.

use std::io;
use std::path::{Path, PathBuf};

use dhow_model::Arch;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why boot assets could not be made, found or trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No space left.
    #[error("the disk that holds {} is full: free some space (a build needs about 1 GB), then run the same command again; nothing half-made is used", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// No mirror is known.
    #[error(
        "no Debian mirror is known: none in this host's apt configuration; name one with --mirror URL, the environment variable DHOW_MIRROR or `assets.mirror` in the configuration"
    )]
    NoMirror,
    /// The mirror of an archive that a package comes from is not known.
    #[error(
        "the package {package} comes from the archive {archive}, and no mirror of it is known: name two addresses, as in --mirror URL,SECURITY-URL"
    )]
    NoMirrorOf {
        /// The archive.
        archive: String,
        /// The package.
        package: String,
    },
    /// A download failed, also when tried again.
    #[error(
        "cannot download {url}: {reason} (tried {tries} times); what was received is kept, run the command again to go on"
    )]
    Download {
        /// The address.
        url: String,
        /// The last failure.
        reason: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The mirror does not have it.
    #[error(
        "{url} does not exist on the mirror (HTTP {status}); if a lock file pins an old version, make a new one without --lock"
    )]
    NotOnMirror {
        /// The address.
        url: String,
        /// What the server answered.
        status: u16,
    },
    /// A content that is not what it should be.
    #[error("{name} is not what it should be: expected SHA-256 {expected}, found {found}{hint}")]
    WrongHash {
        /// File or address.
        name: String,
        /// The digest that was promised.
        expected: String,
        /// The digest of what is there.
        found: String,
        /// Where it differs, or what to do; may be empty.
        hint: String,
    },
    /// A length that is not what it should be.
    #[error("{name} has the wrong size: expected {expected} bytes, found {found}{hint}")]
    WrongSize {
        /// File or address.
        name: String,
        /// The length that was promised.
        expected: u64,
        /// The length that is there.
        found: u64,
        /// What to do; may be empty.
        hint: String,
    },
    /// A host program is missing.
    #[error("`{program}` is needed to verify packages and was not found: install the package `{package}`")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// Debian's name of the package that has it.
        package: &'static str,
    },
    /// The distribution's keys are missing.
    #[error("the distribution's keyring {} does not exist: install the package `debian-archive-keyring`", path.display())]
    MissingKeyring {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The index's signature is not good.
    #[error("{url} carries no good signature of a key in {}: {detail}", keyring.display())]
    Signature {
        /// The signed index.
        url: String,
        /// The keys that are trusted.
        keyring: PathBuf,
        /// What gpgv said.
        detail: String,
    },
    /// The index is too old.
    #[error(
        "{url} was valid until {until}, which has passed: the mirror is stale, or this computer's clock is wrong"
    )]
    Expired {
        /// The signed index.
        url: String,
        /// Its own words.
        until: String,
    },
    /// A file does not follow its format.
    #[error("{name} is not a valid {format}: {reason}")]
    Malformed {
        /// File or address.
        name: String,
        /// What it should be.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A dependency that nothing satisfies.
    #[error("no package satisfies `{relation}`, which {needed_by} needs")]
    Unsatisfied {
        /// The dependency, as written.
        relation: String,
        /// Who has it.
        needed_by: String,
    },
    /// Packages do not contain what a guest needs.
    #[error("the packages contain no {what}, which a guest needs")]
    Incomplete {
        /// What is missing.
        what: String,
    },
    /// The agent cannot be a guest's process 1.
    #[error("{} cannot be the agent of a {arch} guest: {reason}; `./dev build` makes one", path.display())]
    Agent {
        /// The file.
        path: PathBuf,
        /// The guest's architecture.
        arch: Arch,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that a boot needs cannot be used.
    #[error("{} cannot be booted: {reason}; run `dhow assets build --arch {arch}`", path.display())]
    NotBootable {
        /// The file.
        path: PathBuf,
        /// The guest's architecture.
        arch: Arch,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that is no translator which a guest could use.
    #[error("{file} cannot be {translator} for {serves} in {guest} guests: it {why}; nothing was placed")]
    NoTranslator {
        /// Where the file came from.
        file: String,
        /// The translator.
        translator: dhow_model::TranslatorName,
        /// The architecture that it would serve.
        serves: Arch,
        /// The guest's architecture.
        guest: Arch,
        /// What is wrong with it.
        why: dhow_model::translator::Why,
    },
    /// A translator that is in no package.
    #[error(
        "{translator} is not in Debian's packages: name a static build with --from FILE, or with --url ADDRESS and --sha256 DIGEST"
    )]
    NotPackaged {
        /// The translator.
        translator: dhow_model::TranslatorName,
    },
    /// Somebody else works on the store.
    #[error("another build holds {} for {seconds} s now: wait for it, or stop it", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A lock file for something else.
    #[error("{} is a lock for {found}, but {wanted} was asked for", path.display())]
    WrongLock {
        /// The lock file.
        path: PathBuf,
        /// What it describes.
        found: String,
        /// What was asked.
        wanted: String,
    },
    /// A bundle that cannot be trusted.
    #[error("{} is not a bundle of boot assets that can be used: {reason}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Says what was done to which path when the system refuses.
pub(crate) trait At<T> {
    /// Turns an error of the system into one that names the action and the path.
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| {
            let path = path.as_ref().to_path_buf();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { path },
                _ => Error::Io { action, path, source },
            }
        })
    }
}

impl Error {
    /// A file that does not follow its format.
    pub(crate) fn malformed(name: impl Into<String>, format: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { name: name.into(), format, reason: reason.to_string() }
    }
}
