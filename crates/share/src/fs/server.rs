//! One guest's view of all shares: which request goes where, and what is refused before it goes anywhere.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::io::Errno;

use super::abi::{self, Answer, Body, Header, can, op};
use super::handles::Handles;
use super::nodes::{Nodes, Share, TOP};
use super::reach;
use super::seen::{Identity, Seen};
use super::watch::Watch;

/// How long the guest may believe what it was told, nanoseconds: a change on the host is seen within a second.
pub(super) const BELIEVED: u32 = 900_000_000;

/// Whether a request has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It stands in what was handed in.
    Yes,
    /// This kind of request has none.
    Never,
}

/// The shares of one machine, as its guest uses them.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) shares: Vec<Share>,
    /// A directory that is not there for the guest, wherever it lies.
    hidden: Option<Identity>,
    pub(super) nodes: Nodes,
    pub(super) handles: Handles,
    /// What the host changes.
    pub(crate) watch: Watch,
    /// How many directories are kept open.
    room: usize,
    /// Where entries of a directory are read to.
    pub(super) entries: Vec<std::mem::MaybeUninit<u8>>,
}

impl Server {
    /// Serves these directories; `descriptors` is how many this process may have.
    ///
    /// # Errors
    /// The directory that cannot be opened, and why.
    pub(crate) fn new<'a>(
        shares: impl IntoIterator<Item = (&'a Path, bool)>,
        descriptors: usize,
    ) -> Result<Server, (std::path::PathBuf, Errno)> {
        let mut open = Vec::new();
        for (path, writable) in shares {
            let failed = |errno| (path.to_path_buf(), errno);
            let fd = Rc::new(reach::top(path).map_err(failed)?);
            let identity = Seen::open(fd.as_fd()).map_err(failed)?.identity;
            open.push(Share { fd, identity, writable });
        }
        // Half for what the guest has open, a quarter for directories, the rest for what work needs.
        let room = (descriptors / 4).clamp(16, 64 << 10);
        Ok(Server {
            nodes: Nodes::new(&open, room),
            handles: Handles::new((descriptors / 2).max(16)),
            shares: open,
            hidden: None,
            watch: Watch::new(0),
            room,
            entries: vec![std::mem::MaybeUninit::uninit(); 64 << 10],
        })
    }

    /// From now on this directory is not there for the guest, which cannot remove or move it either.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(crate) fn hide(&mut self, path: &Path) -> Result<(), Errno> {
        self.hidden = Some(Seen::open(reach::top(path)?.as_fd())?.identity);
        Ok(())
    }

    /// From now on the guest can be told of what the host changes in at most so many directories.
    pub(crate) fn watch_changes(&mut self, directories: usize) {
        self.watch = Watch::new(directories);
    }

    /// Whether this is what is hidden.
    pub(super) fn hides(&self, other: &Identity) -> bool {
        // A listing does not tell when a file was born.
        self.hidden.is_some_and(|hidden| (hidden.device, hidden.inode) == (other.device, other.inode))
    }

    /// Does what a request asks for. Whatever its bytes are, there is an answer or none is due.
    pub(crate) fn handle(&mut self, request: &[u8], answer: &mut Answer) -> Answered {
        answer.clear();
        let mut body = Body(request);
        let header = match body.header() {
            Ok(header) => header,
            Err(error) => {
                let unique = request.get(8..16).and_then(|word| word.try_into().ok()).map(u64::from_ne_bytes);
                answer.close(unique.unwrap_or(0), Err(error));
                return Answered::Yes;
            }
        };
        let result = match header.opcode {
            op::FORGET => {
                if let Ok(count) = body.u64() {
                    self.forget(header.node, count);
                }
                return Answered::Never;
            }
            op::BATCH_FORGET => {
                self.forget_many(body);
                return Answered::Never;
            }
            // Requests are worked off in turn: what was to be interrupted is done.
            op::INTERRUPT => return Answered::Never,
            _ => self.answer(&header, body, answer),
        };
        answer.close(header.unique, result);
        Answered::Yes
    }

    fn answer(&mut self, header: &Header, body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let node = header.node;
        if header.pid != 0 && header.pid == self.watch.teller {
            return self.answer_teller(header, body, answer);
        }
        self.note(header, body);
        match header.opcode {
            op::INIT => self.begin(body, answer),
            op::DESTROY => {
                self.reset();
                Ok(())
            }
            op::LOOKUP => self.look_up(node, body, answer),
            op::GETATTR => self.get_attributes(node, answer),
            op::SETATTR => self.set_attributes(node, body, answer),
            op::READLINK => self.read_link(node, answer),
            op::SYMLINK => self.make_link(header, body, answer),
            op::MKNOD => self.make_node(header, body, answer),
            op::MKDIR => self.make_dir(header, body, answer),
            op::UNLINK => self.remove(node, body, false),
            op::RMDIR => self.remove(node, body, true),
            op::RENAME => self.rename(node, body, false),
            op::RENAME2 => self.rename(node, body, true),
            op::LINK => self.link(node, body, answer),
            op::OPEN => self.open(node, body, answer),
            op::CREATE => self.create(header, body, answer),
            op::TMPFILE => self.create_unnamed(header, body, answer),
            op::READ => self.read(node, body, answer),
            op::WRITE => self.write(node, body, answer),
            // Which has no handles.
            op::RELEASEDIR if node == TOP => Ok(()),
            op::RELEASE if Self::is_no_handle(body) => Ok(()),
            op::RELEASE | op::RELEASEDIR => {
                let handle = { body }.u64()?;
                self.handles.remove(node, handle)?;
                if self.nodes.closed(node) {
                    self.watch.forget(node);
                }
                Ok(())
            }
            op::FSYNC => self.sync(node, body, false),
            op::FSYNCDIR => self.sync(node, body, true),
            op::SYNCFS => self.sync_all(node),
            op::STATFS => self.file_system(node, answer),
            op::OPENDIR => self.open_dir(node, answer),
            op::READDIR => self.list(node, body, answer, false),
            op::READDIRPLUS => self.list(node, body, answer, true),
            op::SETXATTR => self.set_xattr(node, body),
            op::GETXATTR => self.get_xattr(node, body, answer),
            op::LISTXATTR => self.list_xattrs(node, body, answer),
            op::REMOVEXATTR => self.remove_xattr(node, body),
            op::FALLOCATE => self.allocate(node, body),
            op::LSEEK => self.seek(node, body, answer),
            op::COPY_FILE_RANGE => self.copy(node, body, answer),
            op::IOCTL => Err(Errno::NOTTY),
            // Among them FLUSH, ACCESS, locks and POLL: the guest's kernel then does them itself and does not ask again.
            _ => Err(Errno::NOSYS),
        }
    }

    /// The guest mounts the file system: whatever another kernel knew is forgotten.
    fn begin(&mut self, mut body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let (major, minor) = (body.u32()?, body.u32()?);
        let (readahead, theirs) = (body.u32()?, body.u32()?);
        if major < 7 || (major == 7 && minor < 31) {
            return Err(Errno::PROTO);
        }
        if major > 7 {
            // The guest asks again, in our version.
            answer.u32(7).u32(31).bytes(&[0; 56]);
            return Ok(());
        }
        self.reset();
        let ours = can::ASYNC_READ
            | can::ATOMIC_O_TRUNC
            | can::BIG_WRITES
            | can::AUTO_INVAL_DATA
            | can::DO_READDIRPLUS
            | can::READDIRPLUS_AUTO
            | can::ASYNC_DIO
            | can::PARALLEL_DIROPS
            | can::MAX_PAGES
            | can::CACHE_SYMLINKS
            | can::HANDLE_KILLPRIV_V2;
        let (background, congestion) = (64_u32, 48_u32);
        let pages = u32::try_from(abi::MAX_DATA / 4096).unwrap_or(1);
        answer.u32(7).u32(minor.min(36)).u32(readahead.min(1 << 20)).u32(ours & theirs);
        answer.u32(background | congestion << 16).u32(1 << 20).u32(1).u32(pages);
        answer.bytes(&[0; 32]);
        Ok(())
    }

    /// Forgets everything that the guest knew and had open.
    pub(crate) fn reset(&mut self) {
        self.handles.clear();
        self.nodes = Nodes::new(&self.shares, self.room);
        self.watch.clear();
    }

    pub(super) fn forget(&mut self, node: u64, count: u64) {
        if self.nodes.forget(node, count) {
            self.watch.forget(node);
        }
    }

    /// What changes a file that the guest knows changes an entry of its directory.
    fn note(&mut self, header: &Header, mut body: Body<'_>) {
        let node = match header.opcode {
            op::SETATTR
            | op::OPEN
            | op::WRITE
            | op::RELEASE
            | op::SETXATTR
            | op::REMOVEXATTR
            | op::FALLOCATE => header.node,
            op::COPY_FILE_RANGE if body.skip(16).is_ok() => body.u64().unwrap_or(0),
            _ => return,
        };
        self.own_node(node);
    }

    /// The guest changes a file that it knows.
    pub(super) fn own_node(&mut self, node: u64) {
        if let Ok(node) = self.nodes.get(node) {
            self.watch.own(node.parent, &node.name);
        }
    }

    fn forget_many(&mut self, mut body: Body<'_>) {
        let Ok(count) = body.u32() else { return };
        if body.skip(4).is_err() {
            return;
        }
        for _ in 0..count {
            let (Ok(node), Ok(lookups)) = (body.u64(), body.u64()) else { return };
            self.forget(node, lookups);
        }
    }

    /// The share that a file belongs to. The directory that holds the shares belongs to none, and nothing can be done with it
    /// that needs one.
    pub(super) fn share_of(&self, node: u64) -> Result<usize, Errno> {
        if node == TOP { Err(Errno::PERM) } else { Ok(self.nodes.get(node)?.share) }
    }

    /// The same, and the guest may write there (spec 14.3).
    pub(super) fn writable(&self, node: u64) -> Result<usize, Errno> {
        if node == TOP {
            return Err(Errno::ROFS);
        }
        let share = self.share_of(node)?;
        if self.shares[share].writable { Ok(share) } else { Err(Errno::ROFS) }
    }

    /// A directory that the guest may change.
    pub(super) fn writable_dir(&mut self, node: u64) -> Result<(usize, Rc<OwnedFd>), Errno> {
        let share = self.writable(node)?;
        Ok((share, self.dir(node)?))
    }

    pub(super) fn dir(&mut self, node: u64) -> Result<Rc<OwnedFd>, Errno> {
        if !self.nodes.get(node)?.is_dir {
            return Err(Errno::NOTDIR);
        }
        self.nodes.fd(node)
    }

    /// How many files the guest knows, and how many it has open.
    pub(crate) fn figures(&self) -> (usize, usize) {
        (self.nodes.len(), self.handles.len())
    }
}
