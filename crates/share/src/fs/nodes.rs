//! The files that the guest knows: each by the number that it was given, and by where it was seen last. Directories are kept
//! open while there is room; all else is found again by its directory and name and must be the file that was meant, so that
//! millions of files cost no descriptors. A file that the guest has open is reached by that.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;

use super::reach;
use super::seen::{Identity, Seen};

/// The number of the directory that holds the shares, by FUSE's own rule.
pub(crate) const TOP: u64 = 1;
/// How deep a tree may be: more than any path that Linux takes.
const DEEPEST: usize = 4096;
/// The most files that a guest may know at once; far more than its memory holds.
const MOST: usize = 8 << 20;

/// One share's top, in the configuration's order.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) fd: Rc<OwnedFd>,
    pub(crate) identity: Identity,
    pub(crate) writable: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Which share it belongs to.
    pub(crate) share: usize,
    pub(crate) identity: Identity,
    pub(crate) is_dir: bool,
    pub(crate) parent: u64,
    pub(crate) name: Rc<[u8]>,
    /// How often the guest was told of it and has not forgotten.
    lookups: u64,
    /// How many handles it has.
    opens: u32,
    /// A descriptor of it: of a directory for as long as there is room, of another file while it has handles.
    pub(crate) held: Option<Rc<OwnedFd>>,
    recent: Cell<bool>,
}

#[derive(Debug)]
pub(crate) struct Nodes {
    all: HashMap<u64, Node>,
    numbers: HashMap<(usize, u64, u64), u64>,
    next: u64,
    /// Directories that are held open, oldest first.
    open_dirs: VecDeque<u64>,
    /// How many may be.
    room: usize,
    shares: usize,
    /// Devices of the host, in the order in which they were seen.
    devices: Vec<u64>,
}

/// The number of a share's top.
pub(crate) const fn top_of(share: usize) -> u64 {
    TOP + 1 + share as u64
}

impl Nodes {
    pub(crate) fn new(shares: &[Share], room: usize) -> Nodes {
        let mut nodes = Nodes {
            all: HashMap::new(),
            numbers: HashMap::new(),
            next: top_of(shares.len()),
            open_dirs: VecDeque::new(),
            room,
            shares: shares.len(),
            devices: Vec::new(),
        };
        for (share, Share { fd, identity, .. }) in shares.iter().enumerate() {
            let node = Node {
                share,
                identity: *identity,
                is_dir: true,
                parent: TOP,
                name: share.to_string().into_bytes().into(),
                lookups: 0,
                opens: 0,
                held: Some(Rc::clone(fd)),
                recent: Cell::new(false),
            };
            nodes.all.insert(top_of(share), node);
            nodes.numbers.insert((share, identity.device, identity.inode), top_of(share));
        }
        nodes
    }

    pub(crate) fn get(&self, id: u64) -> Result<&Node, Errno> {
        self.all.get(&id).ok_or(Errno::STALE)
    }

    fn is_top(&self, id: u64) -> bool {
        id < top_of(self.shares)
    }

    /// Takes in a file that the guest is told of; answers its number. `share` is the one that it belongs to.
    pub(crate) fn enter(
        &mut self,
        share: usize,
        parent: u64,
        name: &[u8],
        seen: &Seen,
    ) -> Result<u64, Errno> {
        let identity = seen.identity;
        let key = (share, identity.device, identity.inode);
        if let Entry::Occupied(number) = self.numbers.entry(key)
            && let Some(node) = self.all.get_mut(number.get())
            && node.identity == identity
        {
            let id = *number.get();
            node.lookups += 1;
            if id >= top_of(self.shares) && (node.parent != parent || *node.name != *name) {
                (node.parent, node.name) = (parent, name.into());
            }
            return Ok(id);
        }
        if self.all.len() >= MOST {
            return Err(Errno::NFILE);
        }
        let id = self.next;
        self.next += 1;
        self.numbers.insert(key, id);
        let node = Node {
            share,
            identity,
            is_dir: seen.is_dir(),
            parent,
            name: name.into(),
            lookups: 1,
            opens: 0,
            held: None,
            recent: Cell::new(false),
        };
        self.all.insert(id, node);
        Ok(id)
    }

    /// The guest forgets.
    pub(crate) fn forget(&mut self, id: u64, count: u64) {
        if let Some(node) = self.all.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(count);
            self.drop_unused(id);
        }
    }

    fn drop_unused(&mut self, id: u64) {
        if self.is_top(id) {
            return;
        }
        let Entry::Occupied(entry) = self.all.entry(id) else { return };
        if entry.get().lookups > 0 || entry.get().opens > 0 {
            return;
        }
        let Node { share, identity, .. } = entry.remove();
        let key = (share, identity.device, identity.inode);
        if self.numbers.get(&key) == Some(&id) {
            self.numbers.remove(&key);
        }
    }

    /// A descriptor of it, by which it is reached and not read.
    pub(crate) fn fd(&mut self, id: u64) -> Result<Rc<OwnedFd>, Errno> {
        let mut chain = Vec::new();
        let mut at = id;
        let mut fd = loop {
            let node = self.get(at)?;
            if let Some(held) = &node.held {
                node.recent.set(true);
                break Rc::clone(held);
            }
            if chain.len() == DEEPEST {
                return Err(Errno::STALE);
            }
            chain.push(at);
            at = node.parent;
        };
        for id in chain.into_iter().rev() {
            let node = self.get(id)?;
            let opened =
                reach::as_owner(&*fd, 0o100, || reach::same(fd.as_fd(), &node.name, &node.identity))?;
            fd = Rc::new(opened);
            if node.is_dir {
                self.keep(id, Rc::clone(&fd));
            }
        }
        Ok(fd)
    }

    /// Keeps a directory open, and closes the one that was not used for longest if there are too many.
    fn keep(&mut self, id: u64, fd: Rc<OwnedFd>) {
        // Each may have been used since, and then each has its second turn.
        for _ in 0..2 * self.open_dirs.len() {
            if self.open_dirs.len() < self.room {
                break;
            }
            let Some(oldest) = self.open_dirs.pop_front() else { break };
            match self.all.get_mut(&oldest) {
                Some(node) if node.recent.replace(false) || node.opens > 0 => {
                    self.open_dirs.push_back(oldest)
                }
                Some(node) => node.held = None,
                None => {}
            }
        }
        if let Some(node) = self.all.get_mut(&id) {
            node.held = Some(fd);
            self.open_dirs.push_back(id);
        }
    }

    /// The guest has it open, by this descriptor.
    pub(crate) fn opened(&mut self, id: u64, fd: &Rc<OwnedFd>) {
        if let Some(node) = self.all.get_mut(&id) {
            node.opens = node.opens.saturating_add(1);
            node.held.get_or_insert_with(|| Rc::clone(fd));
        }
    }

    /// One of its handles is gone.
    pub(crate) fn closed(&mut self, id: u64) {
        if let Some(node) = self.all.get_mut(&id) {
            node.opens = node.opens.saturating_sub(1);
            if node.opens == 0 && !node.is_dir {
                node.held = None;
            }
            self.drop_unused(id);
        }
    }

    /// The guest gave it another name or another directory.
    pub(crate) fn moved(&mut self, share: usize, identity: &Identity, parent: u64, name: &[u8]) {
        let key = (share, identity.device, identity.inode);
        if let Some(id) = self.numbers.get(&key)
            && !self.is_top(*id)
            && let Some(node) = self.all.get_mut(id)
        {
            (node.parent, node.name) = (parent, name.into());
        }
    }

    /// The inode's number as the guest sees it: the host's, with a mark for all file systems but the first.
    pub(crate) fn inode(&mut self, identity: &Identity) -> u64 {
        let index = self.devices.iter().position(|device| *device == identity.device).unwrap_or_else(|| {
            // Whoever mounts more than this sees doubles.
            if self.devices.len() < 0xffff {
                self.devices.push(identity.device);
            }
            self.devices.len() - 1
        });
        identity.inode ^ (index as u64) << 48
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}
