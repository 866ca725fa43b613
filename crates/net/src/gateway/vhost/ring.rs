//! One virtqueue: where it lies, the eventfds at its ends, and whether it runs.

use std::fs::File;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use dhow_vhost::{Call, Log, Memory};
use tokio::net::unix::pipe;
use vhost::vhost_user::{Error as Protocol, Result};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT as _, QueueT as _};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Entries that a ring may have: what QEMU allows for a vhost-user device.
pub(super) const SIZE: u16 = 1024;
/// Descriptors that one chain may have: more than a frame of full size on pages of 4 KiB needs.
const CHAIN: usize = 256;

/// What the guest did wrong with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the ring lies outside of the guest's memory")]
    Place,
    #[error("the ring's index moved by more than its size, or cannot be read")]
    Index,
    #[error("a chain of descriptors loops, is cut short, or is too long")]
    Chain,
    #[error("a descriptor for the wrong direction, or without length")]
    Descriptor,
    #[error("a buffer lies outside of the guest's memory")]
    Buffer,
    #[error("a frame or a buffer of an impossible size")]
    Size,
}

/// Where the three parts of a ring lie in the hypervisor's process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// A piece of a guest's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) address: GuestAddress,
    pub(super) length: usize,
}

pub(super) struct Ring {
    pub(super) queue: Queue,
    parts: Option<Parts>,
    pub(super) kick: Option<Rc<pipe::Receiver>>,
    pub(super) call: Call,
    pub(super) enabled: bool,
    broken: bool,
    /// Where to note what is written, if the hypervisor wants to know.
    pub(super) log: Option<Rc<Log>>,
    /// Of the chain that was looked at last; kept for its memory.
    pub(super) pieces: Vec<Piece>,
}

impl Ring {
    /// One that is not started.
    pub(super) fn new(enabled: bool) -> Ring {
        let mut queue = Queue::default();
        // The only error is a size that is no power of two.
        if let Ok(sized) = Queue::new(SIZE) {
            queue = sized;
        }
        Ring {
            queue,
            parts: None,
            kick: None,
            call: Call::default(),
            enabled,
            broken: false,
            log: None,
            pieces: Vec::with_capacity(CHAIN),
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(queue: Queue) -> Ring {
        Ring { queue, ..Ring::new(true) }
    }

    /// Where the ring lies; takes effect at once.
    pub(super) fn place(&mut self, parts: Parts, memory: &Memory) -> Result<()> {
        let wrong = |_| Protocol::InvalidParam;
        self.queue.try_set_desc_table_address(memory.translate(parts.descriptors)?).map_err(wrong)?;
        self.queue.try_set_avail_ring_address(memory.translate(parts.available)?).map_err(wrong)?;
        self.queue.try_set_used_ring_address(memory.translate(parts.used)?).map_err(wrong)?;
        self.parts = Some(parts);
        Ok(())
    }

    /// The memory was mapped anew: the ring's addresses there.
    pub(super) fn replace(&mut self, memory: &Memory) -> Result<()> {
        self.parts.map_or(Ok(()), |parts| self.place(parts, memory))
    }

    /// Takes the eventfd that the guest's notifications come on, which starts the ring.
    pub(super) fn start(&mut self, kick: Option<File>, memory: &Memory) -> Result<()> {
        let kick = kick.ok_or(Protocol::InvalidOperation("rings are not polled"))?;
        rustix::io::ioctl_fionbio(&kick, true).map_err(|error| Protocol::ReqHandlerError(error.into()))?;
        // An eventfd is read as a pipe is.
        let kick = pipe::Receiver::from_file_unchecked(kick).map_err(Protocol::ReqHandlerError)?;
        self.kick = Some(Rc::new(kick));
        self.broken = false;
        self.call.restarted();
        self.queue.set_ready(true);
        // Nothing is ever in flight between two messages, but the ring itself is the truth after a restore.
        if let Ok(used) = self.queue.used_idx(&memory.guest, Ordering::Acquire) {
            self.queue.set_next_used(used.0);
        }
        Ok(())
    }

    /// Stops the ring and answers where it stood.
    pub(super) fn stop(&mut self) -> u16 {
        self.kick = None;
        self.queue.set_ready(false);
        self.queue.next_avail()
    }

    /// The ring stands still until it is started again.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
    }

    pub(super) fn runs(&self) -> bool {
        self.kick.is_some() && self.enabled && self.parts.is_some() && !self.broken
    }

    /// Whether all of the ring lies in the guest's memory.
    pub(super) fn check(&self, memory: &GuestMemoryMmap) -> std::result::Result<(), Broken> {
        if self.queue.is_valid(memory) { Ok(()) } else { Err(Broken::Place) }
    }

    /// The next chain that the guest made available: its index and the length of all its pieces, which stand in
    /// `pieces` then.
    pub(super) fn pop(
        &mut self,
        memory: &GuestMemoryMmap,
        writable: bool,
    ) -> std::result::Result<Option<(u16, usize)>, Broken> {
        let mut chains = self.queue.iter(memory).map_err(|_| Broken::Index)?;
        let Some(chain) = chains.next() else { return Ok(None) };
        let head = chain.head_index();
        let length = gather(chain, writable, &mut self.pieces)?;
        Ok(Some((head, length)))
    }

    /// Gives a chain back to the guest with `written` bytes in it.
    pub(super) fn finish(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        written: usize,
    ) -> std::result::Result<(), Broken> {
        let written = u32::try_from(written).map_err(|_| Broken::Size)?;
        self.queue.add_used(memory, head, written).map_err(|_| Broken::Index)?;
        self.log_used();
        Ok(())
    }

    /// Tells the guest what was given back, if it wants to know.
    pub(super) fn notify(&mut self, memory: &GuestMemoryMmap) -> std::result::Result<(), Broken> {
        let wants = self.queue.needs_notification(memory).map_err(|_| Broken::Place)?;
        self.call.notify(wants);
        Ok(())
    }

    /// Asks for a notification of the next chain. True: there is one already.
    pub(super) fn ask(&mut self, memory: &GuestMemoryMmap) -> std::result::Result<bool, Broken> {
        let more = self.queue.enable_notification(memory).map_err(|_| Broken::Place)?;
        self.log_used();
        Ok(more)
    }

    /// Notes that a buffer's bytes were written.
    pub(super) fn log(&self, address: GuestAddress, length: usize) {
        if let Some(log) = &self.log {
            log.wrote(address, length);
        }
    }

    /// Notes that the part of the ring that is ours was written: two words, an entry of eight bytes for each chain, a word.
    fn log_used(&self) {
        self.log(GuestAddress(self.queue.used_ring()), 6 + 8 * usize::from(self.queue.size()));
    }
}

/// The pieces of a chain, all for one direction; their length together.
fn gather(
    chain: DescriptorChain<&GuestMemoryMmap>,
    writable: bool,
    pieces: &mut Vec<Piece>,
) -> std::result::Result<usize, Broken> {
    pieces.clear();
    let mut total = 0_usize;
    let mut ended = false;
    for descriptor in chain {
        if descriptor.is_write_only() != writable || descriptor.len() == 0 {
            return Err(Broken::Descriptor);
        }
        if pieces.len() == CHAIN {
            return Err(Broken::Chain);
        }
        let length = descriptor.len() as usize;
        total += length;
        pieces.push(Piece { address: descriptor.addr(), length });
        ended = !descriptor.has_next();
    }
    // The iterator ends early at whatever is wrong.
    if ended { Ok(total) } else { Err(Broken::Chain) }
}
