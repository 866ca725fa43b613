//! Rings as a hostile guest writes them.

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::ring::{Broken, Ring, Scratch};
use crate::fs::Server;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const BUFFERS: u64 = 0x10_0000;
const MEMORY: usize = 0x40_0000;

fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, length, flags, next))
}

/// A mount's first request.
fn init() -> Vec<u8> {
    let mut bytes: Vec<u8> = [104_u32, 26].into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend([7_u32, 40, 4096, 0].into_iter().flat_map(u32::to_ne_bytes));
    bytes.resize(104, 0);
    bytes
}

/// Works on a ring whose guest has made these chains available; what the guest's memory holds then.
fn work(descriptors: &[RawDescriptor]) -> (Result<bool, Broken>, u16, GuestMemoryMmap) {
    let temp = tempfile::tempdir().unwrap();
    let mut server = Server::new([(temp.path(), true)], 1024).unwrap();
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    memory.write_slice(&init(), GuestAddress(BUFFERS)).unwrap();
    let mock = MockSplitQueue::new(&memory, 16);
    mock.add_desc_chains(descriptors, 0).unwrap();
    let mut ring = Ring::for_test(mock.create_queue::<Queue>().unwrap());
    let result = ring.work(&memory, &mut server, &mut Scratch::new(), 64);
    let used = ring.queue.next_used();
    (result, used, memory)
}

fn answer(memory: &GuestMemoryMmap) -> [u32; 5] {
    std::array::from_fn(|n| memory.read_obj(GuestAddress(BUFFERS + 0x1000 + 4 * n as u64)).unwrap())
}

#[test]
fn a_request_is_answered_where_the_guest_wants_it() {
    let (result, used, memory) =
        work(&[descriptor(BUFFERS, 104, NEXT, 1), descriptor(BUFFERS + 0x1000, 80, WRITE, 0)]);
    assert_eq!((result, used), (Ok(false), 1));
    let [length, error, .., major] = answer(&memory);
    assert_eq!((length, error, major), (80, 0, 7));
}

#[test]
fn an_answer_that_does_not_fit_becomes_an_error() {
    let (result, used, memory) =
        work(&[descriptor(BUFFERS, 104, NEXT, 1), descriptor(BUFFERS + 0x1000, 20, WRITE, 0)]);
    assert_eq!((result, used), (Ok(false), 1));
    let [length, error, ..] = answer(&memory);
    assert_eq!((length, error.cast_signed()), (16, -5));
}

/// Spec 14.3.
#[test]
fn what_makes_no_sense_on_a_ring_breaks_it() {
    let table = MEMORY as u64;
    let room = descriptor(BUFFERS + 0x1000, 80, WRITE, 0);
    let cases: [(&str, Vec<RawDescriptor>, Broken); 10] = [
        ("a loop", vec![descriptor(BUFFERS, 60, NEXT, 0)], Broken::Chain),
        ("a next that does not exist", vec![descriptor(BUFFERS, 60, NEXT, 16)], Broken::Chain),
        ("no header", vec![descriptor(BUFFERS, 39, NEXT, 1), room], Broken::Request),
        ("only room", vec![room], Broken::Request),
        ("no room", vec![descriptor(BUFFERS, 104, 0, 0)], Broken::Room),
        (
            "too little room",
            vec![descriptor(BUFFERS, 104, NEXT, 1), descriptor(BUFFERS, 15, WRITE, 0)],
            Broken::Room,
        ),
        (
            "a request outside of memory",
            vec![descriptor(MEMORY as u64 - 1, 104, NEXT, 1), room],
            Broken::Buffer,
        ),
        (
            "room outside of memory",
            vec![descriptor(BUFFERS, 104, NEXT, 1), descriptor(u64::MAX - 4, 80, WRITE, 0)],
            Broken::Buffer,
        ),
        ("more than any request", vec![descriptor(BUFFERS, 0x20_0000, NEXT, 1), room], Broken::Request),
        ("a table outside of memory", vec![descriptor(table, 16, INDIRECT, 0)], Broken::Chain),
    ];
    for (name, descriptors, broken) in cases {
        assert_eq!(work(&descriptors).0, Err(broken), "{name}");
    }
    let back = vec![
        descriptor(BUFFERS, 40, NEXT, 1),
        descriptor(BUFFERS + 0x1000, 80, WRITE | NEXT, 2),
        descriptor(BUFFERS, 8, 0, 0),
    ];
    assert_eq!(work(&back).0, Err(Broken::Chain));
}

proptest::proptest! {
    /// Spec 14.3.
    #[test]
    fn no_ring_is_a_panic(words in proptest::collection::vec((0_u64..0x50_0000, 0_u32..0x2000, 0_u16..8, 0_u16..20), 1..16)) {
        let descriptors: Vec<_> = words.into_iter().map(|(address, length, flags, next)| descriptor(address, length, flags, next)).collect();
        drop(work(&descriptors));
    }
}
