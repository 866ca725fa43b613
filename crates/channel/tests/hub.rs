//! The hub: one process's channel for others of the same user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{DEAF, ECHO, FLOOD, Guest, LIMIT, echo, eventually, pattern};
use dhow_channel::{Dialer, Error, Mux, hub};
use dhow_model::Port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Hub {
    guest: Guest,
    mux: Mux,
    dialer: Dialer,
    cancel: CancellationToken,
    task: JoinHandle<dhow_channel::Result<()>>,
    dir: tempfile::TempDir,
}

impl Hub {
    async fn start() -> Self {
        let guest = Guest::start();
        let mux = guest.connect().await;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("hub.sock");
        let cancel = CancellationToken::new();
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(hub::serve(listener, mux.dialer(), cancel.clone()));
        Self { guest, mux, dialer: Dialer::hub(&socket), cancel, task, dir }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("hub.sock")
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap().unwrap();
        eventually("streams are left", || self.mux.streams() == 0).await;
        self.mux.close().await;
        self.guest.stop().await;
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Spec 8.1, 8.3: one dialling interface; nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_through_a_hub_carry_their_own_bytes_and_leave_no_task() {
    let before = tasks();
    let hub = Hub::start().await;
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..200 {
        let dialer = hub.dialer.clone();
        streams.spawn(async move { echo(&dialer, &pattern(number, 100_000 + number)).await });
    }
    while let Some(done) = streams.join_next().await {
        done.unwrap();
    }
    for number in 0..500 {
        echo(&hub.dialer, &pattern(number, 100)).await;
    }
    hub.stop().await;
    eventually("tasks are left", || tasks() == before).await;
}

/// Spec 8.3: the reason reaches the dialler through the hub as it is.
#[tokio::test]
async fn a_refusal_by_the_guest_is_the_same_typed_error_through_a_hub() {
    let hub = Hub::start().await;
    let error = hub.dialer.dial(Port(9), LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::NotServed { port: Port(9) }), "{error}");
    hub.stop().await;
}

/// Spec 15.1: an error says what happened.
#[tokio::test]
async fn a_hub_that_is_not_there_is_named() {
    let error = Dialer::hub("/nonexistent/hub.sock").dial(ECHO, LIMIT).await.unwrap_err();
    assert!(
        matches!(&error, Error::Hub { path, .. } if path == Path::new("/nonexistent/hub.sock")),
        "{error}"
    );
}

/// Spec 8.3.
#[tokio::test]
async fn a_hub_whose_session_is_gone_says_so() {
    let Hub { guest, mux, dialer, cancel, task, dir } = Hub::start().await;
    mux.close().await;
    let error = dialer.dial(ECHO, LIMIT).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { message, .. } if message.contains("closed")), "{error}");
    cancel.cancel();
    task.await.unwrap().unwrap();
    guest.stop().await;
    drop(dir);
}

/// Spec 8.3, 16.3: a client that hangs up while nothing flows frees its stream, although it may only have half-closed
/// as far as reading tells.
#[tokio::test]
async fn a_client_that_hangs_up_frees_its_idle_stream_and_one_that_half_closes_keeps_it() {
    let hub = Hub::start().await;
    let stream = hub.dialer.dial(DEAF, LIMIT).await.unwrap();
    let mut half = hub.dialer.dial(FLOOD, LIMIT).await.unwrap();
    half.shutdown().await.unwrap();
    drop(stream);
    eventually("the stream is not freed", || hub.mux.streams() == 1).await;
    drop(half);
    eventually("the half-closed stream is not freed", || hub.mux.streams() == 0).await;
    hub.stop().await;
}

/// Spec 8.1: nothing is buffered whole.
#[tokio::test]
async fn a_client_that_does_not_read_holds_up_no_other() {
    let hub = Hub::start().await;
    let mut full = Vec::new();
    for _ in 0..10 {
        full.push(hub.dialer.dial(FLOOD, LIMIT).await.unwrap());
    }
    echo(&hub.dialer, &pattern(1, 5 << 20)).await;
    drop(full);
    hub.stop().await;
}

/// Spec 6.6: a stop leaves no stream open.
#[tokio::test]
async fn stopping_a_hub_ends_what_flows_through_it() {
    let hub = Hub::start().await;
    let mut stream = hub.dialer.dial(FLOOD, LIMIT).await.unwrap();
    stream.read_u8().await.unwrap();
    hub.stop().await;
    drop(stream.read_to_end(&mut Vec::new()).await);
}

/// Spec 8.4.
#[tokio::test]
async fn a_connection_that_says_nonsense_is_closed_and_others_go_on() {
    let hub = Hub::start().await;
    let mut client = UnixStream::connect(hub.socket()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    drop(tokio::time::timeout(LIMIT, client.read_to_end(&mut answer)).await.unwrap());
    assert_eq!(answer, b"");
    echo(&hub.dialer, b"fine").await;
    hub.stop().await;
}

/// Spec 8.3: a dial that is given up is given up on the guest's side too.
#[tokio::test]
async fn a_dial_that_its_client_gives_up_is_cancelled_behind_the_hub() {
    // A guest that takes part in nothing: its pipe is never served.
    let (ends, pipes) = tokio::sync::mpsc::channel(1);
    let incoming = dhow_channel::guest::Incoming::over(pipes, &Port::ALL);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    ends.send(theirs).await.unwrap();
    let mux = Mux::connect(ours, LIMIT).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..64 {
        waiting.push(mux.dialer().dial(ECHO, LIMIT).await.unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let cancel = CancellationToken::new();
    let task = tokio::spawn(hub::serve(UnixListener::bind(&socket).unwrap(), mux.dialer(), cancel.clone()));
    let error = Dialer::hub(&socket).dial(ECHO, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, Error::DialTimedOut { .. }), "{error}");
    eventually("the dial behind the hub goes on", || mux.streams() == 64).await;
    cancel.cancel();
    task.await.unwrap().unwrap();
    drop(incoming);
}

/// Spec 8.3: what the guest's side does with a stream that is joined to a socket, when the host lets go of it.
#[tokio::test]
async fn a_socket_joined_to_a_stream_is_closed_when_the_stream_is_dropped_though_nothing_flows() {
    let guest_side = |half_close: bool| async move {
        let (ends, pipes) = tokio::sync::mpsc::channel(1);
        let mut incoming = dhow_channel::guest::Incoming::over(pipes, &Port::ALL);
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        ends.send(theirs).await.unwrap();
        let mux = Mux::connect(ours, LIMIT).await.unwrap();
        let mut host = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
        let (_, stream) = incoming.next().await.unwrap();
        let (service, joined) = UnixStream::pair().unwrap();
        let splicing = tokio::spawn(dhow_channel::splice(joined, stream));
        let mut service = service;
        host.write_all(b"ask").await.unwrap();
        if half_close {
            host.shutdown().await.unwrap();
        }
        let mut asked = [0; 3];
        service.read_exact(&mut asked).await.unwrap();
        service.write_all(b"yes").await.unwrap();
        host.read_exact(&mut asked).await.unwrap();
        assert!(!splicing.is_finished());
        drop(host);
        let done = tokio::time::timeout(LIMIT, splicing).await.unwrap().unwrap();
        assert_eq!(done.is_ok(), half_close, "{done:?}");
        assert_eq!(service.read(&mut asked).await.unwrap(), 0);
    };
    guest_side(true).await;
    guest_side(false).await;
}
