//! Sessions that outlive their port: a machine sleeps, and its hypervisor's socket is another one when it wakes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{DEAF, DISCARD, ECHO, FLOOD, Guest, LIMIT, echo, eventually, pattern};
use dhow_channel::{Ended, Error, Mux, Parked};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for something that must not happen to happen.
const WHILE: Duration = Duration::from_millis(100);

/// What a hypervisor keeps of a serial port while it is saved: what the guest has written and the host has not taken, and
/// what was taken for the guest.
struct Port {
    from_guest: ReadHalf<DuplexStream>,
    to_guest: WriteHalf<DuplexStream>,
    up: Vec<u8>,
    down: Vec<u8>,
}

/// A hypervisor that runs.
struct Machine {
    task: JoinHandle<Port>,
    stop: CancellationToken,
}

impl Port {
    /// The guest's port, of which this much is in the guest's queues.
    async fn of(guest: &Guest, room: usize) -> Self {
        let (near, far) = tokio::io::duplex(room);
        assert!(guest.pipes.send(Box::new(far)).await.is_ok());
        let (from_guest, to_guest) = tokio::io::split(near);
        Self { from_guest, to_guest, up: Vec::new(), down: Vec::new() }
    }

    fn run(self) -> (Machine, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stop = CancellationToken::new();
        (Machine { task: tokio::spawn(self.carry(theirs, stop.clone())), stop }, ours)
    }

    async fn carry(mut self, host: UnixStream, stop: CancellationToken) -> Self {
        let (mut from_host, mut to_host) = host.into_split();
        let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self,
                read = self.from_guest.read(&mut up), if self.up.is_empty() => {
                    self.up.extend(&up[..read.unwrap()]);
                }
                written = to_host.write(&self.up), if !self.up.is_empty() => {
                    let Ok(written) = written else { return self };
                    self.up.drain(..written);
                }
                read = from_host.read(&mut down), if self.down.is_empty() => match read {
                    Ok(1..) => self.down.extend(&down[..read.unwrap()]),
                    Ok(0) | Err(_) => return self,
                },
                written = self.to_guest.write(&self.down), if !self.down.is_empty() => {
                    self.down.drain(..written.unwrap());
                }
            }
        }
    }
}

impl Machine {
    async fn save(self) -> Port {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

async fn start(guest: &Guest) -> (Machine, Mux) {
    let (machine, socket) = Port::of(guest, 64 * 1024).await.run();
    (machine, Mux::connect(socket, LIMIT).await.unwrap())
}

/// The machine sleeps and wakes.
async fn sleep_and_wake(machine: Machine, parked: Parked) -> Machine {
    let (machine, socket) = machine.save().await.run();
    parked.unpark(socket, LIMIT).await.unwrap();
    machine
}

async fn wants(parked: &Parked) -> bool {
    tokio::time::timeout(WHILE, parked.wants_to_send()).await.is_ok()
}

/// Spec 13.1, issue 5: not one byte is lost or doubled, whenever the machine is put to sleep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_through_three_hundred_sleeps_under_load() {
    let guest = Guest::start();
    let (mut machine, mux) = start(&guest).await;
    let stop = CancellationToken::new();
    let mut loads = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (dialer, stop) = (mux.dialer(), stop.clone());
        loads.spawn(async move {
            let mut rounds = 0;
            while !stop.is_cancelled() {
                echo(&dialer, &pattern(number, 300_000 + 77_777 * number)).await;
                rounds += 1;
            }
            rounds
        });
    }
    for round in 0..300u64 {
        tokio::time::sleep(Duration::from_micros(round * 7919 % 9000)).await;
        let parked = mux.park(LIMIT).await.unwrap();
        machine = sleep_and_wake(machine, parked).await;
    }
    stop.cancel();
    while let Some(rounds) = loads.join_next().await {
        assert!(rounds.unwrap() > 0);
    }
    eventually("streams are left", || mux.streams() == 0).await;
    drop(machine);
}

/// Spec 13.1: an open stream that is silent is the same stream after the wake, and a dial waits for it.
#[tokio::test]
async fn a_silent_stream_outlives_a_sleep_and_a_dial_wakes_the_machine() {
    let guest = Guest::start();
    let (machine, mux) = start(&guest).await;
    let mut stream = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
    stream.write_all(b"before").await.unwrap();
    stream.read_exact(&mut [0; 6]).await.unwrap();

    let parked = mux.park(LIMIT).await.unwrap();
    assert!(!wants(&parked).await, "nobody has anything to send");
    let dialling = tokio::spawn({
        let dialer = mux.dialer();
        async move { echo(&dialer, b"the first request").await }
    });
    tokio::time::timeout(LIMIT, parked.wants_to_send()).await.unwrap();
    assert!(!dialling.is_finished());
    let _machine = sleep_and_wake(machine, parked).await;
    dialling.await.unwrap();
    stream.write_all(b"after").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"after");
}

/// Spec 13.1: the machine wakes for what somebody sends, and for nothing else.
#[tokio::test]
async fn bytes_and_ends_wake_a_machine_and_streams_that_are_dropped_do_not() {
    let guest = Guest::start();
    let (mut machine, mux) = start(&guest).await;
    let mut writing = mux.dialer().dial(DISCARD, LIMIT).await.unwrap();
    let mut ending = mux.dialer().dial(DISCARD, LIMIT).await.unwrap();
    let dropped = mux.dialer().dial(DISCARD, LIMIT).await.unwrap();

    let parked = mux.park(LIMIT).await.unwrap();
    drop(dropped);
    assert!(!wants(&parked).await, "a stream was dropped");
    writing.write_all(b"x").await.unwrap();
    assert!(wants(&parked).await, "a byte waits");
    machine = sleep_and_wake(machine, parked).await;

    let parked = mux.park(LIMIT).await.unwrap();
    assert!(!wants(&parked).await, "what waited has been sent");
    ending.shutdown().await.unwrap();
    assert!(wants(&parked).await, "an end waits");
    let _machine = sleep_and_wake(machine, parked).await;
    drop((writing, ending));
    eventually("streams are left", || mux.streams() == 0).await;
}

/// Issue 5: what the guest said last is read, although its hypervisor is gone, and a client that reads it does not wake it.
#[tokio::test]
async fn what_the_guest_had_sent_is_there_after_the_wake() {
    let guest = Guest::start();
    let (machine, mux) = start(&guest).await;
    let mut flood = mux.dialer().dial(FLOOD, LIMIT).await.unwrap();
    flood.read_exact(&mut [0; 100]).await.unwrap();
    // Nobody reads it now, and it fills its window.
    tokio::time::sleep(WHILE).await;
    let parked = mux.park(LIMIT).await.unwrap();
    let mut bytes = vec![0; 150_000];
    flood.read_exact(&mut bytes).await.unwrap();
    assert!(!wants(&parked).await, "only credit is to be sent");
    let _machine = sleep_and_wake(machine, parked).await;
    for _ in 0..20 {
        flood.read_exact(&mut bytes).await.unwrap();
    }
}

/// Issue 5: a guest that takes nothing cannot be put to sleep without loss.
#[tokio::test]
async fn a_guest_that_does_not_read_is_not_parked_and_its_session_goes_on() {
    let guest = Guest::start();
    let (near, far) = tokio::io::duplex(64);
    let (ours, theirs) = UnixStream::pair().unwrap();
    assert!(guest.pipes.send(Box::new(far)).await.is_ok());
    let (mut from_guest, mut to_guest) = tokio::io::split(near);
    let (mut from_host, mut to_host) = theirs.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_guest, &mut to_host).await });
    let paused = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let gate = std::sync::Arc::clone(&paused);
    let down = tokio::spawn(async move {
        let mut bytes = [0; 1024];
        loop {
            drop(gate.acquire().await);
            let read = from_host.read(&mut bytes).await.unwrap();
            to_guest.write_all(&bytes[..read]).await.unwrap();
        }
    });
    let mux = Mux::connect(ours, LIMIT).await.unwrap();
    let mut stream = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
    let held = paused.acquire().await.unwrap();
    stream.write_all(&[1; 20_000]).await.unwrap();
    tokio::time::sleep(WHILE).await;
    let error = mux.park(WHILE).await.unwrap_err();
    assert!(matches!(error, Error::NotRead { .. }), "{error}");
    // Nor does an attempt that is given up leave it held.
    drop(tokio::time::timeout(Duration::from_millis(5), mux.park(LIMIT)).await);
    drop(held);
    stream.write_all(&[1; 20_000]).await.unwrap();
    stream.read_exact(&mut [0; 40_000]).await.unwrap();
    mux.park(LIMIT).await.unwrap().go_on();
    echo(&mux.dialer(), &pattern(5, 100_000)).await;
    up.abort();
    down.abort();
}

/// Issue 5: a save that failed leaves everything as it was.
#[tokio::test]
async fn a_session_goes_on_over_the_port_that_it_had() {
    let guest = Guest::start();
    let (_machine, mux) = start(&guest).await;
    let echoing = tokio::spawn({
        let dialer = mux.dialer();
        async move { echo(&dialer, &pattern(3, 3_000_000)).await }
    });
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let parked = mux.park(LIMIT).await.unwrap();
        let error = mux.park(LIMIT).await.unwrap_err();
        assert!(matches!(error, Error::AlreadyParked), "{error}");
        parked.go_on();
    }
    echoing.await.unwrap();
}

/// Issue 5: connections that died are reported as closed and do not hang.
#[tokio::test]
async fn a_session_whose_machine_will_not_wake_ends_with_its_streams_and_dials() {
    let guest = Guest::start();
    let (machine, mux) = start(&guest).await;
    let mut stream = mux.dialer().dial(DEAF, LIMIT).await.unwrap();
    let parked = mux.park(LIMIT).await.unwrap();
    drop(machine.save().await);
    let dialer = mux.dialer();
    let dialling = tokio::spawn(async move { dialer.dial(ECHO, LIMIT).await.map(drop) });
    tokio::time::timeout(LIMIT, parked.wants_to_send()).await.unwrap();
    assert!(tokio::time::timeout(WHILE, mux.closed()).await.is_err(), "it sleeps and is not over");
    drop(parked);
    assert!(stream.read_u8().await.is_err());
    assert!(matches!(dialling.await.unwrap(), Err(Error::SessionEnded(Ended::Dropped))));
    assert!(matches!(mux.closed().await, Error::SessionEnded(Ended::Dropped)));
}

/// Issue 5: two hypervisors never have one guest's port.
#[tokio::test]
async fn a_port_that_has_not_ended_is_not_replaced() {
    let guest = Guest::start();
    let (_machine, mux) = start(&guest).await;
    let parked = mux.park(LIMIT).await.unwrap();
    let (other, _theirs) = UnixStream::pair().unwrap();
    let error = parked.unpark(other, WHILE).await.unwrap_err();
    assert!(matches!(error, Error::OldPortOpen { .. }), "{error}");
    assert!(matches!(mux.closed().await, Error::SessionEnded(Ended::Dropped)));
}

/// Issue 5: a hypervisor that dies before its guest was saved ends the session, as ever.
#[tokio::test]
async fn a_session_that_is_over_is_not_parked() {
    let guest = Guest::start();
    let (machine, mux) = start(&guest).await;
    drop(machine.save().await);
    tokio::time::timeout(LIMIT, mux.closed()).await.unwrap();
    let error = mux.park(LIMIT).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::SessionEnded(_)), "{error}");
}
