//! The multiplexer between a host and a guest in one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]

mod common;

use common::{DEAF, DISCARD, ECHO, FLOOD, Guest, LIMIT, echo, eventually, pattern};
use dhow_channel::{Ended, Error, Mux};
use dhow_model::Port;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Spec 8.3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_streams_one_after_the_other_leave_nothing() {
    let before = tasks();
    let guest = Guest::start();
    let mux = guest.connect().await;
    let start = Instant::now();
    for number in 0..5000 {
        echo(&mux.dialer(), &pattern(number, number % 300)).await;
    }
    println!("5000 streams, {:?} each", start.elapsed() / 5000);
    eventually("streams are left", || mux.streams() == 0).await;
    mux.close().await;
    guest.stop().await;
    eventually("tasks are left", || tasks() == before).await;
}

/// Spec 8.3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_streams_at_once_carry_their_own_bytes_and_leave_nothing() {
    let before = tasks();
    let guest = Guest::start();
    let mux = guest.connect().await;
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..500 {
        let dialer = mux.dialer();
        streams.spawn(async move { echo(&dialer, &pattern(number, 100_000 + number)).await });
    }
    while let Some(done) = streams.join_next().await {
        done.unwrap();
    }
    eventually("streams are left", || mux.streams() == 0).await;
    mux.close().await;
    guest.stop().await;
    eventually("tasks are left", || tasks() == before).await;
}

/// Spec 8.1: flow control is each stream's own. The measure is bytes moved, not time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_never_read_stall_no_other_stream() {
    let guest = Guest::start();
    let mux = guest.connect().await;
    // Ours that nobody reads here, and ours that nobody reads there, filled to the brim.
    let mut full = Vec::new();
    for _ in 0..20 {
        full.push(mux.dialer().dial(FLOOD, LIMIT).await.unwrap());
        let mut deaf = mux.dialer().dial(DEAF, LIMIT).await.unwrap();
        let block = vec![1; 1 << 20];
        let filling = tokio::time::timeout(Duration::from_millis(50), deaf.write_all(&block)).await;
        assert!(filling.is_err(), "a stream that nobody reads took a megabyte");
        full.push(deaf);
    }
    echo(&mux.dialer(), &pattern(0, 20 << 20)).await;
    assert_eq!(mux.streams(), 40);
    drop(full);
    eventually("streams are left", || mux.streams() == 0).await;
}

/// Spec 3.2 by way of 8.1: half-close is kept in both directions.
#[tokio::test]
async fn each_half_closes_by_itself() {
    let (host, mut guest) = pair().await;
    let (mut from_host, mut to_host) = tokio::io::split(&mut guest.1);
    let (mut from_guest, mut to_guest) = tokio::io::split(host);
    let mut text = String::new();

    to_guest.write_all(b"ask").await.unwrap();
    to_guest.shutdown().await.unwrap();
    from_host.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "ask");
    assert_eq!(to_guest.write(b"more").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);

    to_host.write_all(b"answer").await.unwrap();
    to_host.shutdown().await.unwrap();
    text.clear();
    from_guest.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}

/// Spec 8.1: what was sent before the end is read, whichever way the stream ends.
#[tokio::test]
async fn an_end_is_told_apart_from_a_reset_even_after_a_half_close() {
    use std::io::ErrorKind::ConnectionReset;
    let mut text = String::new();

    let (mut host, guest) = pair().await;
    host.write_all(b"half").await.unwrap();
    host.shutdown().await.unwrap();
    let mut guest_stream = guest.1;
    guest_stream.read_to_string(&mut text).await.unwrap();
    guest_stream.write_all(b"par").await.unwrap();
    drop(guest_stream);
    text.clear();
    let error = host.read_to_string(&mut text).await.unwrap_err();
    assert_eq!((error.kind(), text.as_str()), (ConnectionReset, ""));

    let (mut host, guest) = pair().await;
    host.write_all(b"half").await.unwrap();
    drop(host);
    let mut bytes = Vec::new();
    let mut guest_stream = guest.1;
    let error = guest_stream.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!((error.kind(), bytes.as_slice()), (ConnectionReset, b"half".as_slice()));
}

/// Spec 8.3: yamux alone leaves this writer waiting for ever.
#[tokio::test]
async fn a_writer_learns_that_its_reader_is_gone_although_the_reader_had_half_closed() {
    let (mut host, mut guest) = pair().await;
    host.shutdown().await.unwrap();
    drop(host);
    let endless = async { while guest.1.write_all(&[0; 8192]).await.is_ok() {} };
    tokio::time::timeout(LIMIT, endless).await.unwrap();
}

/// Spec 8.3.
#[tokio::test]
async fn a_dial_past_its_limit_is_a_typed_error_and_leaves_no_stream() {
    let (ends, pipes) = tokio::sync::mpsc::channel(1);
    let mut incoming = dhow_channel::guest::Incoming::over(pipes, &Port::ALL);
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    ends.send(theirs).await.unwrap();
    let mux = Mux::connect(ours, LIMIT).await.unwrap();
    // The agent takes none of them, so after those that may wait the next dial does.
    let mut waiting = Vec::new();
    for _ in 0..64 {
        waiting.push(mux.dialer().dial(ECHO, LIMIT).await.unwrap());
    }
    let error = mux.dialer().dial(ECHO, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, Error::DialTimedOut { port: ECHO, .. }), "{error}");
    assert_eq!(mux.streams(), 64);
    // The one that was given up is not among those that the agent gets.
    drop(waiting);
    for _ in 0..64 {
        let (_, mut stream) = incoming.next().await.unwrap();
        assert!(stream.read_u8().await.is_err());
    }
    let last = mux.dialer().dial(DISCARD, LIMIT).await.unwrap();
    loop {
        let (port, mut stream) = incoming.next().await.unwrap();
        if port == DISCARD {
            break;
        }
        assert!(stream.read_u8().await.is_err(), "a stream that was given up is open");
    }
    drop(last);
    eventually("streams are left", || mux.streams() == 0).await;
}

/// Spec 8.3: more of them than yamux opens without an answer.
#[tokio::test]
async fn dials_to_a_guest_that_hangs_end_at_their_limit_and_leave_nothing() {
    let (mux, mut port) = silent_guest().await;
    for _ in 0..300 {
        let error = mux.dialer().dial(ECHO, Duration::from_millis(2)).await.unwrap_err();
        assert!(matches!(error, Error::DialTimedOut { .. }), "{error}");
    }
    assert_eq!(mux.streams(), 0);
    drop(mux);
    // What it finds when it wakes up is the end of the session, not six hundred streams that wait.
    let left = tokio::time::timeout(LIMIT, port.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    assert!(left < 64 * 1024, "{left} bytes were sent on behalf of dials that had ended");
}

/// Spec 8.3.
#[tokio::test]
async fn a_port_that_nobody_serves_is_a_typed_error() {
    let guest = Guest::start();
    let mux = guest.connect().await;
    let error = mux.dialer().dial(Port(9), LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::NotServed { port: Port(9) }), "{error}");
    eventually("streams are left", || mux.streams() == 0).await;
    echo(&mux.dialer(), b"still there").await;
}

/// Spec 8.3.
#[tokio::test]
async fn no_more_streams_open_than_may_and_one_that_ends_makes_room() {
    let guest = Guest::start();
    let mux = guest.connect().await;
    let mut open = Vec::new();
    for _ in 0..dhow_channel::MAX_STREAMS {
        open.push(mux.dialer().dial(DISCARD, LIMIT).await.unwrap());
    }
    let error = mux.dialer().dial(DISCARD, LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::TooManyStreams { .. }), "{error}");
    open.pop();
    echo(&mux.dialer(), b"room").await;
}

/// Spec 8.1: a stream's peer that dies is seen by reader, writer, dialler and whoever watches the session.
#[tokio::test]
async fn a_peer_that_dies_ends_every_stream_with_a_reset_and_the_session_with_a_reason() {
    let guest = Guest::start();
    let (ours, theirs) = tokio::io::duplex(4096);
    let (near, mut far) = tokio::io::duplex(4096);
    let mut near = near;
    let mut theirs_far = theirs;
    let relay = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut theirs_far, &mut near).await });
    let (guest_end, mut relay_end) = tokio::io::duplex(4096);
    let relay2 = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut relay_end).await });
    assert!(guest.pipes.send(Box::new(guest_end)).await.is_ok());
    let mux = Mux::connect(ours, LIMIT).await.unwrap();
    let mut stream = mux.dialer().dial(FLOOD, LIMIT).await.unwrap();
    stream.read_u8().await.unwrap();
    relay.abort();
    relay2.abort();
    let ended = tokio::time::timeout(LIMIT, mux.closed()).await.unwrap();
    assert!(matches!(ended, Error::SessionEnded(Ended::Closed | Ended::Io(_))), "{ended}");
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    let error = mux.dialer().dial(ECHO, LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::SessionEnded(_)), "{error}");
    drop(stream);
    assert_eq!(mux.streams(), 0);
}

/// Spec 8.3: letting go of the session ends what it had opened.
#[tokio::test]
async fn dropping_the_host_end_resets_its_streams() {
    let (host, mut guest) = pair().await;
    drop(guest.0);
    let mut stream = host;
    assert!(stream.read_u8().await.is_err());
    assert!(guest.1.read_u8().await.is_err());
}

/// Spec 8.1: bulk, with a digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_arrive_whole_and_fast() {
    const BLOCK: usize = 1 << 20;
    let (host, guest) = pair().await;
    let mut guest_stream = guest.1;
    let mut host = host;
    let block = pattern(3, BLOCK);
    let mut expected = Sha256::new();
    (0..200).for_each(|_| expected.update(&block));
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..200 {
            host.write_all(&block).await.unwrap();
        }
        host.shutdown().await.unwrap();
        host
    });
    let mut bytes = Vec::with_capacity(200 * BLOCK);
    guest_stream.read_to_end(&mut bytes).await.unwrap();
    let spent = start.elapsed();
    println!("host to guest, one stream: {:.0} MB/s", bytes.len() as f64 / 1e6 / spent.as_secs_f64());
    assert_eq!(Sha256::digest(&bytes), expected.finalize());
    drop(sending.await.unwrap());
}

/// One stream and what it hangs on.
async fn pair() -> (dhow_channel::Stream, (Mux, dhow_channel::Stream)) {
    let (ends, pipes) = tokio::sync::mpsc::channel(1);
    let mut incoming = dhow_channel::guest::Incoming::over(pipes, &Port::ALL);
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    ends.send(theirs).await.unwrap();
    let mux = Mux::connect(ours, LIMIT).await.unwrap();
    let host = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
    let (port, stream) = incoming.next().await.unwrap();
    assert_eq!(port, ECHO);
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    (host, (mux, stream))
}

/// A session whose guest takes part in the handshake and then reads nothing.
async fn silent_guest() -> (Mux, tokio::io::DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let agent = async {
        let mut line = String::new();
        while !line.ends_with('\n') {
            line.push(char::from(theirs.read_u8().await.unwrap()));
        }
        theirs.write_all(line.replace("HELLO", "WELCOME").as_bytes()).await.unwrap();
        theirs
    };
    let (mux, theirs) = tokio::join!(Mux::connect(ours, LIMIT), agent);
    (mux.unwrap(), theirs)
}
