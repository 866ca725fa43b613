//! A hypervisor that goes and one that comes back for the same guest. The hypervisor is a double that speaks vhost-user; its
//! guest is this test, which asks the gateway for echoes.

use std::fs::File;
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use dhow_model::network::{GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vm_memory::FileOffset;

use super::*;
use crate::gateway::ip::IpPacket;
use crate::gateway::outbound::ETHERNET;
use crate::gateway::{Gateway, Listener, Options};
use crate::packet::icmp::{self, Echo, Message};
use crate::packet::ip::Pair;

const SIZE: u16 = 16;
const RECEIVE: usize = 0;
const SEND: usize = 1;
/// Of the second pair.
const RECEIVE_TOO: usize = 2;
const SEND_TOO: usize = 3;
const RINGS: usize = 4;
/// Of virtio 1.2, 6: what every driver of today accepts.
const VERSION_1: u64 = 1 << 32;
/// The driver says after which entry it wants to be told.
const EVENT_INDEX: u64 = 1 << 29;

/// Where the parts of a ring lie in the guest's memory.
fn part(ring: usize, part: u64) -> u64 {
    ring as u64 * 0x4000 + part * 0x1000
}
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 1;
const USED: u64 = 2;

/// A guest that sleeps and wakes: its memory, and how far it is.
struct Sleeper {
    file: File,
    memory: GuestMemoryMmap,
    available: [u16; RINGS],
}

impl Sleeper {
    fn new(name: &str) -> Sleeper {
        let file = File::from(memfd_create(name, MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(MEMORY as u64).unwrap();
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let memory =
            GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), MEMORY, Some(offset))]).unwrap();
        Sleeper { file, memory, available: [0; RINGS] }
    }

    /// Makes a buffer available.
    fn offer(&mut self, ring: usize, length: usize, flags: u16) {
        let (next, slot) = (self.available[ring], u64::from(self.available[ring] % SIZE));
        let buffer = BUFFERS + (ring as u64 * 16 + slot) * 0x1000;
        let length = u32::try_from(length).unwrap();
        self.memory
            .write_obj(
                descriptor(buffer, length, flags, 0),
                GuestAddress(part(ring, DESCRIPTORS) + slot * 16),
            )
            .unwrap();
        let available = part(ring, AVAILABLE);
        self.memory.write_obj(slot as u16, GuestAddress(available + 4 + slot * 2)).unwrap();
        self.available[ring] = next.wrapping_add(1);
        self.memory.write_obj(self.available[ring], GuestAddress(available + 2)).unwrap();
    }

    fn offer_room(&mut self, buffers: usize) {
        (0..buffers).for_each(|_| self.offer(RECEIVE, 0x1000, WRITE));
    }

    /// Asks the gateway for an echo.
    fn ask(&mut self, sequence: u16) {
        self.ask_by(SEND, sequence);
    }

    fn ask_by(&mut self, ring: usize, sequence: u16) {
        let pair = Pair::new(GUEST.into(), GATEWAY.into()).unwrap();
        let message = icmp::request(pair, Echo { identifier: 1, sequence, data: b"hello" });
        let packet = icmp::datagram(pair, 0, &message).to_vec().unwrap();
        let bytes = [&[0; HEADER][..], &GATEWAY_MAC, &GUEST_MAC, &[8, 0], &packet].concat();
        let slot = u64::from(self.available[ring] % SIZE);
        let buffer = BUFFERS + (ring as u64 * 16 + slot) * 0x1000;
        self.memory.write_slice(&bytes, GuestAddress(buffer)).unwrap();
        self.offer(ring, bytes.len(), 0);
    }

    /// Every echo that has come, in order.
    fn echoes(&self) -> Vec<u16> {
        self.echoes_by(RECEIVE)
    }

    fn echoes_by(&self, ring: usize) -> Vec<u16> {
        let used = part(ring, USED);
        let count: u16 = self.memory.read_obj(GuestAddress(used + 2)).unwrap();
        let echo = |index: u16| {
            let entry: [u32; 2] =
                self.memory.read_obj(GuestAddress(used + 4 + u64::from(index) * 8)).unwrap();
            let mut frame = vec![0; entry[1] as usize];
            let buffer = BUFFERS + (ring as u64 * 16 + u64::from(entry[0])) * 0x1000;
            self.memory.read_slice(&mut frame, GuestAddress(buffer)).unwrap();
            let packet = IpPacket::parse(&frame[HEADER + ETHERNET..]).unwrap();
            let pair = Pair::new(packet.source, packet.destination).unwrap();
            match icmp::parse(pair, packet.payload).unwrap() {
                Message::Reply(echo) => echo.sequence,
                other => panic!("{other:?}"),
            }
        };
        (0..count).map(echo).collect()
    }

    async fn echoed(&self, expected: &[u16]) {
        let start = Instant::now();
        while self.echoes() != expected {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?} came, not {expected:?}", self.echoes());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A hypervisor's end of a connection.
struct Double {
    stream: UnixStream,
    kicks: [File; RINGS],
    calls: [File; RINGS],
}

impl Double {
    /// Connects and starts both rings, where they stood. `at` is where it has the guest's memory.
    fn start(socket: &std::path::Path, guest: &Sleeper, at: u64, bases: [u16; 2]) -> Double {
        let eventfd = || File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let eventfds = || std::array::from_fn(|_| eventfd());
        let double = Double { stream, kicks: eventfds(), calls: eventfds() };
        double.tell(3, &[], None);
        double.tell(2, &(VERSION_1 | EVENT_INDEX).to_ne_bytes(), None);
        // One region: guest's address, size, hypervisor's address, offset in the file.
        let table = [1, 0, MEMORY as u64, at, 0].map(u64::to_ne_bytes);
        double.tell(5, table.as_flattened(), Some(guest.file.as_fd()));
        for ring in [RECEIVE, SEND] {
            double.ring(ring, at, bases[ring]);
        }
        double
    }

    /// Starts a ring where it stood.
    fn ring(&self, ring: usize, at: u64, base: u16) {
        let number = ring as u32;
        let state = |value: u32| [number, value].map(u32::to_ne_bytes);
        self.tell(8, state(u32::from(SIZE)).as_flattened(), None);
        self.tell(10, state(u32::from(base)).as_flattened(), None);
        let places = [DESCRIPTORS, USED, AVAILABLE].map(|which| at + part(ring, which));
        let address = [u64::from(number), places[0], places[1], places[2], 0].map(u64::to_ne_bytes);
        self.tell(9, address.as_flattened(), None);
        self.tell(13, &(ring as u64).to_ne_bytes(), Some(self.calls[ring].as_fd()));
        self.tell(12, &(ring as u64).to_ne_bytes(), Some(self.kicks[ring].as_fd()));
    }

    /// The guest uses its second pair, or no longer does.
    fn second_pair(&self, on: bool) {
        for ring in [RECEIVE_TOO, SEND_TOO] {
            self.tell(18, [ring as u32, u32::from(on)].map(u32::to_ne_bytes).as_flattened(), None);
        }
    }

    fn tell(&self, request: u32, body: &[u8], file: Option<BorrowedFd<'_>>) {
        let header = [request, 1, u32::try_from(body.len()).unwrap()].map(u32::to_ne_bytes);
        let message = [header.as_flattened(), body].concat();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let files: Vec<_> = file.into_iter().collect();
        if !files.is_empty() {
            assert!(rights.push(SendAncillaryMessage::ScmRights(&files)));
        }
        sendmsg(&self.stream, &[IoSlice::new(&message)], &mut rights, SendFlags::empty()).unwrap();
    }

    /// Stops both rings: where they stand.
    fn stop(&mut self) -> [u16; 2] {
        [RECEIVE, SEND].map(|ring| {
            self.tell(11, [ring as u32, 0].map(u32::to_ne_bytes).as_flattened(), None);
            let mut reply = [0; 20];
            self.stream.read_exact(&mut reply).unwrap();
            u16::from_ne_bytes([reply[16], reply[17]])
        })
    }

    fn kick(&self, ring: usize) {
        rustix::io::write(&self.kicks[ring], &1_u64.to_ne_bytes()).unwrap();
    }
}

fn start(socket: &std::path::Path) -> Gateway {
    Gateway::start(Listener::VhostUser(UnixListener::bind(socket).unwrap()), Options::for_test()).unwrap()
}

/// How often this process has a guest's memory mapped.
fn mappings(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).count()
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Spec 13.1, 13.2: no process of the hypervisor's is left, and "the network works" after the wake: rings go on where they stood,
/// what the guest had sent is taken once, and what waits for it is given once.
#[tokio::test]
async fn rings_and_frames_are_taken_over_by_the_next_hypervisor() {
    const NAME: &str = "dhow-sleeper-rings";
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("net.sock");
    let gateway = start(&socket);
    let handle = gateway.handle();
    let mut guest = Sleeper::new(NAME);
    guest.offer_room(16);
    let mut double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    for sequence in 1..=3 {
        guest.ask(sequence);
        double.kick(SEND);
    }
    guest.echoed(&[1, 2, 3]).await;
    assert_eq!(mappings(NAME), 2);
    let bases = double.stop();
    assert_eq!(bases, [3, 3]);
    // Between the last look at the ring and the guest's own stop.
    guest.ask(4);
    double.kick(SEND);
    handle.freeze().await;
    drop(double);
    until("the guest's memory is let go", || mappings(NAME) == 1).await;

    let double = Double::start(&socket, &guest, 0x5_0000_0000, bases);
    until("the fourth was taken", || handle.metrics().frames_from_guest == 4).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    guest.echoed(&[1, 2, 3]).await;
    handle.thaw().await;
    guest.echoed(&[1, 2, 3, 4]).await;
    guest.ask(5);
    double.kick(SEND);
    guest.echoed(&[1, 2, 3, 4, 5]).await;
    let metrics = handle.metrics();
    assert_eq!((metrics.links, metrics.drops.len()), (2, 0), "{metrics:?}");
    gateway.stop().await;
}

/// Spec 13.2, "the network works": an interrupt that was lost around the sleep does not leave the guest waiting for ever. It believes
/// to have been told, so it does not ask.
#[tokio::test]
async fn a_guest_that_woke_is_told_more_than_once_though_it_does_not_ask() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("net.sock");
    let gateway = start(&socket);
    let mut guest = Sleeper::new("dhow-sleeper-told");
    guest.offer_room(16);
    // After the thousandth entry (virtio 1.2, 2.7.7).
    let wants = part(RECEIVE, AVAILABLE) + 4 + 2 * u64::from(SIZE);
    guest.memory.write_obj(1000_u16, GuestAddress(wants)).unwrap();
    let double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    for sequence in 1..=5 {
        guest.ask(sequence);
        double.kick(SEND);
        until("it was told", || notifications(&double.calls[RECEIVE]) > 0).await;
    }
    guest.echoed(&[1, 2, 3, 4, 5]).await;
    gateway.stop().await;
}

/// Issue 3, "round trip": who asks alone by the second pair is answered there, while the guest has one; nobody else is.
#[tokio::test]
async fn one_conversation_is_answered_by_the_pair_that_it_asks_by() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("net.sock");
    let gateway = start(&socket);
    let mut guest = Sleeper::new("dhow-sleeper-pairs");
    guest.offer_room(16);
    (0..16).for_each(|_| guest.offer(RECEIVE_TOO, 0x1000, WRITE));
    let double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    [RECEIVE_TOO, SEND_TOO].into_iter().for_each(|ring| double.ring(ring, 0x7000_0000, 0));
    double.second_pair(true);
    let came = |guest: &Sleeper| (guest.echoes().len(), guest.echoes_by(RECEIVE_TOO).len());
    for sequence in 1..=12_u16 {
        guest.ask_by(SEND_TOO, sequence);
        double.kick(SEND_TOO);
        let all = usize::from(sequence);
        until("it was answered", || came(&guest).0 + came(&guest).1 == all).await;
    }
    let (first, second) = came(&guest);
    assert!(first >= 4 && second >= 4 && first + second == 12, "{first} {second}");
    double.second_pair(false);
    for sequence in 13..=16 {
        guest.ask(sequence);
        double.kick(SEND);
        let before = first + usize::from(sequence) - 12;
        until("it was answered", || came(&guest).0 == before).await;
    }
    assert_eq!(came(&guest), (first + 4, second));
    assert_eq!(gateway.handle().metrics().drops.len(), 0);
    gateway.stop().await;
}

/// What had no buffer in the guest when it went to sleep.
#[tokio::test]
async fn frames_that_wait_for_room_wait_for_the_next_hypervisor() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("net.sock");
    let gateway = start(&socket);
    let handle = gateway.handle();
    let mut guest = Sleeper::new("dhow-sleeper-room");
    guest.offer_room(2);
    let mut double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    (1..=5).for_each(|sequence| guest.ask(sequence));
    double.kick(SEND);
    guest.echoed(&[1, 2]).await;
    until("all were answered", || handle.metrics().frames_to_guest == 5).await;
    let bases = double.stop();
    handle.freeze().await;
    drop(double);
    let double = Double::start(&socket, &guest, 0x7000_0000, bases);
    until("the next hypervisor is served", || handle.metrics().links == 2).await;
    handle.thaw().await;
    guest.offer_room(10);
    double.kick(RECEIVE);
    guest.echoed(&[1, 2, 3, 4, 5]).await;
    gateway.stop().await;
}

/// As ever: a guest whose hypervisor goes while it is awake is gone, and the next one is another.
#[tokio::test]
async fn frames_for_a_guest_that_is_gone_go_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("net.sock");
    let gateway = start(&socket);
    let mut guest = Sleeper::new("dhow-sleeper-gone");
    let double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    guest.ask(1);
    double.kick(SEND);
    until("it was answered", || gateway.handle().metrics().frames_to_guest == 1).await;
    drop(double);
    let mut guest = Sleeper::new("dhow-sleeper-next");
    guest.offer_room(4);
    let double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    guest.ask(2);
    double.kick(SEND);
    guest.echoed(&[2]).await;
    gateway.stop().await;
}

/// A machine that boots anew instead of waking gets nothing that was for the guest that slept.
#[tokio::test]
async fn frames_for_a_guest_that_will_not_wake_go_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("net.sock");
    let gateway = start(&socket);
    let handle = gateway.handle();
    let mut guest = Sleeper::new("dhow-sleeper-lost");
    let mut double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    (1..=3).for_each(|sequence| guest.ask(sequence));
    double.kick(SEND);
    until("all were answered", || handle.metrics().frames_to_guest == 3).await;
    double.stop();
    handle.freeze().await;
    drop(double);
    handle.end_flows().await;
    let mut guest = Sleeper::new("dhow-sleeper-anew");
    guest.offer_room(8);
    let double = Double::start(&socket, &guest, 0x7000_0000, [0, 0]);
    until("the next hypervisor is served", || handle.metrics().links == 2).await;
    handle.thaw().await;
    guest.ask(4);
    double.kick(SEND);
    guest.echoed(&[4]).await;
    gateway.stop().await;
}
