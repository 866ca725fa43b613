//! Files that the guest has open.

use std::io::IoSlice;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FallocateFlags, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use super::abi::{self, Answer, Body, Header, flag, name};
use super::handles::Handle;
use super::reach::{self, as_owner};
use super::seen::Seen;
use super::server::Server;
use super::tree::access;

/// The most that is copied at one go, so that other requests have their turn.
const COPY: u64 = 16 << 20;
/// `SEEK_DATA` and `SEEK_HOLE`.
const DATA: u32 = 3;
const HOLE: u32 = 4;

impl Server {
    pub(super) fn open(&mut self, node: u64, mut body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let (flags, how) = (body.u32()?, body.u32()?);
        let handle = self.open_file(node, flags, how)?;
        answer.u64(handle).u32(abi::KEEP_CACHE).u32(0);
        Ok(())
    }

    /// Opens a file that is there. Nothing but a regular file is ever opened: devices and FIFOs are the guest's kernel's own.
    fn open_file(&mut self, node: u64, flags: u32, how: u32) -> Result<u64, Errno> {
        let truncates = flags & flag::TRUNCATE != 0;
        if flags & flag::ACCESS != 0 || truncates {
            self.writable(node)?;
        } else {
            self.share_of(node)?;
        }
        self.handles.fits()?;
        let path = self.nodes.fd(node)?;
        let stat = rustix::fs::fstat(&*path)?;
        match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::RegularFile => {}
            rustix::fs::FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::NXIO),
        }
        let mut real = access(flags);
        if truncates {
            real |= OFlags::TRUNC;
        }
        let needed = if real.contains(OFlags::WRONLY) { 0o200 } else { 0o400 };
        let needed = if real.contains(OFlags::RDWR) || truncates { 0o600 } else { needed };
        let fd = as_owner(&*path, needed, || reach::open(&*path, real))?;
        if truncates && how & abi::OPEN_KILL_SUIDGID != 0 {
            self.tame(&fd)?;
        }
        Ok(self.keep_open(node, fd, flags))
    }

    fn keep_open(&mut self, node: u64, fd: OwnedFd, flags: u32) -> u64 {
        let fd = Rc::new(fd);
        self.nodes.opened(node, &fd);
        self.handles.add(Handle {
            node,
            fd,
            is_dir: false,
            appends: flags & flag::APPEND != 0,
            writes: flags & flag::ACCESS != 0,
            position: None,
        })
    }

    pub(super) fn create(
        &mut self,
        header: &Header,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        let (share, dir) = self.writable_dir(header.node)?;
        let (flags, mode) = (body.u32()?, body.u32()?);
        body.skip(4)?;
        let how = body.u32()?;
        let name = name(body.text()?)?;
        self.handles.fits()?;
        self.watch.own(header.node, name);
        let handle = match self.make_file(dir.as_fd(), name, access(flags), mode) {
            Ok(fd) => {
                let made = self.settle(header, dir.as_fd(), &fd, mode, 0, 0);
                if made.is_err()
                    && let Err(error) = rustix::fs::unlinkat(&*dir, name, AtFlags::empty())
                {
                    tracing::debug!(%error, "what was half made could not be removed");
                }
                self.tell(share, header.node, name, &made?, answer)?;
                let node = self.told(answer);
                self.keep_open(node, fd, flags)
            }
            // Made on the host since the guest looked.
            Err(Errno::EXIST) if flags & flag::EXCLUSIVE == 0 => {
                let seen = as_owner(&*dir, 0o100, || Seen::entry(dir.as_fd(), name))?;
                self.tell(share, header.node, name, &seen, answer)?;
                let node = self.told(answer);
                match self.open_file(node, flags, how) {
                    Ok(handle) => handle,
                    Err(error) => {
                        self.forget(node, 1);
                        return Err(error);
                    }
                }
            }
            Err(error) => return Err(error),
        };
        answer.u64(handle).u32(abi::KEEP_CACHE).u32(0);
        Ok(())
    }

    /// The number of the file that an answer tells of.
    fn told(&self, answer: &Answer) -> u64 {
        let word = answer.whole().get(abi::OUT_HEADER..).and_then(|bytes| bytes.first_chunk());
        word.map_or(0, |word| u64::from_ne_bytes(*word))
    }

    /// A file without a name, which `LINK` may give it one.
    pub(super) fn create_unnamed(
        &mut self,
        header: &Header,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        let (share, dir) = self.writable_dir(header.node)?;
        let (flags, mode) = (body.u32()?, body.u32()?);
        self.handles.fits()?;
        let real = rustix::fs::Mode::from_raw_mode(mode & 0o777 | 0o600);
        let kind = access(flags) | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = as_owner(&*dir, 0o300, || {
            rustix::fs::openat(rustix::fs::CWD, super::seen::place(&*dir), kind, real)
        })?;
        let seen = self.settle(header, dir.as_fd(), &fd, mode, 0, 0)?;
        self.tell(share, header.node, b"", &seen, answer)?;
        let node = self.told(answer);
        let handle = self.keep_open(node, fd, flags);
        answer.u64(handle).u32(abi::KEEP_CACHE).u32(0);
        Ok(())
    }

    pub(super) fn read(&mut self, node: u64, mut body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
        let file = self.handles.file(node, handle)?;
        let count = rustix::io::pread(&*file.fd, answer.room(size as usize), offset)?;
        answer.fill(count);
        Ok(())
    }

    pub(super) fn write(&mut self, node: u64, mut body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        self.writable(node)?;
        let (handle, offset) = (body.u64()?, body.u64()?);
        let (size, how) = (body.u32()?, body.u32()?);
        body.skip(16)?;
        let data = body.bytes(size as usize)?;
        let file = self.handles.file(node, handle)?;
        if !file.writes {
            return Err(Errno::BADF);
        }
        let count = if file.appends && how & abi::WRITE_CACHE == 0 {
            rustix::io::pwritev2(&*file.fd, &[IoSlice::new(data)], offset, ReadWriteFlags::APPEND)?
        } else {
            rustix::io::pwrite(&*file.fd, data, offset)?
        };
        if how & abi::WRITE_KILL_SUIDGID != 0 {
            let fd = file.fd.clone();
            self.tame(&*fd)?;
        }
        answer.u32(u32::try_from(count).unwrap_or(u32::MAX)).u32(0);
        Ok(())
    }

    pub(super) fn sync(&mut self, node: u64, mut body: Body<'_>, is_dir: bool) -> Result<(), Errno> {
        let (handle, how) = (body.u64()?, body.u32()?);
        let fd =
            if is_dir { &self.handles.dir(node, handle)?.fd } else { &self.handles.file(node, handle)?.fd };
        if how & 1 != 0 { rustix::fs::fdatasync(&**fd) } else { rustix::fs::fsync(&**fd) }
    }

    pub(super) fn allocate(&mut self, node: u64, mut body: Body<'_>) -> Result<(), Errno> {
        self.writable(node)?;
        let (handle, offset, length) = (body.u64()?, body.u64()?, body.u64()?);
        let how = FallocateFlags::from_bits_retain(body.u32()?);
        let able = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        let file = self.handles.file(node, handle)?;
        if !file.writes {
            return Err(Errno::BADF);
        }
        if !able.contains(how) {
            return Err(Errno::OPNOTSUPP);
        }
        rustix::fs::fallocate(&*file.fd, how, offset, length)
    }

    pub(super) fn seek(&mut self, node: u64, mut body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let (handle, offset, whence) = (body.u64()?, body.u64()?, body.u32()?);
        let to = match whence {
            DATA => SeekFrom::Data(offset),
            HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let file = self.handles.file(node, handle)?;
        answer.u64(rustix::fs::seek(&*file.fd, to)?);
        Ok(())
    }

    pub(super) fn copy(&mut self, node: u64, mut body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let (handle, mut offset, node_to) = (body.u64()?, body.u64()?, body.u64()?);
        let (handle_to, mut offset_to, length) = (body.u64()?, body.u64()?, body.u64()?);
        self.writable(node_to)?;
        let from = self.handles.file(node, handle)?;
        let to = self.handles.file(node_to, handle_to)?;
        if !to.writes {
            return Err(Errno::BADF);
        }
        let length = usize::try_from(length.min(COPY)).unwrap_or(0);
        let (in_at, out_at) = (Some(&mut offset), Some(&mut offset_to));
        let count = rustix::fs::copy_file_range(&*from.fd, in_at, &*to.fd, out_at, length)?;
        answer.u32(u32::try_from(count).unwrap_or(u32::MAX)).u32(0);
        Ok(())
    }
}
