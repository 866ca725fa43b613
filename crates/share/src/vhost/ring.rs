//! One virtqueue: where it lies, the eventfds at its ends, and the requests on it.

use std::fs::File;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use dhow_vhost::{Call, Log, Memory};
use vhost::vhost_user::{Error as Protocol, Result};
use virtio_queue::{Queue, QueueOwnedT as _, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::fs::{Answer, Answered, IN_HEADER, MAX_REQUEST, OUT_HEADER, Server};

/// Entries that a ring may have.
pub(super) const SIZE: u16 = 1024;

/// What the guest did wrong with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the ring lies outside of the guest's memory")]
    Place,
    #[error("the ring's index moved by more than its size, or cannot be read")]
    Index,
    #[error("a chain of descriptors loops, is cut short, or mixes what is read and what is written")]
    Chain,
    #[error("a request that is shorter than its header or longer than any may be")]
    Request,
    #[error("no room for the answer")]
    Room,
    #[error("a buffer lies outside of the guest's memory")]
    Buffer,
}

/// Where the three parts of a ring lie in the hypervisor's process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

pub(super) struct Ring {
    pub(super) queue: Queue,
    parts: Option<Parts>,
    pub(super) kick: Option<Rc<File>>,
    pub(super) call: Call,
    pub(super) enabled: bool,
    broken: bool,
    pub(super) log: Option<Rc<Log>>,
    /// Where the answer goes, of the chain that was looked at last.
    room: Vec<(GuestAddress, usize)>,
}

/// What requests are read to and answers are made in; kept for its memory.
pub(super) struct Scratch {
    request: Box<[u8]>,
    answer: Answer,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch { request: vec![0; MAX_REQUEST].into(), answer: Answer::new() }
    }
}

impl Ring {
    pub(super) fn new() -> Ring {
        // The only error is a size that is no power of two.
        let queue = Queue::new(SIZE).unwrap_or_default();
        Ring {
            queue,
            parts: None,
            kick: None,
            call: Call::default(),
            enabled: true,
            broken: false,
            log: None,
            room: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(queue: Queue) -> Ring {
        Ring { queue, ..Ring::new() }
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
        self.kick = Some(Rc::new(kick));
        self.broken = false;
        self.call.restarted();
        self.queue.set_ready(true);
        // Every request is answered before the next message of the hypervisor's is read, so the ring itself is the truth.
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

    pub(super) fn runs(&self) -> bool {
        self.kick.is_some() && self.enabled && self.parts.is_some() && !self.broken
    }

    /// The ring stands still until it is started again.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
    }

    /// Answers up to `turn` requests. False: there are no more.
    pub(super) fn work(
        &mut self,
        memory: &GuestMemoryMmap,
        server: &mut Server,
        scratch: &mut Scratch,
        turn: usize,
    ) -> std::result::Result<bool, Broken> {
        if !self.queue.is_valid(memory) {
            return Err(Broken::Place);
        }
        for _ in 0..turn {
            let Some((head, length)) = self.take(memory, &mut scratch.request)? else {
                let more = self.queue.enable_notification(memory).map_err(|_| Broken::Place)?;
                self.note_used();
                if more {
                    continue;
                }
                return Ok(false);
            };
            let written = match server.handle(&scratch.request[..length], &mut scratch.answer) {
                Answered::Yes => self.give(memory, &mut scratch.answer)?,
                Answered::Never => 0,
            };
            let written = u32::try_from(written).map_err(|_| Broken::Room)?;
            self.queue.add_used(memory, head, written).map_err(|_| Broken::Index)?;
            self.note_used();
            self.notify(memory)?;
        }
        Ok(true)
    }

    /// Copies the next request out of the guest's memory, once, so that nothing that the guest does can change it. Answers its
    /// chain and its length; where the answer goes stands in `room` then.
    fn take(
        &mut self,
        memory: &GuestMemoryMmap,
        request: &mut [u8],
    ) -> std::result::Result<Option<(u16, usize)>, Broken> {
        let mut chains = self.queue.iter(memory).map_err(|_| Broken::Index)?;
        let Some(chain) = chains.next() else { return Ok(None) };
        let head = chain.head_index();
        self.room.clear();
        let (mut length, mut ended) = (0, false);
        for descriptor in chain {
            let size = descriptor.len() as usize;
            if descriptor.is_write_only() {
                self.room.push((descriptor.addr(), size));
            } else if self.room.is_empty() {
                let part = request.get_mut(length..length + size).ok_or(Broken::Request)?;
                memory.read_slice(part, descriptor.addr()).map_err(|_| Broken::Buffer)?;
                length += size;
            } else {
                return Err(Broken::Chain);
            }
            ended = !descriptor.has_next();
        }
        // The iterator ends early at whatever is wrong.
        if !ended {
            return Err(Broken::Chain);
        }
        if length < IN_HEADER { Err(Broken::Request) } else { Ok(Some((head, length))) }
    }

    /// Writes the answer to where the guest wants it; one that does not fit becomes an error.
    fn give(&self, memory: &GuestMemoryMmap, answer: &mut Answer) -> std::result::Result<usize, Broken> {
        let room: usize = self.room.iter().map(|(_, size)| size).sum();
        if room < OUT_HEADER {
            return Err(Broken::Room);
        }
        if answer.whole().len() > room {
            answer.refuse();
        }
        let mut rest = answer.whole();
        for (address, size) in &self.room {
            let (now, later) = rest.split_at(rest.len().min(*size));
            memory.write_slice(now, *address).map_err(|_| Broken::Buffer)?;
            self.note(*address, now.len());
            rest = later;
        }
        Ok(answer.whole().len())
    }

    fn notify(&mut self, memory: &GuestMemoryMmap) -> std::result::Result<(), Broken> {
        let needed = self.queue.needs_notification(memory).map_err(|_| Broken::Place)?;
        self.call.notify(needed);
        Ok(())
    }

    fn note(&self, address: GuestAddress, length: usize) {
        if let Some(log) = &self.log {
            log.wrote(address, length);
        }
    }

    /// The part of the ring that is ours: two words, an entry of eight bytes for each chain, a word.
    fn note_used(&self) {
        self.note(GuestAddress(self.queue.used_ring()), 6 + 8 * usize::from(self.queue.size()));
    }
}
