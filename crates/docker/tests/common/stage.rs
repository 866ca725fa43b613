//! A face between a client and an engine that are both played by the test, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use dhow_testkit::wait;
use tempfile::TempDir;

use super::Serving;

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long nothing has to happen to count as "nothing happens".
pub const QUIET: Duration = Duration::from_millis(150);

pub struct Stage {
    pub serving: Serving,
    listener: UnixListener,
    _dir: TempDir,
}

impl Stage {
    pub fn new() -> Self {
        Self::with_grace(Duration::from_millis(200))
    }

    pub fn with_grace(grace: Duration) -> Self {
        let dir = tempfile::Builder::new().prefix("engine").tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { serving: Serving::with_grace(&path, grace), listener, _dir: dir }
    }

    /// A client that has just connected.
    pub fn client(&self) -> Peer {
        Peer(UnixStream::connect(self.serving.socket()).unwrap())
    }

    /// A client that has just sent this.
    pub fn client_says(&self, text: &str) -> Peer {
        let mut client = self.client();
        client.say(text);
        client
    }

    /// The engine's end of the next connection.
    pub fn engine(&self) -> Peer {
        let stream =
            wait::until("a connection to the engine", LIMIT, || self.listener.accept().ok()).unwrap().0;
        stream.set_nonblocking(false).unwrap();
        Peer(stream)
    }

    /// No connection to the engine is waiting.
    pub fn nobody_dialled(&self) -> bool {
        self.listener.accept().is_err()
    }

    /// A request that ran its course, so that one connection is idle; both ends of it.
    pub fn warm(&self) -> (Peer, Peer) {
        let mut client = self.client_says("GET /warm HTTP/1.1\r\n\r\n");
        let mut engine = self.engine();
        engine.head();
        engine.say("HTTP/1.1 204 No Content\r\n\r\n");
        client.head();
        wait::until("the connection to be idle", LIMIT, || {
            (self.serving.face.stats().pooled == 1).then_some(())
        })
        .unwrap();
        (client, engine)
    }
}

/// One end of a connection.
pub struct Peer(pub UnixStream);

impl Peer {
    pub fn say(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).unwrap();
    }

    /// The next bytes; fails when they are not these.
    pub fn hears(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let got = self.take(expected.len());
        assert!(
            got == expected,
            "heard {:?} instead of {:?}",
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(expected)
        );
    }

    /// This many bytes, or fewer if the stream ends before.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        self.0.set_read_timeout(Some(LIMIT)).unwrap();
        let mut got = Vec::new();
        (&self.0).take(n as u64).read_to_end(&mut got).unwrap();
        got
    }

    /// A head up to its empty line, without the headers that the face adds; that with the trace must be there.
    pub fn head(&mut self) -> String {
        let (head, trace) = split_trace(&self.raw_head());
        assert!(trace.is_some(), "no trace in {head:?}");
        head
    }

    /// A head up to its empty line.
    pub fn raw_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = self.take(1);
            assert!(!byte.is_empty(), "the stream ended within a head: {:?}", String::from_utf8_lossy(&head));
            head.extend(byte);
        }
        String::from_utf8(head).unwrap()
    }

    /// Everything up to the end.
    pub fn rest(&mut self) -> String {
        self.0.set_read_timeout(Some(LIMIT)).unwrap();
        let mut got = Vec::new();
        match self.0.read_to_end(&mut got) {
            Ok(_) => {}
            // The other side closed with bytes of ours unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&got)),
        }
        String::from_utf8(got).unwrap()
    }

    /// Nothing comes, and the stream does not end.
    pub fn is_quiet(&mut self) -> bool {
        self.0.set_read_timeout(Some(QUIET)).unwrap();
        matches!(self.0.read(&mut [0; 1]), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Closes our half.
    pub fn end(&mut self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Writes until the other side takes no more; how much it took.
    pub fn fill(&mut self) -> usize {
        self.0.set_write_timeout(Some(QUIET)).unwrap();
        let piece = vec![b'x'; 64 * 1024];
        let mut taken = 0;
        loop {
            match self.0.write(&piece) {
                Ok(n) => taken += n,
                Err(_) => return taken,
            }
        }
    }
}

/// A head and its trace ID apart, without the header that tells a placement.
pub fn split_trace(head: &str) -> (String, Option<String>) {
    let mut trace = None;
    let mut rest = String::new();
    for line in head.split_inclusive("\r\n").filter(|line| !line.starts_with("X-Dhow-Placement: ")) {
        match line.strip_prefix("X-Trace-Id: ") {
            Some(id) => trace = Some(id.trim_end().to_owned()),
            None => rest.push_str(line),
        }
    }
    (rest, trace)
}
