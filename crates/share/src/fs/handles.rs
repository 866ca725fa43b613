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
    next: u64,
    room: usize,
}

impl Handles {
    pub(super) fn new(room: usize) -> Handles {
        Handles { all: HashMap::new(), next: 1, room }
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
        self.all.get(&id).filter(|handle| handle.node == node && !handle.is_dir).ok_or(Errno::BADF)
    }

    /// The open directory `id` of `node`.
    pub(super) fn dir(&mut self, node: u64, id: u64) -> Result<&mut Handle, Errno> {
        self.all.get_mut(&id).filter(|handle| handle.node == node && handle.is_dir).ok_or(Errno::BADF)
    }

    pub(super) fn remove(&mut self, node: u64, id: u64) -> Result<(), Errno> {
        match self.all.get(&id) {
            Some(handle) if handle.node == node => {
                self.all.remove(&id);
                Ok(())
            }
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
