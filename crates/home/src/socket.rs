//! Unix sockets that only their user can reach and that a crash cannot leave in the way.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::UnixListener;

/// Listens at `path` with mode 0600 (spec 3.1, 16.5). A socket that an earlier process left is replaced: the caller must
/// hold the lock that makes it the only one who serves there. The directory's mode 0700 guards the moment before the
/// mode is set.
///
/// # Errors
/// When something that is no socket is at `path`, or it cannot be bound.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    remove(path)?;
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes a socket. One that is not there is fine.
///
/// # Errors
/// When something that is no socket is at `path`, or it cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is in the way and is no socket; move it away", path.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 15.2, 16.3.
    #[tokio::test]
    async fn a_socket_left_by_a_crash_is_replaced_and_a_foreign_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(listen(&path).unwrap());
        assert!(path.exists());
        drop(listen(&path).unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let file = dir.path().join("f");
        crate::atomic::write(&file, b"mine", 0o600).unwrap();
        assert!(listen(&file).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    }
}
