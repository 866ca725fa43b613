//! Attributes: what the guest sees, and what it sets. Permissions, size and times are the host's; owner and special bits are
//! kept beside (see `owner`).

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::abi::{Answer, Body, set};
use super::nodes::TOP;
use super::owner::{self, Owner};
use super::reach::{self, as_owner};
use super::seen::{Seen, place};
use super::server::{BELIEVED, Server};
use super::xattr;

impl Server {
    pub(super) fn get_attributes(&mut self, node: u64, answer: &mut Answer) -> Result<(), Errno> {
        if node == TOP {
            answer.u64(0).u32(BELIEVED).u32(0);
            put_top(answer, self.shares.len());
            return Ok(());
        }
        let seen = self.look(node)?;
        self.put_attributes(&seen, answer);
        Ok(())
    }

    fn put_attributes(&mut self, seen: &Seen, answer: &mut Answer) {
        answer.u64(0).u32(BELIEVED).u32(0);
        seen.put(self.nodes.inode(&seen.identity), answer);
    }

    /// Looks at a file that the guest knows.
    pub(super) fn look(&mut self, node: u64) -> Result<Seen, Errno> {
        let known = self.nodes.get(node)?;
        if known.is_dir || known.held.is_some() {
            let fd = self.nodes.fd(node)?;
            return Seen::open(fd.as_fd());
        }
        let (parent, name, identity) = (known.parent, known.name.clone(), known.identity);
        let dir = self.nodes.fd(parent)?;
        match as_owner(&*dir, 0o100, || Seen::entry(dir.as_fd(), &name)) {
            Ok(seen) if seen.identity == identity => Ok(seen),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Err(Errno::STALE),
            Err(error) => Err(error),
        }
    }

    pub(super) fn set_attributes(
        &mut self,
        node: u64,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        self.writable(node)?;
        let valid = body.u32()?;
        body.skip(4)?;
        let (handle, size) = (body.u64()?, body.u64()?);
        body.skip(8)?;
        let (atime, mtime) = (body.u64()?, body.u64()?);
        body.skip(8)?;
        let (atime_nanos, mtime_nanos) = (body.u32()?, body.u32()?);
        body.skip(4)?;
        let mode = body.u32()?;
        body.skip(4)?;
        let (uid, gid) = (body.u32()?, body.u32()?);

        let (fd, writes) = if valid & set::HANDLE != 0 {
            let handle = self.handles.file(node, handle)?;
            (handle.fd.clone(), handle.writes)
        } else {
            (self.nodes.fd(node)?, false)
        };
        let seen = Seen::open(fd.as_fd())?;
        let mut wanted = seen.owner;
        if valid & set::SIZE != 0 {
            if !seen.is_file() {
                return Err(Errno::INVAL);
            }
            if writes {
                rustix::fs::ftruncate(&*fd, size)?;
            } else {
                let file = as_owner(&*fd, 0o200, || reach::open(&*fd, OFlags::WRONLY))?;
                rustix::fs::ftruncate(file, size)?;
            }
            if valid & set::KILL_SUIDGID != 0 {
                wanted = wanted.tamed(seen.permissions());
            }
        }
        if valid & (set::UID | set::GID) != 0 {
            if valid & set::UID != 0 && uid != u32::MAX {
                wanted.uid = uid;
            }
            if valid & set::GID != 0 && gid != u32::MAX {
                wanted.gid = gid;
            }
            if !seen.is_dir() {
                wanted = wanted.tamed(seen.permissions());
                xattr::drop_capability(&*fd)?;
            }
        }
        if valid & set::MODE != 0 {
            wanted.special = mode & owner::SPECIAL;
        }
        keep(&*fd, &seen, &wanted)?;
        if valid & set::MODE != 0 && mode & 0o777 != seen.permissions() {
            permit(&*fd, &seen, mode & 0o777)?;
        }
        if valid & (set::ATIME | set::MTIME) != 0 {
            let time = |which, now, seconds: u64, nanos: u32| match valid {
                valid if valid & now != 0 => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
                valid if valid & which != 0 => {
                    Timespec { tv_sec: seconds.cast_signed(), tv_nsec: nanos.min(999_999_999).into() }
                }
                _ => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            };
            let times = Timestamps {
                last_access: time(set::ATIME, set::ATIME_NOW, atime, atime_nanos),
                last_modification: time(set::MTIME, set::MTIME_NOW, mtime, mtime_nanos),
            };
            as_owner(&*fd, 0o200, || rustix::fs::utimensat(CWD, place(&*fd), &times, AtFlags::empty()))?;
        }
        let seen = Seen::open(fd.as_fd())?;
        self.put_attributes(&seen, answer);
        Ok(())
    }

    /// A change of content takes set-user-ID and set-group-ID away.
    pub(super) fn tame(&self, fd: impl AsFd) -> Result<(), Errno> {
        let seen = Seen::open(fd.as_fd())?;
        xattr::drop_capability(&fd)?;
        keep(&fd, &seen, &seen.owner.tamed(seen.permissions()))
    }
}

/// Sets permissions; what is special on the host stays as it is there.
pub(super) fn permit(fd: impl AsFd, seen: &Seen, permissions: u32) -> Result<(), Errno> {
    let special = u32::from(seen.stat.stx_mode) & owner::SPECIAL;
    rustix::fs::chmod(place(fd), Mode::from_raw_mode(special | permissions))
}

/// Keeps whose a file is to be in the guest. Where its file system cannot keep that, it stays the user's, as on the host; a
/// device node or the like cannot be made there.
pub(super) fn keep(fd: impl AsFd, seen: &Seen, wanted: &Owner) -> Result<(), Errno> {
    if *wanted == seen.owner {
        return Ok(());
    }
    let path = place(&fd);
    let kept = owner::fits(seen.kind) && as_owner(&fd, 0o200, || owner::write(&path, wanted))?;
    if kept {
        return Ok(());
    }
    if wanted.kind != seen.owner.kind {
        return Err(Errno::PERM);
    }
    tracing::debug!(fd = fd.as_fd().as_raw_fd(), "an owner cannot be kept on this file system");
    Ok(())
}

/// Attributes of the directory that holds the shares.
pub(super) fn put_top(answer: &mut Answer, shares: usize) {
    answer.u64(TOP).u64(0).u64(0).bytes(&[0; 36]);
    answer.u32(0o040_555).u32(u32::try_from(2 + shares).unwrap_or(2));
    answer.u32(0).u32(0).u32(0).u32(4096).u32(0);
}
