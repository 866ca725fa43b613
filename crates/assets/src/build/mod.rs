//! From a mirror to a bundle.
//!
//! ```text
//!  agent ── checked ─────────────────────────────────────────────┐
//!  index ── verified ── resolved ── lock ── packages ── unpacked ─┴─ kernel, initial RAM disk, root ── manifest ── current
//! ```
//!
//! One builder at a time works on a store; whatever it leaves behind when it is killed has a temporary name and is removed or
//! gone on with by the next. What depends on packages alone is kept apart from the agent, so that a new agent costs
//! the writing of one small file.

mod assemble;
pub(crate) mod packages;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dhow_model::Arch;

use crate::agent;
use crate::debian::archive::{Archive, SUITE};
use crate::debian::{Mirrors, resolve, signature};
use crate::error::{Error, Result};
use crate::hash;
use crate::http::Client;
use crate::lock::Lock;
use crate::manifest::{Bundle, FORMAT, Manifest, Output};
use crate::progress::{Progress, Report, Step, begin};
use crate::recipe::Recipe;
use crate::store::Store;

/// How long a build waits for another one.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What to build, and from what.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The guest's architecture.
    pub arch: Arch,
    /// The agent's program.
    pub agent: PathBuf,
    /// Address of a Debian mirror, or two separated by a comma of which the second has security updates. Otherwise the host's
    /// apt configuration is asked.
    pub mirror: Option<String>,
    /// Where that configuration is.
    pub apt: PathBuf,
    /// Keys that may sign the index.
    pub keyring: PathBuf,
    /// Build exactly from the packages of this lock file.
    pub lock: Option<PathBuf>,
    /// Write the lock of this build here.
    pub write_lock: Option<PathBuf>,
    /// Look for newer packages. Otherwise the packages of the current build are used again, without the network.
    pub refresh: bool,
    /// What the guest is made of.
    pub recipe: Recipe,
    /// The time, for the validity of the index.
    pub now: SystemTime,
    /// The pause before a failed download is tried again; each further one is twice the last.
    pub first_pause: Duration,
}

impl BuildOptions {
    /// The usual options: the mirror that `DHOW_MIRROR` names or apt is configured for, Debian's keyring, the current packages.
    #[must_use]
    pub fn new(arch: Arch, agent: PathBuf) -> Self {
        Self {
            arch,
            agent,
            mirror: std::env::var("DHOW_MIRROR").ok(),
            apt: PathBuf::from("/etc/apt"),
            keyring: PathBuf::from(signature::KEYRING),
            lock: None,
            write_lock: None,
            refresh: false,
            recipe: Recipe::default(),
            now: SystemTime::now(),
            first_pause: Duration::from_millis(500),
        }
    }
}

/// Builds boot assets and makes them what new machines boot. When the packages, the agent and the recipe are those of a build
/// that the store has, that one is verified and given back at once.
///
/// # Errors
/// Whatever stands in the way, by cause. Nothing half-made gets a name under which it could be booted.
pub fn build(store: &Store, options: &BuildOptions, progress: &mut dyn FnMut(Progress)) -> Result<Bundle> {
    let program = agent::read(&options.agent, options.arch)?;
    let _exclusive = store.exclusive(PATIENCE, progress)?;
    let recipe = options.recipe.digest();
    let agent = Output { sha256: hash::bytes(&program), size: program.len() as u64 };
    let lock = lock(store, options, &recipe, progress)?;
    if let Some(path) = &options.write_lock {
        lock.write(path)?;
    }
    let earlier = earlier(store, &recipe, &lock)?;
    if let Some(same) =
        earlier.iter().find(|bundle| bundle.manifest.agent == agent && store.check_quick(bundle).is_ok())
    {
        return store.publish(same.manifest.clone());
    }
    let usable = |bundle: &&Bundle| {
        let manifest = &bundle.manifest;
        [&manifest.kernel, &manifest.initrd_base, &manifest.root].iter().all(|output| store.is_intact(output))
    };
    let parts = match earlier.iter().find(usable) {
        Some(bundle) => assemble::Parts::of(&bundle.manifest),
        None => {
            let mirrors = packages::missing(store, &lock)?.then(|| mirrors(options)).transpose()?;
            packages::fetch(store, &client(options), mirrors.as_ref(), &lock, progress)?;
            assemble::parts(store, &options.recipe, &lock, progress)?
        }
    };
    begin(progress, Step::Write, "initial RAM disk");
    let initrd = assemble::initrd(store, &parts.initrd_base, program)?;
    let manifest = Manifest {
        format: FORMAT,
        dhow: env!("CARGO_PKG_VERSION").to_owned(),
        arch: options.arch,
        kernel_version: parts.kernel_version,
        recipe,
        agent,
        lock,
        kernel: parts.kernel,
        initrd,
        initrd_base: parts.initrd_base,
        root: parts.root,
    };
    let bundle = store.publish(manifest)?;
    store.check_quick(&bundle)?;
    Ok(bundle)
}

/// Downloads what a build needs, and gives back its lock; the build itself then needs no network.
///
/// # Errors
/// Whatever stands in the way, by cause.
pub fn fetch(store: &Store, options: &BuildOptions, progress: &mut dyn FnMut(Progress)) -> Result<Lock> {
    let _exclusive = store.exclusive(PATIENCE, progress)?;
    let lock = lock(store, options, &options.recipe.digest(), progress)?;
    if let Some(path) = &options.write_lock {
        lock.write(path)?;
    }
    let mirrors = packages::missing(store, &lock)?.then(|| mirrors(options)).transpose()?;
    packages::fetch(store, &client(options), mirrors.as_ref(), &lock, progress)?;
    Ok(lock)
}

fn mirrors(options: &BuildOptions) -> Result<Mirrors> {
    Mirrors::find(options.mirror.as_deref(), &options.apt)
}

fn client(options: &BuildOptions) -> Client {
    Client::new(options.first_pause)
}

/// Builds of the same packages by the same recipe.
fn earlier(store: &Store, recipe: &str, lock: &Lock) -> Result<Vec<Bundle>> {
    let mut bundles = store.list()?;
    bundles.retain(|bundle| bundle.manifest.same_packages(recipe, lock));
    Ok(bundles)
}

/// Which packages to build from: those of a lock file, those of the current build, or the newest.
fn lock(store: &Store, options: &BuildOptions, recipe: &str, report: Report<'_>) -> Result<Lock> {
    if let Some(path) = &options.lock {
        return pinned(path, options.arch);
    }
    if !options.refresh
        && let Ok(Some(current)) = store.current(options.arch)
        && current.manifest.recipe == recipe
    {
        return Ok(current.manifest.lock);
    }
    let mirrors = mirrors(options)?;
    let scratch = store.at("tmp");
    let archive = Archive {
        client: &client(options),
        mirrors: &mirrors,
        keyring: &options.keyring,
        scratch: &scratch,
        now: options.now,
    };
    let packages = archive.packages(options.arch, report)?;
    begin(report, Step::Resolve, format!("from {} packages", packages.len()));
    let wanted = options.recipe.packages_for(options.arch);
    let chosen = resolve(&packages, &wanted, &options.recipe.excluded)?;
    Ok(Lock::new(options.arch, SUITE, &chosen))
}

fn pinned(path: &Path, arch: Arch) -> Result<Lock> {
    let lock = Lock::read(path)?;
    if lock.arch != arch {
        let (found, wanted) = (lock.arch.to_string(), arch.to_string());
        return Err(Error::WrongLock { path: path.to_path_buf(), found, wanted });
    }
    Ok(lock)
}
