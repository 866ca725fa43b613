//! Locks that end with their holder: the kernel's, on an open file, and so never stale after a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a waiter looks again; `flock` has no wait with a time limit.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be opened or locked.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds it still.
    #[error("{path} is still held by another process after {} s", waited.as_secs())]
    Held {
        /// The file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
}

/// A lock on a file, released when it is dropped or its process ends. It belongs to the open file, so a child process that
/// inherits the descriptor holds it too.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// The exclusive lock on `path`, made with mode 0600 where it is missing; `None` if another process has it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// A shared lock on `path`, which must exist and need only be readable; `None` if another process has it exclusively.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn try_shared(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// The exclusive lock on `path`, waited for up to `limit`.
    ///
    /// # Errors
    /// When the file cannot be opened, or is still held at the limit.
    pub async fn wait_exclusive(path: &Path, limit: Duration) -> Result<Self, LockError> {
        let began = Instant::now();
        loop {
            let tried = Self::try_exclusive(path);
            match tried.map_err(|source| LockError::Io { path: path.to_owned(), source })? {
                Some(lock) => return Ok(lock),
                None if began.elapsed() >= limit => {
                    return Err(LockError::Held { path: path.to_owned(), waited: began.elapsed() });
                }
                None => tokio::time::sleep(LOOK_AGAIN.min(limit)).await,
            }
        }
    }

    /// Whether some process holds `path` exclusively now. A file that is not there is held by nobody.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        match Self::try_shared(path) {
            Ok(lock) => Ok(lock.is_none()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The locked file, to hand its lock on to a child process as well.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 6.8.
    #[tokio::test]
    async fn a_held_lock_is_waited_for_and_the_wait_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!FileLock::is_held(&path).unwrap());
        let held = FileLock::try_exclusive(&path).unwrap().unwrap();
        assert!(FileLock::is_held(&path).unwrap());
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        let limit = Duration::from_millis(60);
        assert!(matches!(FileLock::wait_exclusive(&path, limit).await, Err(LockError::Held { .. })));
        let wait = FileLock::wait_exclusive(&path, Duration::from_secs(10));
        let release = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let (got, ()) = tokio::join!(wait, release);
        got.unwrap();
    }

    /// Spec 6.8: the lock is the open file's, so it lasts as long as any process that inherited it.
    #[test]
    fn a_lock_outlives_its_taker_while_a_copy_of_the_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::try_exclusive(&path).unwrap().unwrap();
        let copy = lock.file().try_clone().unwrap();
        drop(lock);
        assert!(FileLock::is_held(&path).unwrap());
        drop(copy);
        assert!(!FileLock::is_held(&path).unwrap());
    }
}
