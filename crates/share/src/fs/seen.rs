//! What a look at a file says: which it is on the host, and its attributes as the guest is to see them.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::io::Errno;

use super::abi::Answer;
use super::owner::{self, Owner};

/// A file of the host, however it is called: while it is open nothing else has these numbers, and the time of its birth
/// tells it from one that got them later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) born: (i64, u32),
}

/// A file as it was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    /// What it is on the host.
    pub(crate) kind: FileType,
    /// Whose the guest believes it to be.
    pub(crate) owner: Owner,
    pub(crate) stat: Statx,
}

/// `/proc/self/fd/…`, by which an open file is reached again whatever became of its name.
pub(crate) fn place(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The record of an open file, which its user may not be able to read.
fn owner_of(fd: BorrowedFd<'_>) -> Result<Option<Owner>, Errno> {
    let path = place(fd);
    super::reach::as_owner(fd, 0o400, || owner::read_open(&path))
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

impl Seen {
    /// An open file, or one opened as a path only.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> Result<Seen, Errno> {
        let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted())?;
        let mut seen = Seen::from(stat);
        if owner::fits(seen.kind)
            && let Some(owner) = owner_of(fd)?
        {
            seen.owner = owner;
        }
        Ok(seen)
    }

    /// An entry of a directory; a link is not followed.
    pub(crate) fn entry(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Seen, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(dir, name, flags, wanted())?;
        let mut seen = Seen::from(stat);
        if owner::fits(seen.kind) {
            seen.owner = seen.owner_of_entry(dir, name)?;
        }
        Ok(seen)
    }

    /// Looking at the attribute goes by name once more: what was put in its place meanwhile shows by its identity, when it
    /// is opened.
    fn owner_of_entry(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Owner, Errno> {
        let mut path = place(dir).into_bytes();
        path.push(b'/');
        path.extend_from_slice(name);
        let read = match owner::read(&path) {
            // A file of the user's that the user cannot read.
            Err(Errno::ACCESS) => owner_of(super::reach::path(dir, name)?.as_fd()),
            other => other,
        };
        match read {
            Ok(owner) => Ok(owner.unwrap_or(self.owner)),
            // Gone since, or another user's: its owner in the guest stays unknown.
            Err(Errno::NOENT | Errno::ACCESS) => Ok(self.owner),
            Err(error) => Err(error),
        }
    }

    /// The mode that the guest sees: permissions are the host's, all else the record's.
    pub(crate) fn mode(&self) -> u32 {
        let host = u32::from(self.stat.stx_mode);
        let kind = if self.owner.kind == 0 { host & 0o170_000 } else { self.owner.kind };
        kind | self.owner.special | (host & 0o777)
    }

    pub(crate) fn permissions(&self) -> u32 {
        u32::from(self.stat.stx_mode) & 0o777
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether the guest sees a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile && self.owner.kind == 0
    }

    /// `struct fuse_attr`. `inode` is the number that the guest is to see.
    pub(crate) fn put(&self, inode: u64, answer: &mut Answer) {
        let Statx { stx_size, stx_blocks, stx_nlink, stx_blksize, .. } = self.stat;
        let (atime, mtime, ctime) = (self.stat.stx_atime, self.stat.stx_mtime, self.stat.stx_ctime);
        let device = if self.owner.kind != 0 {
            self.owner.device
        } else {
            number(self.stat.stx_rdev_major, self.stat.stx_rdev_minor)
        };
        answer.u64(inode).u64(stx_size).u64(stx_blocks);
        answer
            .u64(atime.tv_sec.cast_unsigned())
            .u64(mtime.tv_sec.cast_unsigned())
            .u64(ctime.tv_sec.cast_unsigned());
        answer.u32(atime.tv_nsec).u32(mtime.tv_nsec).u32(ctime.tv_nsec);
        answer.u32(self.mode()).u32(stx_nlink).u32(self.owner.uid).u32(self.owner.gid);
        answer.u32(device).u32(stx_blksize).u32(0);
    }
}

impl From<Statx> for Seen {
    fn from(stat: Statx) -> Seen {
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
        let born = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
        let mut owner = Owner::of(stat.stx_uid, stat.stx_gid);
        owner.special = u32::from(stat.stx_mode) & owner::SPECIAL;
        Seen {
            identity: Identity { device, inode: stat.stx_ino, born },
            kind: FileType::from_raw_mode(stat.stx_mode.into()),
            owner,
            stat,
        }
    }
}

/// `new_encode_dev` of Linux.
fn number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
