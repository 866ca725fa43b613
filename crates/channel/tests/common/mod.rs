//! A host and a guest at the two ends of a pipe in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use dhow_channel::guest::Incoming;
use dhow_channel::{Dialer, Mux, Stream};
use dhow_model::Port;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Long enough for anything on a slow machine; a test that reaches it has failed.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a port of the test guest does with a stream.
pub const ECHO: Port = Port::ECHO;
pub const DISCARD: Port = Port::DISCARD;
/// Accepts and then never reads.
pub const DEAF: Port = Port::AGENT;
/// Sends without end.
pub const FLOOD: Port = Port::DOCKER;

/// Takes an end of a pipe as a boxed trait object, so that one guest can serve pipes of any kind.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// The guest's side of a test.
pub struct Guest {
    pub pipes: mpsc::Sender<Box<dyn Pipe>>,
    task: tokio::task::JoinHandle<()>,
}

impl Guest {
    pub fn start() -> Self {
        let (pipes, ends) = mpsc::channel(4);
        let task = tokio::spawn(serve(Incoming::over(ends, &Port::ALL)));
        Self { pipes, task }
    }

    /// Gives the guest the other end of a new pipe.
    pub async fn pipe(&self) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        assert!(self.pipes.send(Box::new(theirs)).await.is_ok());
        ours
    }

    pub async fn connect(&self) -> Mux {
        Mux::connect(self.pipe().await, LIMIT).await.unwrap()
    }

    /// Ends the guest and waits for it.
    pub async fn stop(self) {
        drop(self.pipes);
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap();
    }
}

/// Serves the agent's ports until there is no channel any more.
pub async fn serve(mut incoming: Incoming) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            next = incoming.next() => match next {
                Some((port, stream)) => { tasks.spawn(service(port, stream)); }
                None => break,
            },
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn service(port: Port, mut stream: Stream) {
    match port {
        ECHO => {
            let (mut from, mut to) = tokio::io::split(stream);
            if tokio::io::copy(&mut from, &mut to).await.is_ok() {
                drop(to.shutdown().await);
            }
        }
        DISCARD => drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await),
        FLOOD => while stream.write_all(&[7; 4096]).await.is_ok() {},
        // Reads only what would tell it that the host is gone, one byte and for long.
        _ => {
            let mut byte = [0];
            while !matches!(stream.read(&mut byte).await, Ok(0) | Err(_)) {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
        }
    }
}

/// Sends `bytes` to the echo port and checks that they come back, with half-close.
pub async fn echo(dialer: &Dialer, bytes: &[u8]) {
    let stream = dialer.dial(ECHO, LIMIT).await.unwrap();
    let (mut from, mut to) = tokio::io::split(stream);
    let write = async {
        to.write_all(bytes).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut back = Vec::with_capacity(bytes.len());
    let (_, read) = tokio::join!(write, from.read_to_end(&mut back));
    read.unwrap();
    assert!(back == bytes, "{} bytes came back as {} others", bytes.len(), back.len());
}

/// Waits until `is` holds, giving way to other tasks.
pub async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{what}");
}

/// Bytes that repeat only after 251, told apart by `seed`.
pub fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 7 + seed) % 251).unwrap()).collect()
}

/// An end of a pipe that stays open while anyone holds it, as a hypervisor's port does for a new process.
#[derive(Clone)]
pub struct Shared(std::sync::Arc<std::sync::Mutex<tokio::io::DuplexStream>>);

impl Shared {
    pub fn new(end: tokio::io::DuplexStream) -> Self {
        Self(std::sync::Arc::new(std::sync::Mutex::new(end)))
    }
}

impl dhow_channel::HostPort for Shared {}

impl AsyncRead for Shared {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0.lock().unwrap()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut *self.0.lock().unwrap()).poll_write(cx, bytes)
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
