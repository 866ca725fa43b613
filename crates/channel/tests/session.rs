//! How a session begins and ends on a pipe that was used before, and with a peer that keeps to no protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]

mod common;

use std::time::Duration;

use common::{ECHO, Guest, LIMIT, echo, eventually, pattern};
use dhow_channel::guest::Incoming;
use dhow_channel::{Ended, Error, Mux};
use dhow_model::Port;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Spec 8.1.
#[tokio::test]
async fn a_host_that_goes_away_is_followed_by_another_on_a_new_pipe() {
    let guest = Guest::start();
    for round in 0..20 {
        let mux = guest.connect().await;
        let left_open = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
        echo(&mux.dialer(), &pattern(round, 1000)).await;
        drop(mux);
        drop(left_open);
    }
    guest.stop().await;
}

/// Spec 8.1: a virtio-serial port is one pipe for a machine's whole life, so a new host process finds the guest in the
/// middle of the last one's session, in the middle of a frame, and with stale bytes in both directions.
#[tokio::test]
async fn a_host_that_dies_in_the_middle_of_a_frame_is_followed_by_another_on_the_same_pipe() {
    let guest = Guest::start();
    let (host, theirs) = tokio::io::duplex(64 * 1024);
    let (theirs, again) = shared(theirs);
    assert!(guest.pipes.send(Box::new(theirs)).await.is_ok());
    assert!(guest.pipes.send(Box::new(again)).await.is_ok());
    let (host, mut keep) = shared(host);
    let mux = Mux::connect(host, LIMIT).await.unwrap();
    let mut stream = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
    stream.write_all(&pattern(1, 100_000)).await.unwrap();
    mux.close().await;
    // The head of a data frame on stream 1, with 16,000 bytes to come of which only a few do.
    keep.write_all(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x3e, 0x80, 1, 2, 3]).await.unwrap();
    let mux = Mux::connect(keep, LIMIT).await.unwrap();
    echo(&mux.dialer(), &pattern(2, 100_000)).await;
}

/// Spec 8.1.
#[tokio::test]
async fn garbage_before_the_handshake_is_skipped_on_both_sides() {
    let guest = Guest::start();
    let (host, theirs) = tokio::io::duplex(64 * 1024);
    let (theirs, mut from_guest) = shared(theirs);
    let (host, mut from_host) = shared(host);
    let mut garbage = pattern(9, 5000);
    garbage.extend(
        b"DHOW-CHANNEL/1 HELLO 00112233445566778899aabbccddeeff\nDHOW-CHANNEL/1 GO zz\nDHOW-CHANNEL/1 HEL",
    );
    from_host.write_all(&garbage).await.unwrap();
    from_guest.write_all(b"DHOW-CHANNEL/1 WELCOME 00112233445566778899aabbccddeeff\nDHOW-CH").await.unwrap();
    assert!(guest.pipes.send(Box::new(theirs)).await.is_ok());
    let mux = Mux::connect(host, LIMIT).await.unwrap();
    echo(&mux.dialer(), b"through").await;
}

/// Spec 8.1, 8.4: an error, not a panic, and the next session works.
#[tokio::test]
async fn garbage_in_the_middle_of_a_session_ends_it_on_both_sides_and_the_next_one_works() {
    let guest = Guest::start();
    let (host, theirs) = tokio::io::duplex(64 * 1024);
    let (theirs, mut from_guest) = shared(theirs);
    let (host, mut from_host) = shared(host);
    assert!(guest.pipes.send(Box::new(theirs)).await.is_ok());
    assert!(guest.pipes.send(Box::new(from_guest.clone())).await.is_ok());
    let mux = Mux::connect(host, LIMIT).await.unwrap();
    echo(&mux.dialer(), b"before").await;
    from_guest.write_all(&[0xee; 64]).await.unwrap();
    let ended = tokio::time::timeout(LIMIT, mux.closed()).await.unwrap();
    assert!(matches!(ended, Error::SessionEnded(Ended::Protocol(_))), "{ended}");
    from_host.write_all(&[0xee; 64]).await.unwrap();
    let mux = Mux::connect(from_host, LIMIT).await.unwrap();
    echo(&mux.dialer(), b"after").await;
}

/// Spec 8.3, 16.2.
#[tokio::test]
async fn a_handshake_with_nobody_ends_at_its_limit() {
    let (host, _theirs) = tokio::io::duplex(100);
    let error = Mux::connect(host, Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, Error::HandshakeTimedOut { .. }), "{error}");
    let (host, theirs) = tokio::io::duplex(100);
    drop(theirs);
    let error = Mux::connect(host, LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

/// Spec 8.4: each side states its version.
#[tokio::test]
async fn an_agent_of_another_version_is_a_typed_error() {
    let (host, mut theirs) = tokio::io::duplex(1000);
    let agent = async {
        let mut line = String::new();
        while !line.ends_with('\n') {
            line.push(char::from(theirs.read_u8().await.unwrap()));
        }
        let answer = line.replace("/1 HELLO", "/7 WELCOME");
        theirs.write_all(answer.as_bytes()).await.unwrap();
    };
    let (connected, ()) = tokio::join!(Mux::connect(host, LIMIT), agent);
    assert!(matches!(connected, Err(Error::Version { theirs: 7, ours: 1 })));
}

/// Spec 8.1: the host waits for an agent that is still booting.
#[tokio::test]
async fn an_agent_that_comes_after_the_host_is_found() {
    let (host, theirs) = tokio::io::duplex(1000);
    let connecting = tokio::spawn(Mux::connect(host, LIMIT));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let guest = Guest::start();
    assert!(guest.pipes.send(Box::new(theirs)).await.is_ok());
    echo(&connecting.await.unwrap().unwrap().dialer(), b"late").await;
}

/// Spec 8.4: the guest is hostile. It opens streams towards the host, gives endless windows and floods.
#[tokio::test]
async fn streams_that_the_guest_opens_are_refused_and_a_flood_of_them_costs_nothing() {
    let (mux, mut port) = handshaken().await;
    let (mut from_host, mut to_host) = tokio::io::split(&mut port);
    let mut frames = Vec::new();
    for id in (2_u32..40_000).step_by(2) {
        // Data with SYN, and 8 bytes.
        frames.extend([0, 0, 0, 1]);
        frames.extend(id.to_be_bytes());
        frames.extend([0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        // Window update on it, as large as can be.
        frames.extend([0, 1, 0, 0]);
        frames.extend(id.to_be_bytes());
        frames.extend([0x7f, 0xff, 0xff, 0xff]);
    }
    let flood = async {
        drop(to_host.write_all(&frames).await);
        drop(to_host.shutdown().await);
    };
    let mut refused = 0;
    let drain = async {
        let mut bytes = vec![0; 65536];
        while let Ok(read @ 1..) = from_host.read(&mut bytes).await {
            refused += read;
        }
    };
    let both = async { tokio::join!(flood, drain, mux.closed()) };
    tokio::time::timeout(LIMIT, both).await.unwrap();
    assert_eq!(mux.streams(), 0);
    // Each by a frame of 12 bytes; those that were still to be sent when the port closed are not among them.
    assert!(refused / 12 > 5000, "{refused} bytes of refusals");
}

/// Spec 8.1: over a real socket as with a hypervisor's.
#[tokio::test]
async fn a_session_works_over_a_unix_socket() {
    let guest = Guest::start();
    let (ours, theirs) = UnixStream::pair().unwrap();
    assert!(guest.pipes.send(Box::new(theirs)).await.is_ok());
    let mux = Mux::connect(ours, LIMIT).await.unwrap();
    echo(&mux.dialer(), &pattern(0, 5 << 20)).await;
    bulk(&mux).await;
    eventually("streams are left", || mux.streams() == 0).await;
}

async fn bulk(mux: &Mux) {
    const SIZE: usize = 100 << 20;
    let rate = |start: std::time::Instant| SIZE as f64 / 1e6 / start.elapsed().as_secs_f64();
    let block = pattern(0, 1 << 20);
    let start = std::time::Instant::now();
    let mut stream = mux.dialer().dial(common::DISCARD, LIMIT).await.unwrap();
    for _ in 0..SIZE >> 20 {
        stream.write_all(&block).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    drop(stream.read_to_end(&mut Vec::new()).await);
    println!("host to guest: {:.0} MB/s", rate(start));
    let start = std::time::Instant::now();
    let mut stream = mux.dialer().dial(common::FLOOD, LIMIT).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        stream.read_exact(&mut buffer).await.unwrap();
    }
    println!("guest to host: {:.0} MB/s", rate(start));
    let mut stream = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        stream.write_all(&[1]).await.unwrap();
        stream.read_u8().await.unwrap();
    }
    println!("round trip of one byte: {:?}", start.elapsed() / 1000);
}

fn chunks() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0_u8..5, 0_u16..16, 0_u32..6, prop_oneof![0_u32..64, any::<u32>()], any::<[u8; 24]>())
        .prop_map(|(kind, flags, id, length, body)| {
            let mut bytes = vec![0, kind];
            bytes.extend(flags.to_be_bytes());
            bytes.extend(id.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(&body[..body.len().min(length as usize)]);
            bytes
        });
    prop_oneof![
        4 => frame,
        1 => proptest::collection::vec(any::<u8>(), 0..100),
        1 => Just(b"DHOW-CHANNEL/1 HELLO 00112233445566778899aabbccddeeff\n".to_vec()),
        1 => Just(b"DHOW-CHANNEL/1 GO 00112233445566778899aabbccddeeff\n".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Spec 8.4: whatever the guest sends, the host neither panics nor hangs.
    #[test]
    fn any_bytes_from_the_guest_end_in_an_error_or_are_waited_out(chunks in proptest::collection::vec(chunks(), 0..40)) {
        run(async {
            let (mux, port) = handshaken().await;
            let dialer = mux.dialer();
            let dialling = tokio::spawn(async move { dialer.dial(ECHO, LIMIT).await });
            feed(port, &chunks).await;
            drop(tokio::time::timeout(LIMIT, mux.closed()).await.unwrap());
            drop(tokio::time::timeout(LIMIT, dialling).await.unwrap().unwrap());
            mux.close().await;
        });
    }

    /// Spec 8.4: whatever arrives at the guest, it neither panics nor hangs, and takes the next host.
    #[test]
    fn any_bytes_from_the_host_leave_the_guest_listening(chunks in proptest::collection::vec(chunks(), 0..40)) {
        run(async {
            let (ends, pipes) = tokio::sync::mpsc::channel(1);
            let guest = tokio::spawn(common::serve(Incoming::over(pipes, &Port::ALL)));
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            ends.send(theirs).await.unwrap();
            let mut greeted = vec![
                b"DHOW-CHANNEL/1 HELLO 00112233445566778899aabbccddeeff\n".to_vec(),
                b"DHOW-CHANNEL/1 GO 00112233445566778899aabbccddeeff\n".to_vec(),
            ];
            greeted.extend(chunks);
            feed(ours, &greeted).await;
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            ends.send(theirs).await.unwrap();
            let mux = Mux::connect(ours, LIMIT).await.unwrap();
            echo(&mux.dialer(), b"still there").await;
            drop((mux, ends));
            tokio::time::timeout(LIMIT, guest).await.unwrap().unwrap();
        });
    }
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

/// Sends everything while it reads whatever comes, and hangs up.
async fn feed(port: tokio::io::DuplexStream, chunks: &[Vec<u8>]) {
    let (mut from, mut to) = tokio::io::split(port);
    let sending = async {
        for chunk in chunks {
            if to.write_all(chunk).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        drop(to.shutdown().await);
    };
    let mut sink = tokio::io::sink();
    drop(tokio::join!(sending, tokio::io::copy(&mut from, &mut sink)));
}

/// A session whose guest is played by the test.
async fn handshaken() -> (Mux, tokio::io::DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let agent = async {
        let mut line = String::new();
        while !line.ends_with('\n') {
            line.push(char::from(theirs.read_u8().await.unwrap()));
        }
        theirs.write_all(line.replace("HELLO", "WELCOME").as_bytes()).await.unwrap();
        let mut go = vec![0; line.len() - 3];
        theirs.read_exact(&mut go).await.unwrap();
        theirs
    };
    let (mux, theirs) = tokio::join!(Mux::connect(ours, LIMIT), agent);
    (mux.unwrap(), theirs)
}

/// Two handles on one end of a pipe: dropping one does not close it.
fn shared(end: tokio::io::DuplexStream) -> (common::Shared, common::Shared) {
    let end = common::Shared::new(end);
    (end.clone(), end)
}
