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
/// The part of a mode that is the file's type, and a directory's.
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;

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
    /// `S_IFREG` and the like, as the guest sees it.
    pub(crate) kind: u32,
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
    /// By where it was seen last.
    places: HashMap<(u64, Rc<[u8]>), u64>,
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
            places: HashMap::new(),
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
                kind: 0o040_000,
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
            node.kind = seen.mode() & KIND;
            self.place(id, parent, name);
            return Ok(id);
        }
        self.add(share, identity, seen.mode() & KIND, parent, name)
    }

    /// Something that is not there, and that the guest shall believe to be there for a moment.
    pub(crate) fn stand_in(
        &mut self,
        share: usize,
        parent: u64,
        name: &[u8],
        kind: u32,
    ) -> Result<u64, Errno> {
        let nowhere = Identity { device: u64::MAX, inode: self.next, born: (0, 0) };
        self.add(share, nowhere, kind, parent, name)
    }

    fn add(
        &mut self,
        share: usize,
        identity: Identity,
        kind: u32,
        parent: u64,
        name: &[u8],
    ) -> Result<u64, Errno> {
        if self.all.len() >= MOST {
            return Err(Errno::NFILE);
        }
        let id = self.next;
        self.next += 1;
        self.numbers.insert((share, identity.device, identity.inode), id);
        let name: Rc<[u8]> = name.into();
        let node = Node {
            share,
            identity,
            is_dir: kind == DIRECTORY,
            kind,
            parent,
            name: Rc::clone(&name),
            lookups: 1,
            opens: 0,
            held: None,
            recent: Cell::new(false),
        };
        self.all.insert(id, node);
        self.places.insert((parent, name), id);
        Ok(id)
    }

    /// The file that the guest knows at this entry.
    pub(crate) fn at(&self, parent: u64, name: &[u8]) -> Option<u64> {
        self.places.get(&(parent, Rc::from(name))).copied()
    }

    /// The number of a file that the guest knows.
    pub(crate) fn known(&self, share: usize, identity: &Identity) -> Option<u64> {
        let id = self.numbers.get(&(share, identity.device, identity.inode))?;
        self.all.get(id).filter(|node| node.identity == *identity).map(|_| *id)
    }

    /// The guest was told of it once more.
    pub(crate) fn told_again(&mut self, id: u64) -> Result<(), Errno> {
        self.all.get_mut(&id).ok_or(Errno::STALE)?.lookups += 1;
        Ok(())
    }

    /// Where it was seen.
    fn place(&mut self, id: u64, parent: u64, name: &[u8]) {
        if self.is_top(id) {
            return;
        }
        let Some(node) = self.all.get_mut(&id) else { return };
        if node.parent == parent && *node.name == *name {
            return;
        }
        let name: Rc<[u8]> = name.into();
        let before = (
            std::mem::replace(&mut node.parent, parent),
            std::mem::replace(&mut node.name, Rc::clone(&name)),
        );
        if self.places.get(&before) == Some(&id) {
            self.places.remove(&before);
        }
        self.places.insert((parent, name), id);
    }

    /// The guest forgets.
    ///
    /// True: it was a directory, and is not known any more.
    pub(crate) fn forget(&mut self, id: u64, count: u64) -> bool {
        let Some(node) = self.all.get_mut(&id) else { return false };
        node.lookups = node.lookups.saturating_sub(count);
        self.drop_unused(id)
    }

    fn drop_unused(&mut self, id: u64) -> bool {
        if self.is_top(id) {
            return false;
        }
        let Entry::Occupied(entry) = self.all.entry(id) else { return false };
        if entry.get().lookups > 0 || entry.get().opens > 0 {
            return false;
        }
        let Node { share, identity, parent, name, is_dir, .. } = entry.remove();
        let key = (share, identity.device, identity.inode);
        if self.numbers.get(&key) == Some(&id) {
            self.numbers.remove(&key);
        }
        let place = (parent, name);
        if self.places.get(&place) == Some(&id) {
            self.places.remove(&place);
        }
        is_dir
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
    pub(crate) fn closed(&mut self, id: u64) -> bool {
        let Some(node) = self.all.get_mut(&id) else { return false };
        node.opens = node.opens.saturating_sub(1);
        if node.opens == 0 && !node.is_dir {
            node.held = None;
        }
        self.drop_unused(id)
    }

    /// The guest gave it another name or another directory.
    pub(crate) fn moved(&mut self, share: usize, identity: &Identity, parent: u64, name: &[u8]) {
        if let Some(id) = self.numbers.get(&(share, identity.device, identity.inode)).copied() {
            self.place(id, parent, name);
        }
    }

    /// The inode's number of a file that the guest knows.
    pub(crate) fn inode_of(&mut self, id: u64) -> Result<u64, Errno> {
        let identity = self.get(id)?.identity;
        Ok(self.inode(&identity))
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

    /// What a process that goes on with this must know.
    pub(super) fn each(&self) -> impl Iterator<Item = (u64, Restored)> {
        self.all.iter().map(|(id, node)| {
            let Node { share, identity, kind, parent, lookups, .. } = *node;
            (*id, Restored { share, identity, kind, parent, name: Rc::clone(&node.name), lookups })
        })
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    pub(super) fn devices(&self) -> &[u64] {
        &self.devices
    }

    pub(super) fn shares(&self) -> usize {
        self.shares
    }

    pub(super) fn go_on_from(&mut self, next: u64, devices: Vec<u64>) {
        self.next = next.max(self.next);
        self.devices = devices;
    }

    /// A file that the guest knew: a share's top, which is there, or another, which is not.
    pub(super) fn put_back(&mut self, id: u64, known: Restored) -> Result<(), Errno> {
        let Restored { share, identity, kind, parent, name, lookups } = known;
        if self.is_top(id) {
            let top = self.all.get_mut(&id).filter(|top| top.identity == identity).ok_or(Errno::INVAL)?;
            top.lookups = lookups;
            return Ok(());
        }
        if self.all.len() >= MOST || self.all.contains_key(&id) {
            return Err(Errno::INVAL);
        }
        self.numbers.insert((share, identity.device, identity.inode), id);
        self.places.insert((parent, Rc::clone(&name)), id);
        let is_dir = kind == DIRECTORY;
        let (opens, held, recent) = (0, None, Cell::new(false));
        self.all
            .insert(id, Node { share, identity, is_dir, kind, parent, name, lookups, opens, held, recent });
        Ok(())
    }

    /// The guest has it open, and it is not there any more.
    pub(super) fn opened_stale(&mut self, id: u64) {
        if let Some(node) = self.all.get_mut(&id) {
            node.opens = node.opens.saturating_add(1);
        }
    }

    /// The directories that the guest knows: number, share and place.
    pub(super) fn dirs(&self) -> Vec<(u64, usize, u64, Rc<[u8]>)> {
        let dirs = self.all.iter().filter(|(_, node)| node.is_dir);
        dirs.map(|(id, node)| (*id, node.share, node.parent, Rc::clone(&node.name))).collect()
    }
}

/// A file that the guest knows, as it is kept over a sleep.
pub(super) struct Restored {
    pub(super) share: usize,
    pub(super) identity: Identity,
    pub(super) kind: u32,
    pub(super) parent: u64,
    pub(super) name: Rc<[u8]>,
    pub(super) lookups: u64,
}
