//! The queue of frames to the guest. Everything that talks to the guest writes its packets straight into the bytes that
//! the link's writer hands to the hypervisor: one copy, large writes, and a bound that flows feel as back-pressure.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use dhow_model::network;
use tokio::sync::Notify;

use super::clock::Clock;
use super::counters::{Counters, Reason};

/// Length of an Ethernet header, bytes.
pub(crate) const ETHERNET: usize = 14;
/// Length of what stands before each frame on the hypervisor's stream, bytes.
pub(crate) const PREFIX: usize = 4;
/// The largest packet, bytes.
pub(crate) const MTU: usize = network::MTU as usize;
/// The largest frame, bytes.
pub(crate) const FRAME: usize = ETHERNET + MTU;

/// How many bytes wait for the guest at most, beside those that are being written.
const LIMIT: usize = 1 << 20;
/// Flows stop before this, so that there is room for what cannot wait: answers, resets, datagrams.
const FLOWS_LIMIT: usize = LIMIT - 4 * (PREFIX + FRAME);

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Frames to the guest. A clone is the same queue.
#[derive(Clone)]
pub(crate) struct Outbound(Rc<Queue>);

struct Queue {
    filling: RefCell<Buffer>,
    /// Whether a hypervisor is connected.
    linked: Cell<bool>,
    /// What the writer has taken is for a guest that is no more.
    stale: Cell<bool>,
    filled: Notify,
    room: Notify,
    counters: Arc<Counters>,
    clock: Clock,
}

/// Bytes of which the first `length` count. All of them are initialised once, so that a packet's room costs nothing.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer { bytes: vec![0; LIMIT].into_boxed_slice(), length: 0 }
    }
}

/// Frames, each behind its length, that the link's writer has taken and not given to the hypervisor yet. They outlive the
/// hypervisor while the gateway is frozen.
#[derive(Debug)]
pub(crate) struct Taken {
    buffer: Buffer,
    /// Where the first of them begins.
    start: usize,
}

impl Taken {
    pub(crate) fn new() -> Taken {
        Taken { buffer: Buffer::new(), start: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.buffer.length
    }

    /// All of them.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer.bytes[self.start..self.buffer.length]
    }

    /// Lets the hypervisor have the first frames: as many as `give` cuts off the front.
    #[cfg(target_os = "linux")]
    pub(crate) fn give<R>(&mut self, give: impl FnOnce(&mut &mut [u8]) -> R) -> R {
        let mut rest = &mut self.buffer.bytes[self.start..self.buffer.length];
        let result = give(&mut rest);
        self.start = self.buffer.length - rest.len();
        result
    }

    /// The hypervisor has so many bytes, of which the frames that are whole are done with: the bytes of those.
    pub(crate) fn pass(&mut self, bytes: usize) -> usize {
        let mut passed = 0;
        while let Some((prefix, _)) = self.rest()[passed..].split_first_chunk::<PREFIX>() {
            let end = passed + PREFIX + u32::from_be_bytes(*prefix) as usize;
            if end > bytes {
                break;
            }
            passed = end;
        }
        self.start += passed;
        passed
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.buffer.length) = (0, 0);
    }
}

impl Outbound {
    pub(crate) fn new(counters: Arc<Counters>, clock: Clock) -> Outbound {
        Outbound(Rc::new(Queue {
            filling: RefCell::new(Buffer::new()),
            linked: Cell::new(false),
            stale: Cell::new(false),
            filled: Notify::new(),
            room: Notify::new(),
            counters,
            clock,
        }))
    }

    /// The guest's time.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Queues an IP packet of `length` bytes, 20 to the MTU, that `write` fills in whole; the family is read from its first
    /// nibble. False: there was no room or no link, which is counted as a drop, and `write` was not called.
    pub(crate) fn packet(&self, length: usize, write: impl FnOnce(&mut [u8])) -> bool {
        self.try_packet(length, write).is_ok()
    }

    /// Like [`Self::packet`], with what `write` answers, or `write` itself where that says false.
    pub(crate) fn try_packet<R, F: FnOnce(&mut [u8]) -> R>(&self, length: usize, write: F) -> Result<R, F> {
        if !(20..=MTU).contains(&length) {
            self.0.counters.count(Reason::TooBig);
            return Err(write);
        }
        self.push(ETHERNET + length, write, |frame, write| {
            let (header, packet) = frame.split_at_mut(ETHERNET);
            let result = write(packet);
            header[..6].copy_from_slice(&network::GUEST_MAC);
            header[6..12].copy_from_slice(&network::GATEWAY_MAC);
            header[12..].copy_from_slice(if packet[0] >> 4 == 6 { &IPV6 } else { &IPV4 });
            result
        })
    }

    /// Queues a whole Ethernet frame. False as for [`Self::packet`].
    pub(crate) fn frame(&self, frame: &[u8]) -> bool {
        if !(ETHERNET..=FRAME).contains(&frame.len()) {
            self.0.counters.count(Reason::TooBig);
            return false;
        }
        self.push(frame.len(), (), |room, ()| room.copy_from_slice(frame)).is_ok()
    }

    /// Whether a flow may queue one more packet of full size. Datagrams need not ask. There is none while the guest sleeps.
    pub(crate) fn has_room(&self) -> bool {
        !self.0.clock.frozen() && self.0.filling.borrow().length + PREFIX + FRAME <= FLOWS_LIMIT
    }

    /// Waits for one's turn to queue more, after [`Self::has_room`] said no. First come, first served; who was served
    /// says so with [`Self::pass_on`].
    pub(crate) async fn room(&self) {
        self.0.room.notified().await;
    }

    /// Lets the next that waits for room try, if there is still some.
    pub(crate) fn pass_on(&self) {
        if self.has_room() {
            self.0.room.notify_one();
        }
    }

    /// Makes room for a frame and fills it with `write(room, with)`; `with` comes back where there is no room.
    fn push<R, W>(&self, length: usize, with: W, write: impl FnOnce(&mut [u8], W) -> R) -> Result<R, W> {
        if !self.0.linked.get() && !self.0.clock.frozen() {
            self.0.counters.count(Reason::NoLink);
            return Err(with);
        }
        let mut filling = self.0.filling.borrow_mut();
        let start = filling.length;
        let end = start + PREFIX + length;
        if end > filling.bytes.len() {
            self.0.counters.count(Reason::QueueFull);
            return Err(with);
        }
        let room = &mut filling.bytes[start..end];
        // A frame is shorter than 2^32 bytes: both callers checked.
        room[..PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
        let result = write(&mut room[PREFIX..], with);
        filling.length = end;
        drop(filling);
        self.0.counters.send(length);
        if start == 0 {
            self.0.filled.notify_one();
        }
        Ok(result)
    }

    /// The writer's side: waits until there is something for a guest that is awake, and takes all that is queued where
    /// everything that was taken before has been given.
    pub(crate) async fn take(&self, taken: &mut Taken) {
        loop {
            self.0.clock.awake().await;
            if !taken.is_empty() {
                return;
            }
            if self.0.filling.borrow().length > 0 {
                break;
            }
            self.0.filled.notified().await;
        }
        taken.clear();
        std::mem::swap(&mut *self.0.filling.borrow_mut(), &mut taken.buffer);
        self.0.room.notify_one();
    }

    /// The guest that sleeps will not wake: what waits for it is not for the next one.
    pub(crate) fn forget(&self) {
        self.0.filling.borrow_mut().length = 0;
        self.0.stale.set(true);
    }

    /// Whether that was said since the last time.
    pub(crate) fn was_forgotten(&self) -> bool {
        self.0.stale.take()
    }

    /// Says whether a hypervisor is connected. Without one, what is queued is discarded and nothing is taken, unless the guest
    /// sleeps.
    pub(crate) fn set_linked(&self, linked: bool) {
        self.0.linked.set(linked);
        if !self.0.clock.frozen() {
            self.0.filling.borrow_mut().length = 0;
        }
    }
}

#[cfg(test)]
impl Outbound {
    /// A queue with a link that nobody drains.
    pub(crate) fn for_test() -> (Outbound, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let outbound = Outbound::new(counters.clone(), Clock::for_test());
        outbound.set_linked(true);
        (outbound, counters)
    }

    /// Every frame that was queued, in order, and empties the queue.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        let mut filling = self.0.filling.borrow_mut();
        let mut frames = Vec::new();
        let mut rest = &filling.bytes[..filling.length];
        while let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() {
            let (frame, after) = after.split_at(u32::from_be_bytes(*prefix) as usize);
            frames.push(frame.to_vec());
            rest = after;
        }
        filling.length = 0;
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_gets_its_ethernet_header_and_length() {
        let (outbound, _) = Outbound::for_test();
        assert!(outbound.packet(40, |packet| packet.fill(0x60)));
        assert_eq!(outbound.0.filling.borrow().bytes[..PREFIX], [0, 0, 0, 54]);
        let frames = outbound.frames();
        assert_eq!(frames[0][..6], network::GUEST_MAC);
        assert_eq!((frames[0].len(), &frames[0][12..15]), (54, &[0x86, 0xdd, 0x60][..]));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (outbound, counters) = Outbound::for_test();
        let mut queued = 0;
        while outbound.packet(MTU, |packet| packet.fill(0x45)) {
            queued += 1;
        }
        assert_eq!((queued, counters.drops(Reason::QueueFull)), (LIMIT / (PREFIX + FRAME), 1));
        assert!(!outbound.has_room());
    }

    #[test]
    fn without_a_link_nothing_is_queued() {
        let (outbound, counters) = Outbound::for_test();
        outbound.set_linked(false);
        assert!(!outbound.packet(20, |_| ()));
        assert_eq!(counters.drops(Reason::NoLink), 1);
    }

    #[tokio::test]
    async fn the_writer_takes_all_and_wakes_one_that_waits() {
        let (outbound, _) = Outbound::for_test();
        while outbound.has_room() {
            outbound.packet(MTU, |packet| packet.fill(0x45));
        }
        let mut taken = Taken::new();
        outbound.take(&mut taken).await;
        assert!(taken.rest().len() > FLOWS_LIMIT - PREFIX - FRAME);
        tokio::time::timeout(std::time::Duration::from_secs(1), outbound.room()).await.unwrap();
        assert!(outbound.has_room());
    }

    /// Spec 13.1: nothing is sent to a guest that sleeps, and what waits for it is there when it wakes, in another hypervisor.
    #[tokio::test]
    async fn what_is_queued_outlives_the_hypervisor_of_a_guest_that_sleeps() {
        let (outbound, counters) = Outbound::for_test();
        let mut taken = Taken::new();
        for byte in [0x41, 0x42] {
            assert!(outbound.packet(20, |packet| packet.fill(byte)));
        }
        outbound.take(&mut taken).await;
        let first = PREFIX + ETHERNET + 20;
        assert_eq!(taken.pass(first + 5), first, "the second frame was cut off");
        outbound.clock().freeze();
        outbound.set_linked(false);
        assert!(outbound.packet(20, |packet| packet.fill(0x43)) && !outbound.has_room());
        {
            let take = outbound.take(&mut taken);
            tokio::pin!(take);
            assert!(futures_util::poll!(take.as_mut()).is_pending());
            outbound.set_linked(true);
            outbound.clock().thaw();
            take.await;
        }
        assert_eq!((taken.rest().len(), taken.rest().last()), (first, Some(&0x42)));
        assert_eq!(taken.pass(first), first);
        outbound.take(&mut taken).await;
        assert_eq!(taken.rest().last(), Some(&0x43));
        assert_eq!(counters.metrics().drops.len(), 0);
    }
}
