//! What the guest has open. A handle is good for the file that it was opened for and for nothing else.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;

/// An open file or directory.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) node: u64,
    pub(super) fd: Rc<OwnedFd>,
    pub(super) is_dir: bool,
    /// Whether writes go to the end, wherever that is.
    pub(super) appends: bool,
    pub(super) writes: bool,
    /// Of a directory: where its descriptor stands, if that is known.
    pub(super) position: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Handles {
    all: HashMap<u64, Handle>,
    /// What was open before a sleep and is not there any more: the handle and its file.
    stale: HashMap<u64, u64>,
    next: u64,
    room: usize,
}

impl Handles {
    pub(super) fn new(room: usize) -> Handles {
        Handles { all: HashMap::new(), stale: HashMap::new(), next: 1, room }
    }

    /// Whether another one fits.
    pub(super) fn fits(&self) -> Result<(), Errno> {
        if self.all.len() < self.room { Ok(()) } else { Err(Errno::NFILE) }
    }

    pub(super) fn add(&mut self, handle: Handle) -> u64 {
        let id = self.next;
        self.next += 1;
        self.all.insert(id, handle);
        id
    }

    /// The open file `id` of `node`.
    pub(super) fn file(&self, node: u64, id: u64) -> Result<&Handle, Errno> {
        let handle = self.all.get(&id).filter(|handle| handle.node == node && !handle.is_dir);
        handle.ok_or_else(|| self.none(id))
    }

    /// The open directory `id` of `node`.
    pub(super) fn dir(&mut self, node: u64, id: u64) -> Result<&mut Handle, Errno> {
        let none = self.none(id);
        self.all.get_mut(&id).filter(|handle| handle.node == node && handle.is_dir).ok_or(none)
    }

    fn none(&self, id: u64) -> Errno {
        if self.stale.contains_key(&id) { Errno::STALE } else { Errno::BADF }
    }

    pub(super) fn remove(&mut self, node: u64, id: u64) -> Result<(), Errno> {
        match self.all.get(&id) {
            Some(handle) if handle.node == node => {
                self.all.remove(&id);
                Ok(())
            }
            _ if self.stale.get(&id) == Some(&node) => {
                self.stale.remove(&id);
                Ok(())
            }
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.stale.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() + self.stale.len()
    }

    /// All of them: the number, the file, and the handle unless it is stale.
    pub(super) fn each(&self) -> impl Iterator<Item = (u64, u64, Option<&Handle>)> {
        let open = self.all.iter().map(|(id, handle)| (*id, handle.node, Some(handle)));
        open.chain(self.stale.iter().map(|(id, node)| (*id, *node, None)))
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.all.contains_key(&id) || self.stale.contains_key(&id)
    }

    /// One of before a sleep.
    pub(super) fn put(&mut self, id: u64, handle: Handle) {
        self.all.insert(id, handle);
    }

    /// The same, of a file that is gone.
    pub(super) fn put_stale(&mut self, id: u64, node: u64) {
        self.stale.insert(id, node);
    }

    pub(super) fn go_on_from(&mut self, next: u64) {
        self.next = next.max(self.next);
    }
}
