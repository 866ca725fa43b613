//! The only ways to a file of the host: one name in an open directory, never a path of the guest's making, never through a
//! link; and what is opened is opened again by its descriptor, so that nothing can be put in its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::seen::{Identity, Seen, place};

/// No step leaves the directory, whatever lies there.
fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS
}

/// An entry of a directory, as a place only: nothing is read or written by it, no device or FIFO is touched.
pub(super) fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), confined())
}

/// The same, and it must be the file that was meant.
pub(super) fn same(dir: BorrowedFd<'_>, name: &[u8], meant: &Identity) -> Result<OwnedFd, Errno> {
    let fd = match path(dir, name) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Errno::STALE),
        other => other?,
    };
    let stat = rustix::fs::statx(
        &fd,
        c"",
        rustix::fs::AtFlags::EMPTY_PATH,
        rustix::fs::StatxFlags::BASIC_STATS | rustix::fs::StatxFlags::BTIME,
    )?;
    if Seen::from(stat).identity == *meant { Ok(fd) } else { Err(Errno::STALE) }
}

/// Opens what `fd` stands for, which must be a regular file or a directory.
pub(super) fn open(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    // A FIFO or a device cannot be meant, and would not make us wait.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::openat(CWD, place(fd), flags, Mode::empty())
}

/// Makes a regular file that was not there.
pub(super) fn create(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(dir, name, flags, mode, confined())
}

/// The top of a share.
pub(super) fn top(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Does something that the user who owns `target` may do, even where its permissions forbid it to them: the guest's root
/// may, and its kernel has looked at the permissions already. They are as they were afterwards.
pub(super) fn as_owner<T>(
    target: impl AsFd,
    needed: u32,
    mut work: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let refused = match work() {
        Err(Errno::ACCESS) => Errno::ACCESS,
        other => return other,
    };
    let stat = rustix::fs::fstat(&target)?;
    let permissions = stat.st_mode & 0o7777;
    let is_link = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink;
    let mine = stat.st_uid == rustix::process::geteuid().as_raw();
    if is_link || !mine || permissions & needed == needed {
        return Err(refused);
    }
    let path = place(&target);
    rustix::fs::chmod(&path, Mode::from_raw_mode(permissions | needed))?;
    let done = work();
    rustix::fs::chmod(&path, Mode::from_raw_mode(permissions))?;
    done
}
