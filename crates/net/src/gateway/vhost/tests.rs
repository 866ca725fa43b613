//! Rings as a hostile guest writes them.

mod sleep;

use std::sync::Arc;

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::ring::{Broken, Ring};
use super::{receive, transmit};
use crate::gateway::counters::{Counters, Reason};
use crate::gateway::offload::HEADER;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Where buffers lie; the ring itself lies at 0.
const BUFFERS: u64 = 0x10_0000;
const MEMORY: usize = 0x40_0000;

fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, length, flags, next))
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
}

/// A ring of 16 whose guest has made these chains available.
fn ring(memory: &GuestMemoryMmap, descriptors: &[RawDescriptor]) -> Ring {
    let mock = MockSplitQueue::new(memory, 16);
    mock.add_desc_chains(descriptors, 0).unwrap();
    Ring::for_test(mock.create_queue::<Queue>().unwrap())
}

/// What a turn of the guest's sending ring takes.
fn sent(memory: &GuestMemoryMmap, ring: &mut Ring) -> Result<Vec<Vec<u8>>, Broken> {
    turn(memory, ring, false).map(|(frames, _)| frames)
}

/// The same, and whether to take another turn at once.
fn turn(memory: &GuestMemoryMmap, ring: &mut Ring, looks: bool) -> Result<(Vec<Vec<u8>>, bool), Broken> {
    let mut buffer = vec![0; HEADER + 14 + 0xffff];
    let mut frames = Vec::new();
    let mut take = |frame: &[u8]| frames.push(frame.to_vec());
    let more = transmit::drain(ring, memory, &mut buffer, looks, &mut take, &Counters::default())?;
    Ok((frames, more))
}

/// The frame after which the guest is to tell of the next one (virtio 1.2, 2.7.10).
fn told_after(memory: &GuestMemoryMmap, ring: &Ring) -> u16 {
    let place = ring.queue.used_ring() + 4 + 8 * u64::from(ring.queue.size());
    memory.read_obj(GuestAddress(place)).unwrap()
}

/// Issue 3: "round trip not above QEMU's". To tell costs the guest an exit.
#[test]
fn while_the_next_frame_is_looked_for_the_guest_need_not_tell_of_it() {
    let memory = memory();
    memory.write_slice(&[7; HEADER + 60], GuestAddress(0x4000)).unwrap();
    let frame = [descriptor(0x4000, HEADER as u32 + 60, 0, 0)];
    let mut ring = ring(&memory, &frame);
    ring.queue.set_event_idx(true);
    let (frames, more) = turn(&memory, &mut ring, true).unwrap();
    assert_eq!((frames.len(), more, told_after(&memory, &ring)), (1, true, 0));
    let (frames, more) = turn(&memory, &mut ring, true).unwrap();
    assert_eq!((frames.len(), more, told_after(&memory, &ring)), (0, true, 0));
    // When that has come to its end, the guest is asked to tell.
    let (frames, more) = turn(&memory, &mut ring, false).unwrap();
    assert_eq!((frames.len(), more, told_after(&memory, &ring)), (0, false, 1));
}

/// Spec 13.2: what a guest is told without asking, around its sleep, is not told all at once.
#[test]
fn looking_for_a_frame_that_does_not_come_tells_the_guest_nothing() {
    let memory = memory();
    let mut ring = ring(&memory, &[]);
    let call = std::fs::File::from(rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap());
    ring.call.set(Some(call.try_clone().unwrap())).unwrap();
    ring.call.restarted();
    turn(&memory, &mut ring, true).unwrap();
    assert_eq!(rustix::io::read(&call, &mut [0; 8]), Err(rustix::io::Errno::AGAIN));
    turn(&memory, &mut ring, false).unwrap();
    assert_eq!(rustix::io::read(&call, &mut [0; 8]), Ok(8));
}

/// Offers frames to the guest's receiving ring: whether all were taken, and what is left.
fn received(
    memory: &GuestMemoryMmap,
    ring: &mut Ring,
    frames: &[&[u8]],
) -> (Result<bool, Broken>, usize, Arc<Counters>) {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(frame);
    }
    let counters = Arc::new(Counters::default());
    let mut rest = bytes.as_mut_slice();
    let result = receive::fill(ring, memory, &mut rest, true, &counters);
    (result, rest.len(), counters)
}

#[test]
fn a_frame_over_several_pieces_comes_whole() {
    let memory = memory();
    let frame: Vec<u8> = (0..100).collect();
    let bytes = [&[0; HEADER][..], &frame].concat();
    memory.write_slice(&bytes[..50], GuestAddress(BUFFERS)).unwrap();
    memory.write_slice(&bytes[50..], GuestAddress(BUFFERS + 0x1000)).unwrap();
    let rest = u32::try_from(bytes.len() - 50).unwrap();
    let mut ring =
        ring(&memory, &[descriptor(BUFFERS, 50, NEXT, 1), descriptor(BUFFERS + 0x1000, rest, 0, 0)]);
    assert_eq!(sent(&memory, &mut ring), Ok(vec![frame]));
    assert_eq!((ring.queue.next_avail(), ring.queue.next_used()), (1, 1));
}

#[test]
fn a_frame_from_an_indirect_table_comes_whole() {
    let memory = memory();
    memory.write_slice(&[7; 80], GuestAddress(BUFFERS)).unwrap();
    let table = BUFFERS + 0x2000;
    memory.write_obj(descriptor(BUFFERS, 40, NEXT, 1), GuestAddress(table)).unwrap();
    memory.write_obj(descriptor(BUFFERS + 40, 40, 0, 0), GuestAddress(table + 16)).unwrap();
    let mut ring = ring(&memory, &[descriptor(table, 32, INDIRECT, 0)]);
    assert_eq!(sent(&memory, &mut ring), Ok(vec![vec![7; 80 - HEADER]]));
}

/// Issue 3: a hostile guest "cannot exhaust or crash it".
#[test]
fn what_makes_no_sense_on_the_sending_ring_breaks_it() {
    let table = BUFFERS + 0x2000;
    let cases: [(&str, Vec<RawDescriptor>, Broken); 9] = [
        ("a loop", vec![descriptor(BUFFERS, 60, NEXT, 0)], Broken::Chain),
        ("a next that does not exist", vec![descriptor(BUFFERS, 60, NEXT, 16)], Broken::Chain),
        ("no length", vec![descriptor(BUFFERS, 0, 0, 0)], Broken::Descriptor),
        ("a buffer to write into", vec![descriptor(BUFFERS, 60, WRITE, 0)], Broken::Descriptor),
        ("outside of memory", vec![descriptor(MEMORY as u64 - 1, 60, 0, 0)], Broken::Buffer),
        ("around the end of addresses", vec![descriptor(u64::MAX - 4, 60, 0, 0)], Broken::Buffer),
        ("more than a frame", vec![descriptor(BUFFERS, 0x2_0000, 0, 0)], Broken::Size),
        ("a table in a table", vec![descriptor(table, 16, INDIRECT, 0)], Broken::Chain),
        ("a table outside of memory", vec![descriptor(MEMORY as u64, 16, INDIRECT, 0)], Broken::Chain),
    ];
    for (name, descriptors, broken) in cases {
        let memory = memory();
        memory.write_obj(descriptor(table, 16, INDIRECT, 0), GuestAddress(table)).unwrap();
        assert_eq!(sent(&memory, &mut ring(&memory, &descriptors)), Err(broken), "{name}");
    }
}

#[test]
fn a_chain_of_more_pieces_than_a_frame_needs_breaks_the_ring() {
    let memory = memory();
    let table = BUFFERS + 0x2000;
    for index in 0..300_u16 {
        let piece = descriptor(BUFFERS, 1, NEXT, index + 1);
        memory.write_obj(piece, GuestAddress(table + u64::from(index) * 16)).unwrap();
    }
    let mut ring = ring(&memory, &[descriptor(table, 301 * 16, INDIRECT, 0)]);
    assert_eq!(sent(&memory, &mut ring), Err(Broken::Chain));
}

#[test]
fn an_index_that_moves_by_more_than_the_ring_breaks_it() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let mut ring = Ring::for_test(mock.create_queue::<Queue>().unwrap());
    mock.avail().idx().store(17);
    assert_eq!(sent(&memory, &mut ring), Err(Broken::Index));
}

#[test]
fn a_ring_outside_of_memory_is_told() {
    let memory = memory();
    let mut ring = ring(&memory, &[]);
    assert_eq!(ring.check(&memory), Ok(()));
    ring.queue.set_used_ring_address(Some(MEMORY as u32 - 16), None);
    assert_eq!(ring.check(&memory), Err(Broken::Place));
}

#[test]
fn a_frame_too_short_for_its_headers_is_dropped_and_the_ring_goes_on() {
    let memory = memory();
    let mut ring = ring(
        &memory,
        &[descriptor(BUFFERS, 4, 0, 0), descriptor(BUFFERS, 20, 0, 0), descriptor(BUFFERS, 60, 0, 0)],
    );
    assert_eq!(sent(&memory, &mut ring), Ok(vec![vec![0; 60 - HEADER]]));
    assert_eq!(ring.queue.next_used(), 3);
}

#[test]
fn frames_wait_until_the_guest_offers_buffers() {
    let memory = memory();
    let mut ring = ring(&memory, &[descriptor(BUFFERS, 0x1000, WRITE, 0)]);
    let (first, second) = ([1; 60], [2; 80]);
    let (result, left, _) = received(&memory, &mut ring, &[&first, &second]);
    assert_eq!((result, left), (Ok(false), 4 + 80));
    let mut got = [0; HEADER + 60];
    memory.read_slice(&mut got, GuestAddress(BUFFERS)).unwrap();
    assert_eq!((&got[HEADER..], got[10]), (&first[..], 1));
}

#[test]
fn a_frame_is_spread_over_the_pieces_of_a_buffer() {
    let memory = memory();
    let pieces = [
        descriptor(BUFFERS, 5, WRITE | NEXT, 1),
        descriptor(BUFFERS + 0x100, 20, WRITE | NEXT, 2),
        descriptor(BUFFERS + 0x200, 100, WRITE, 0),
    ];
    let mut ring = ring(&memory, &pieces);
    let frame: Vec<u8> = (0..60).collect();
    assert_eq!(received(&memory, &mut ring, &[&frame]).0, Ok(true));
    let mut got = Vec::new();
    for (offset, length) in [(0, 5), (0x100, 20), (0x200, HEADER + 60 - 25)] {
        let mut piece = vec![0; length];
        memory.read_slice(&mut piece, GuestAddress(BUFFERS + offset)).unwrap();
        got.extend(piece);
    }
    assert_eq!(got[HEADER..], frame);
}

#[test]
fn a_buffer_too_small_for_a_frame_costs_the_frame() {
    let memory = memory();
    let mut ring = ring(&memory, &[descriptor(BUFFERS, 40, WRITE, 0)]);
    let (result, left, counters) = received(&memory, &mut ring, &[&[0; 60]]);
    assert_eq!((result, left, counters.drops(Reason::TooBig)), (Ok(true), 0, 1));
}

/// How often the guest was told.
fn notifications(call: &std::fs::File) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(call, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(_) => 0,
    }
}

/// Issue 3, the round trip: each notification is an interrupt, the dearest thing of an emulated guest.
#[test]
fn small_frames_cost_one_notification_together_and_large_ones_one_each() {
    use rustix::event::{EventfdFlags, eventfd};
    for (size, count, expected) in [(60, 1, 1), (60, 10, 1), (40_000, 3, 3), (20_000, 4, 2)] {
        let memory = memory();
        let buffers: Vec<_> =
            (0..16).map(|n| descriptor(BUFFERS + n * 0x1_0000, 0x1_0000, WRITE, 0)).collect();
        let mut ring = ring(&memory, &buffers);
        let call = std::fs::File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        ring.call.set(Some(call.try_clone().unwrap())).unwrap();
        let frame = vec![1; size];
        let frames = vec![&frame[..]; count];
        assert_eq!(received(&memory, &mut ring, &frames).0, Ok(true));
        assert_eq!(notifications(&call), expected, "{count} frames of {size} bytes");
    }
}

/// What fits is told before more buffers are waited for, or both would wait for each other.
#[test]
fn a_guest_without_buffers_is_told_of_what_it_has() {
    use rustix::event::{EventfdFlags, eventfd};
    let memory = memory();
    let mut ring = ring(&memory, &[descriptor(BUFFERS, 0x1000, WRITE, 0)]);
    let call = std::fs::File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
    ring.call.set(Some(call.try_clone().unwrap())).unwrap();
    assert_eq!(received(&memory, &mut ring, &[&[1; 60], &[2; 60]]).0, Ok(false));
    assert_eq!(notifications(&call), 1);
}

/// Issue 3: a hostile guest "cannot exhaust or crash it".
#[test]
fn what_makes_no_sense_on_the_receiving_ring_breaks_it() {
    for (name, piece, broken) in [
        ("a buffer to read", descriptor(BUFFERS, 0x1000, 0, 0), Broken::Descriptor),
        ("outside of memory", descriptor(MEMORY as u64 - 8, 0x1000, WRITE, 0), Broken::Buffer),
        ("around the end of addresses", descriptor(u64::MAX - 4, 0x1000, WRITE, 0), Broken::Buffer),
        ("a loop", descriptor(BUFFERS, 0x1000, WRITE | NEXT, 0), Broken::Chain),
    ] {
        let memory = memory();
        let mut ring = ring(&memory, &[piece]);
        assert_eq!(received(&memory, &mut ring, &[&[0; 60]]).0, Err(broken), "{name}");
    }
}

proptest::proptest! {
    /// Issue 3: a hostile guest "cannot exhaust or crash it".
    #[test]
    fn no_ring_is_a_panic(words in proptest::collection::vec((0_u64..0x50_0000, 0_u32..0x2000, 0_u16..8, 0_u16..20), 1..16), direction: bool) {
        let memory = memory();
        let descriptors: Vec<_> = words.into_iter().map(|(address, length, flags, next)| descriptor(address, length, flags, next)).collect();
        let mut ring = ring(&memory, &descriptors);
        if direction {
            let frame = [0; 1000];
            drop(received(&memory, &mut ring, &[&frame[..]; 20]));
        } else {
            drop(sent(&memory, &mut ring));
        }
    }
}
