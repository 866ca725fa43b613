//! Where everything is.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use dhow_model::{Config, Failure, MachineName};
use sha2::{Digest as _, Sha256};

use crate::lock::LockError;

/// The longest path that a Unix socket can have on every host: `sun_path` is 108 bytes on Linux and 104 on macOS, the
/// last one a NUL.
const SOCKET_PATH_LIMIT: usize = 103;

/// The longest name that we give to a socket in the run directory: `run/` plus a machine's name plus a suffix.
const SOCKET_NAME_LIMIT: usize = "/run/".len() + 32 + ".channel".len();

/// What can go wrong with Dhow's directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `DHOW_HOME` nor `HOME` says where to be.
    #[error(
        "neither DHOW_HOME nor HOME is set, so Dhow does not know its directory; set DHOW_HOME to an absolute path"
    )]
    Nowhere,
    /// `DHOW_HOME` is relative.
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
    /// Sockets in it would have paths that the kernel refuses.
    #[error(
        "{path} is too long: Unix sockets in it would exceed {SOCKET_PATH_LIMIT} bytes, so it may have at most {limit}"
    )]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// How long it may be.
        limit: usize,
    },
    /// A directory of ours cannot be made or written.
    #[error(
        "{path} cannot be used: {source}; make it writable for this user or set DHOW_HOME to another directory"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else owns it.
    #[error("{path} belongs to user {owner}, not to user {us}")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// A lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Nowhere | Self::Relative(_) => "set DHOW_HOME to a path that starts with /",
            Self::TooLong { .. } => "set DHOW_HOME to a shorter path",
            Self::Unusable { .. } => "make it writable for this user, or set DHOW_HOME to another directory",
            Self::Foreign { .. } => "set DHOW_HOME to a directory of your own",
            Self::Lock(_) => "end the process that holds it, then type it again",
        }
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One directory that holds all of an engine: configuration, machines, logs, sockets. Several of them make several
/// independent engines; boot assets are shared between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    is_default: bool,
}

impl Home {
    /// The directory that `DHOW_HOME` names, or else `.dhow` in the user's own.
    ///
    /// # Errors
    /// When neither variable is set, or the path cannot serve.
    pub fn locate() -> Result<Self> {
        match std::env::var_os("DHOW_HOME").filter(|v| !v.is_empty()) {
            Some(path) => Self::at(PathBuf::from(path)),
            None => {
                let root = default_root().ok_or(Error::Nowhere)?;
                Self::at(root)
            }
        }
    }

    /// The directory at `root`, which need not exist.
    ///
    /// # Errors
    /// When the path is relative or too long for sockets.
    pub fn at(root: PathBuf) -> Result<Self> {
        if !root.is_absolute() {
            return Err(Error::Relative(root));
        }
        let limit = SOCKET_PATH_LIMIT - SOCKET_NAME_LIMIT;
        if root.as_os_str().len() > limit {
            return Err(Error::TooLong { path: root, limit });
        }
        let is_default = default_root().is_some_and(|d| d == root);
        Ok(Self { root, is_default })
    }

    /// Makes the directory and those in it, mode 0700, and proves that they can be written.
    ///
    /// # Errors
    /// When one cannot be made or written, or belongs to another user.
    pub fn create(&self) -> Result<()> {
        for dir in
            [self.root.clone(), self.run_dir(), self.log_dir(), self.machines_dir(), self.runtime_bin()]
        {
            make_private(&dir)?;
        }
        let owner = rustix::fs::stat(&self.root)
            .map_err(|e| Error::Unusable { path: self.root.clone(), source: e.into() })?
            .st_uid;
        let us = rustix::process::geteuid().as_raw();
        if owner != us {
            return Err(Error::Foreign { path: self.root.clone(), owner, us });
        }
        tempfile::Builder::new()
            .prefix(".probe")
            .tempfile_in(self.run_dir())
            .map_err(|source| Error::Unusable { path: self.run_dir(), source })?;
        Ok(())
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the user's own, and not one that `DHOW_HOME` names.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.is_default
    }

    /// The configuration file, which may be absent.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// What the configuration file says now; every default where there is none.
    ///
    /// # Errors
    /// When it cannot be read or is wrong, in words that name it.
    pub fn read_config(&self) -> Result<Config, Failure> {
        let path = self.config_file();
        let wrong = |why: String| {
            let message = format!("{}: {why}", path.display());
            Failure::new("config", message, "list the keys with `dhow config defaults`, and correct the file")
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Config::parse(&text).map_err(|e| wrong(e.to_string())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
            Err(e) => Err(wrong(e.to_string())),
        }
    }

    /// Sockets and locks: nothing in it outlives the processes that made it.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The Docker API.
    #[must_use]
    pub fn docker_socket(&self) -> PathBuf {
        self.run_dir().join("docker.sock")
    }

    /// The daemon's own API.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// Held by the one daemon.
    #[must_use]
    pub fn daemon_lock(&self) -> PathBuf {
        self.run_dir().join("daemon.lock")
    }

    /// Logs of what is not a machine.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The daemon's log.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.log_dir().join("daemon.log")
    }

    /// Where translators' files are, which guests get (spec 1.5).
    #[must_use]
    pub fn runtime_bin(&self) -> PathBuf {
        self.root.join("runtime").join("bin")
    }

    /// A directory for each machine.
    #[must_use]
    pub fn machines_dir(&self) -> PathBuf {
        self.root.join("machines")
    }

    /// One machine's files.
    #[must_use]
    pub fn machine(&self, name: &MachineName) -> MachineDir {
        MachineDir { dir: self.machines_dir().join(name.as_str()), run: self.run_dir(), name: name.clone() }
    }

    /// Where boot assets are: what `DHOW_ASSETS` names, else `assets` in the user's default directory, so that all of a
    /// user's engines share them.
    #[must_use]
    pub fn asset_store(&self) -> PathBuf {
        std::env::var_os("DHOW_ASSETS")
            .filter(|v| !v.is_empty())
            .map_or_else(|| default_root().unwrap_or_else(|| self.root.clone()).join("assets"), PathBuf::from)
    }

    /// A short word that tells engines of different directories apart: 8 hexadecimal digits of the path's SHA-256.
    #[must_use]
    pub fn tag(&self) -> String {
        let digest = Sha256::digest(self.root.as_os_str().as_encoded_bytes());
        digest.iter().take(4).map(|b| format!("{b:02x}")).collect()
    }
}

/// One machine's files. Those in `dir` last; the sockets are in the run directory, since their paths must be short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDir {
    dir: PathBuf,
    run: PathBuf,
    name: MachineName,
}

impl MachineDir {
    /// Makes the directory, mode 0700.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<()> {
        make_private(&self.dir)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// What the machine was made from.
    #[must_use]
    pub fn spec(&self) -> PathBuf {
        self.dir.join("machine.json")
    }

    /// Whether the user wants it up, which a next daemon reads.
    #[must_use]
    pub fn wanted(&self) -> PathBuf {
        self.dir.join("wanted")
    }

    /// How much of the memory that it booted with the machine may use, bytes; absent where that is all of it.
    #[must_use]
    pub fn memory_limit(&self) -> PathBuf {
        self.dir.join("memory-limit")
    }

    /// The data disk's image, sparse.
    #[must_use]
    pub fn data_image(&self) -> PathBuf {
        self.dir.join("data.img")
    }

    /// Exists from before the data image is made until the guest has mounted it for the first time: the image holds
    /// nothing of the user's yet and may be made anew.
    #[must_use]
    pub fn data_unformatted(&self) -> PathBuf {
        self.dir.join("data.unformatted")
    }

    /// What it sleeps as: its state and memory, whole or absent. Used up by the wake.
    #[must_use]
    pub fn sleep(&self) -> PathBuf {
        self.dir.join("sleep")
    }

    /// The last saved state that could not be used, with the reason in the file `why`.
    #[must_use]
    pub fn sleep_bad(&self) -> PathBuf {
        self.dir.join("sleep.bad")
    }

    /// What this boot's agent is told.
    #[must_use]
    pub fn boot_config(&self) -> PathBuf {
        self.dir.join("boot.json")
    }

    /// The context ID that it held last.
    #[must_use]
    pub fn last_cid(&self) -> PathBuf {
        self.dir.join("cid")
    }

    /// Why the machine last ended, written by its supervisor.
    #[must_use]
    pub fn last_end(&self) -> PathBuf {
        self.dir.join("last-end.json")
    }

    /// The guest's console.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// The hypervisor's own output.
    #[must_use]
    pub fn hypervisor_log(&self) -> PathBuf {
        self.dir.join("hypervisor.log")
    }

    /// The supervisor's log.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    /// Held by the one supervisor.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.run.join(format!("{}.lock", self.name))
    }

    /// The supervisor's API.
    #[must_use]
    pub fn supervisor_socket(&self) -> PathBuf {
        self.run.join(format!("{}.sock", self.name))
    }

    /// Where the daemon opens streams into the guest through the supervisor.
    #[must_use]
    pub fn channel_socket(&self) -> PathBuf {
        self.run.join(format!("{}.channel", self.name))
    }

    /// Where the hypervisor brings the guest's Ethernet frames to the gateway.
    #[must_use]
    pub fn network_socket(&self) -> PathBuf {
        self.run.join(format!("{}.net", self.name))
    }

    /// Where the hypervisor brings the guest's file requests to the machine's file server.
    #[must_use]
    pub fn shares_socket(&self) -> PathBuf {
        self.run.join(format!("{}.shares", self.name))
    }

    /// The host ports that its containers hold now, for other machines' supervisors to read (spec 4.6).
    #[must_use]
    pub fn ports_record(&self) -> PathBuf {
        self.dir.join("ports.json")
    }

    /// The hypervisor's end of the virtio-serial port.
    #[must_use]
    pub fn serial_socket(&self) -> PathBuf {
        self.run.join(format!("{}.serial", self.name))
    }

    /// The hypervisor's control socket.
    #[must_use]
    pub fn qmp_socket(&self) -> PathBuf {
        self.run.join(format!("{}.qmp", self.name))
    }
}

fn default_root() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|v| !v.is_empty()).map(PathBuf::from)?;
    home.is_absolute().then(|| home.join(".dhow"))
}

fn make_private(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| Error::Unusable { path: dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Spec 16.5.
    #[test]
    fn the_directory_and_those_in_it_are_the_users_alone() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("home")).unwrap();
        home.create().unwrap();
        home.create().unwrap();
        for dir in [home.root().to_owned(), home.run_dir(), home.machines_dir(), home.runtime_bin()] {
            assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700, "{dir:?}");
        }
    }

    #[test]
    fn a_path_that_is_too_long_for_sockets_is_refused_with_the_limit() {
        let error = Home::at(PathBuf::from(format!("/{}", "x".repeat(80)))).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
        assert!(matches!(Home::at(PathBuf::from("here")), Err(Error::Relative(_))));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        crate::atomic::write(&path, b"", 0o600).unwrap();
        let error = Home::at(path.clone()).unwrap().create().unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
