//! Names: looked up, made, renamed and removed. A change stays within one share.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::abi::{Answer, Body, Header, flag, name};
use super::attr::{keep, permit, put_top};
use super::nodes::{TOP, top_of};
use super::owner::{self, Owner};
use super::reach::{self, as_owner};
use super::seen::{Seen, place};
use super::server::{BELIEVED, Server};

/// What a directory's user needs to change or search it.
const CHANGE: u32 = 0o300;
const SEARCH: u32 = 0o100;
/// `RENAME_NOREPLACE` and `RENAME_EXCHANGE`.
const NO_REPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

impl Server {
    pub(super) fn look_up(
        &mut self,
        parent: u64,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        let name = name(body.text()?)?;
        if parent == TOP {
            let share = std::str::from_utf8(name).ok().and_then(|text| text.parse::<usize>().ok());
            let share = share.filter(|share| *share < self.shares.len()).ok_or(Errno::NOENT)?;
            let seen = Seen::open(self.shares[share].fd.as_fd())?;
            return self.tell(share, TOP, name, &seen, answer);
        }
        let share = self.share_of(parent)?;
        let dir = self.dir(parent)?;
        match as_owner(&*dir, SEARCH, || Seen::entry(dir.as_fd(), name)) {
            Ok(seen) => self.tell(share, parent, name, &seen, answer),
            Err(Errno::NOENT) => {
                // Believed for as long as what is there.
                answer.u64(0).u64(0).u64(0).u64(0).u32(BELIEVED).u32(0);
                answer.bytes(&[0; 88]);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the guest of a file: `struct fuse_entry_out`.
    pub(super) fn tell(
        &mut self,
        share: usize,
        parent: u64,
        name: &[u8],
        seen: &Seen,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        if self.hides(&seen.identity) {
            return Err(Errno::NOENT);
        }
        let share = self.share_at(share, seen);
        let node = self.nodes.enter(share, parent, name, seen)?;
        if seen.is_dir() {
            self.see(node, share, parent, name);
        }
        answer.u64(node).u64(0).u64(0).u64(0).u32(BELIEVED).u32(BELIEVED);
        seen.put(self.nodes.inode(&seen.identity), answer);
        Ok(())
    }

    /// The guest knows a directory: what the host changes there is told from now on.
    pub(super) fn see(&mut self, node: u64, share: usize, parent: u64, name: &[u8]) {
        let top = node == top_of(share);
        let fd = if top { Ok(Rc::clone(&self.shares[share].fd)) } else { self.nodes.fd(parent) };
        if let Ok(fd) = fd {
            self.watch.see(node, || {
                let mut path = place(&*fd).into_bytes();
                path.push(b'/');
                path.extend_from_slice(if top { b"." } else { name });
                path
            });
        }
    }

    /// A share may lie in another one: from its top on its own rules hold (spec 14.3).
    fn share_at(&self, share: usize, seen: &Seen) -> usize {
        if !seen.is_dir() {
            return share;
        }
        self.top(seen).unwrap_or(share)
    }

    /// The share whose top this is.
    fn top(&self, seen: &Seen) -> Option<usize> {
        self.shares.iter().position(|share| share.identity == seen.identity)
    }

    /// The top of a share can be neither removed nor moved from within another one, nor can what is hidden.
    fn no_top(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        match Seen::entry(dir, name) {
            Ok(seen) if seen.is_dir() && (self.top(&seen).is_some() || self.hides(&seen.identity)) => {
                Err(Errno::BUSY)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn read_link(&mut self, node: u64, answer: &mut Answer) -> Result<(), Errno> {
        self.share_of(node)?;
        let fd = self.nodes.fd(node)?;
        let target = rustix::fs::readlinkat(&*fd, c"", Vec::with_capacity(256))?;
        answer.bytes(target.as_bytes());
        Ok(())
    }

    pub(super) fn make_link(
        &mut self,
        header: &Header,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        let (share, dir) = self.writable_dir(header.node)?;
        let name = name(body.text()?)?;
        let target = body.text()?;
        self.watch.own(header.node, name);
        as_owner(&*dir, CHANGE, || rustix::fs::symlinkat(target, &*dir, name))?;
        let seen = Seen::entry(dir.as_fd(), name)?;
        self.tell(share, header.node, name, &seen, answer)
    }

    pub(super) fn make_dir(
        &mut self,
        header: &Header,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        let (share, dir) = self.writable_dir(header.node)?;
        let mode = body.u32()?;
        body.skip(4)?;
        let name = name(body.text()?)?;
        let real = Mode::from_raw_mode(mode & 0o777 | 0o700);
        self.watch.own(header.node, name);
        as_owner(&*dir, CHANGE, || rustix::fs::mkdirat(&*dir, name, real))?;
        let fd = reach::path(dir.as_fd(), name)?;
        let made = self.settle(header, dir.as_fd(), &fd, mode, 0, 0);
        let seen = undo_unless(made, dir.as_fd(), name, AtFlags::REMOVEDIR)?;
        self.tell(share, header.node, name, &seen, answer)
    }

    /// Device nodes, FIFOs and sockets are empty files on the host, which say in their record what they are in the guest.
    pub(super) fn make_node(
        &mut self,
        header: &Header,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        let (share, dir) = self.writable_dir(header.node)?;
        let (mode, device) = (body.u32()?, body.u32()?);
        body.skip(8)?;
        let name = name(body.text()?)?;
        let kind = match FileType::from_raw_mode(mode) {
            FileType::RegularFile => 0,
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
                mode & 0o170_000
            }
            _ if mode & 0o170_000 == 0 => 0,
            _ => return Err(Errno::INVAL),
        };
        self.watch.own(header.node, name);
        let fd = self.make_file(dir.as_fd(), name, OFlags::WRONLY, mode)?;
        let made = self.settle(header, dir.as_fd(), &fd, mode, kind, device);
        let seen = undo_unless(made, dir.as_fd(), name, AtFlags::empty())?;
        self.tell(share, header.node, name, &seen, answer)
    }

    /// Makes a file that its user can still read and write, whatever the mode; [`settle`](Self::settle) comes next.
    pub(super) fn make_file(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        flags: OFlags,
        mode: u32,
    ) -> Result<OwnedFd, Errno> {
        let real = Mode::from_raw_mode(mode & 0o777 | 0o600);
        as_owner(dir, CHANGE, || reach::create(dir, name, flags, real))
    }

    /// Gives what was made the owner and the mode that the guest asked for.
    pub(super) fn settle(
        &self,
        header: &Header,
        dir: BorrowedFd<'_>,
        fd: impl AsFd,
        mode: u32,
        kind: u32,
        device: u32,
    ) -> Result<Seen, Errno> {
        let seen = Seen::open(fd.as_fd())?;
        let above = Seen::open(dir)?.owner;
        let mut wanted =
            Owner { special: mode & owner::SPECIAL, kind, device, ..Owner::of(header.uid, header.gid) };
        if above.hands_group_down() {
            wanted.gid = above.gid;
            if seen.is_dir() {
                wanted.special |= 0o2000;
            }
        }
        let permissions = mode & 0o777;
        let changed = wanted != seen.owner || permissions != seen.permissions();
        keep(&fd, &seen, &wanted)?;
        if permissions != seen.permissions() {
            permit(&fd, &seen, permissions)?;
        }
        if changed { Seen::open(fd.as_fd()) } else { Ok(seen) }
    }

    pub(super) fn link(&mut self, parent: u64, mut body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let (share, dir) = self.writable_dir(parent)?;
        let node = body.u64()?;
        let name = name(body.text()?)?;
        if self.share_of(node)? != share {
            return Err(Errno::XDEV);
        }
        if self.nodes.get(node)?.is_dir {
            return Err(Errno::PERM);
        }
        let fd = self.nodes.fd(node)?;
        self.watch.own(parent, name);
        self.own_node(node);
        as_owner(&*dir, CHANGE, || {
            rustix::fs::linkat(CWD, place(&*fd), &*dir, name, AtFlags::SYMLINK_FOLLOW)
        })?;
        let seen = Seen::entry(dir.as_fd(), name)?;
        self.tell(share, parent, name, &seen, answer)
    }

    pub(super) fn remove(&mut self, parent: u64, mut body: Body<'_>, is_dir: bool) -> Result<(), Errno> {
        let (_, dir) = self.writable_dir(parent)?;
        let name = name(body.text()?)?;
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        if is_dir {
            self.no_top(dir.as_fd(), name)?;
        }
        self.watch.own(parent, name);
        as_owner(&*dir, CHANGE, || rustix::fs::unlinkat(&*dir, name, flags))
    }

    pub(super) fn rename(&mut self, parent: u64, mut body: Body<'_>, flagged: bool) -> Result<(), Errno> {
        let (share, from) = self.writable_dir(parent)?;
        let parent_to = body.u64()?;
        let asked = if flagged { body.u64()? } else { 0 };
        let how = match u32::try_from(asked & 0xffff_ffff) {
            Ok(0) => RenameFlags::empty(),
            Ok(NO_REPLACE) => RenameFlags::NOREPLACE,
            Ok(EXCHANGE) => RenameFlags::EXCHANGE,
            _ => return Err(Errno::INVAL),
        };
        let (old, new) = (name(body.text()?)?, name(body.text()?)?);
        let (share_to, to) = self.writable_dir(parent_to)?;
        if share != share_to {
            return Err(Errno::XDEV);
        }
        self.no_top(from.as_fd(), old)?;
        self.no_top(to.as_fd(), new)?;
        self.watch.own(parent, old);
        self.watch.own(parent_to, new);
        as_owner(&*to, CHANGE, || {
            as_owner(&*from, CHANGE, || rustix::fs::renameat_with(&*from, old, &*to, new, how))
        })?;
        self.moved(share, to.as_fd(), parent_to, new);
        if how == RenameFlags::EXCHANGE {
            self.moved(share, from.as_fd(), parent, old);
        }
        Ok(())
    }

    /// Where a file is found from now on.
    fn moved(&mut self, share: usize, dir: BorrowedFd<'_>, parent: u64, name: &[u8]) {
        // Gone again already: its number leads nowhere, as it should.
        if let Ok(seen) = Seen::entry(dir, name) {
            self.nodes.moved(share, &seen.identity, parent, name);
        }
    }

    pub(super) fn file_system(&mut self, node: u64, answer: &mut Answer) -> Result<(), Errno> {
        let share = if node == TOP { 0 } else { self.share_of(node)? };
        let fd = &self.shares.get(share).ok_or(Errno::NOENT)?.fd;
        let stat = rustix::fs::fstatvfs(&**fd)?;
        let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        answer.u64(stat.f_blocks).u64(stat.f_bfree).u64(stat.f_bavail).u64(stat.f_files).u64(stat.f_ffree);
        answer.u32(word(stat.f_bsize)).u32(255).u32(word(stat.f_frsize)).u32(0);
        answer.bytes(&[0; 24]);
        Ok(())
    }

    pub(super) fn sync_all(&mut self, node: u64) -> Result<(), Errno> {
        if node == TOP {
            for share in 0..self.shares.len() {
                self.sync_all(top_of(share))?;
            }
            return Ok(());
        }
        let share = self.share_of(node)?;
        let dir = as_owner(&*self.shares[share].fd, 0o400, || {
            reach::open(&*self.shares[share].fd, OFlags::RDONLY | OFlags::DIRECTORY)
        })?;
        rustix::fs::syncfs(dir)
    }
}

/// What could not be finished is not left behind half made.
fn undo_unless(
    made: Result<Seen, Errno>,
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: AtFlags,
) -> Result<Seen, Errno> {
    if made.is_err()
        && let Err(error) = rustix::fs::unlinkat(dir, name, flags)
    {
        tracing::debug!(%error, "what was half made could not be removed");
    }
    made
}

/// An entry of the directory that holds the shares, for a listing.
pub(super) fn put_no_entry(answer: &mut Answer) {
    answer.bytes(&[0; 40]);
    put_top(answer, 0);
}

/// The access that a guest asks for, as the host knows it.
pub(super) fn access(flags: u32) -> OFlags {
    match flags & flag::ACCESS {
        flag::WRITE_ONLY => OFlags::WRONLY,
        flag::READ_WRITE => OFlags::RDWR,
        _ => OFlags::RDONLY,
    }
}
