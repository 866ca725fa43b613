//! A transfer's size does not show in the face's memory: archives are loaded, built from and copied both ways past readers
//! that are slower than their writers, and the process that holds the face stays as small as it was. The short form moves
//! 128 MB a call past an engine that is played, and 512 MB a call past a real dockerd; `DHOW_TEST_NIGHTLY=1` moves 10 GB a
//! call past the played one.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use common::Serving;
use common::stage::Peer;
use dhow_testkit::{Dockerd, Image, process, wait};

const MB: u64 = 1 << 20;
/// How much the process may grow: two directions' buffers, and what an allocator keeps.
const MOST: u64 = 6 * MB;
/// What is written and read at once, by both sides that are played.
const PIECE: usize = 64 * 1024;
/// After how much a slow reader pauses, and for how long.
const PAUSE: (u64, Duration) = (32 * MB, Duration::from_millis(40));

/// The process's memory over a transfer. Client, face and played engine share it; the other two hold one piece each.
struct Memory {
    before: u64,
    most: u64,
}

impl Memory {
    fn now() -> Self {
        let before = process::resident(std::process::id());
        Self { before, most: before }
    }

    fn sample(&mut self) {
        self.most = self.most.max(process::resident(std::process::id()));
    }
}

/// Counts what passes; pauses as a slow reader does.
#[derive(Default)]
struct Pace {
    passed: u64,
    paused: u64,
}

impl Pace {
    fn pass(&mut self, bytes: usize) {
        self.passed += bytes as u64;
        if self.passed - self.paused >= PAUSE.0 {
            self.paused = self.passed;
            wait::nap(PAUSE.1);
        }
    }
}

/// Sends a body of this size, in chunks if `chunked`; `first` and `last` stand around zeros. The answer's status line.
fn upload(
    socket: &Path,
    call: &str,
    chunked: bool,
    first: &[u8],
    zeros: u64,
    last: &[u8],
    memory: &mut Memory,
) -> String {
    let mut peer = Peer(UnixStream::connect(socket).unwrap());
    let total = first.len() as u64 + zeros + last.len() as u64;
    let framing =
        if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {total}") };
    peer.say(format!("{call} HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nX-Bytes: {total}\r\nConnection: close\r\n{framing}\r\n\r\n"));
    let piece = vec![0; PIECE];
    let mut write = |bytes: &[u8]| {
        if chunked {
            peer.say(format!("{:x}\r\n", bytes.len()));
        }
        peer.say(bytes);
        if chunked {
            peer.say("\r\n");
        }
    };
    write(first);
    let mut left = zeros;
    while left > 0 {
        let n = left.min(PIECE as u64) as usize;
        write(&piece[..n]);
        left -= n as u64;
        if left % (8 * MB) < PIECE as u64 {
            memory.sample();
        }
    }
    write(last);
    if chunked {
        peer.say("0\r\n\r\n");
    }
    peer.rest().split("\r\n").next().unwrap_or_default().to_owned()
}

/// Reads an answer slowly to its end; how many bytes there were.
fn download(socket: &Path, call: &str, memory: &mut Memory) -> u64 {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "{call} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").unwrap();
    let (mut piece, mut pace) = (vec![0; PIECE], Pace::default());
    loop {
        let n = stream.read(&mut piece).unwrap();
        if n == 0 {
            return pace.passed;
        }
        pace.pass(n);
        if pace.passed % (8 * MB) < PIECE as u64 {
            memory.sample();
        }
    }
}

/// The head of a file in an archive.
fn member(path: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// An archive of a small file and a large one of zeros: what stands before the zeros, and what after.
fn archive(path: &str, text: &str, large: u64) -> (Vec<u8>, Vec<u8>) {
    let mut first = member(path, text.len() as u64);
    first.extend(text.bytes());
    first.resize(first.len().next_multiple_of(512), 0);
    first.extend(member("large", large));
    (first, vec![0; 1024])
}

fn judge(what: &str, bytes: u64, began: Instant, memory: &Memory) {
    let grown = memory.most - memory.before;
    let seconds = began.elapsed().as_secs_f64();
    eprintln!(
        "{what}: {} MB in {seconds:.1} s, {:.1} MB resident before, {:.2} MB more at most",
        bytes / MB,
        memory.before as f64 / MB as f64,
        grown as f64 / MB as f64
    );
    assert!(grown <= MOST, "{what}: {grown} bytes more after {bytes}");
}

/// All four kinds of transfer, each of this size, after one small one that makes what is made once.
fn transfers(socket: &Path, container: &str, bytes: u64) {
    for (turn, bytes) in [(0, MB), (1, bytes)] {
        for (what, call, chunked, (first, last)) in [
            ("load", "POST /images/load?quiet=1".to_owned(), true, archive("manifest.json", "[]", bytes)),
            (
                "build",
                "POST /build?q=1".to_owned(),
                true,
                archive("Dockerfile", "FROM dhow-test/busybox:1\nLABEL a=b\n", bytes),
            ),
            (
                "cp to a container",
                format!("PUT /containers/{container}/archive?path=/tmp"),
                false,
                archive("small", "hello", bytes),
            ),
        ] {
            let (mut memory, began) = (Memory::now(), Instant::now());
            let status = upload(socket, &call, chunked, &first, bytes, &last, &mut memory);
            assert_eq!(status, "HTTP/1.1 200 OK", "{what}");
            if turn == 1 {
                judge(what, bytes, began, &memory);
            }
        }
        let (mut memory, began) = (Memory::now(), Instant::now());
        let got =
            download(socket, &format!("GET /containers/{container}/archive?path=/tmp/large"), &mut memory);
        assert!(got >= bytes, "{got} of {bytes}");
        if turn == 1 {
            judge("cp from a container", bytes, began, &memory);
        }
    }
}

/// 3.2: a 10 GB load needs no more memory than a 10 MB one.
#[test]
fn memory_stays_flat_in_front_of_a_slow_engine() {
    let bytes = if std::env::var_os("DHOW_TEST_NIGHTLY").is_some() { 10_240 * MB } else { 128 * MB };
    let dir = tempfile::Builder::new().prefix("engine").tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || while play(&stream, bytes) {});
        }
    });
    let serving = Serving::in_front_of(&path);
    transfers(serving.socket(), "x", bytes);
}

/// One request and its answer, as a slow engine; whether another one may come.
fn play(mut stream: &UnixStream, pours: u64) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or_default() == 0 {
            return false;
        }
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let (mut piece, mut pace) = (vec![0; PIECE], Pace::default());
    if let Some(wanted) = header("X-Bytes: ").map(|bytes| bytes.parse::<u64>().unwrap()) {
        let chunked = header("Transfer-Encoding: ").is_some();
        let mut last = Vec::new();
        while if chunked { !last.ends_with(b"\r\n0\r\n\r\n") } else { pace.passed < wanted } {
            let n = stream.read(&mut piece).unwrap_or_default();
            if n == 0 {
                return false;
            }
            pace.pass(n);
            last.extend_from_slice(&piece[n.saturating_sub(7)..n]);
            last.drain(..last.len().saturating_sub(7));
        }
        return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_ok();
    }
    if !head.contains("/archive") {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_ok();
    }
    let poured = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {pours}\r\n\r\n");
    poured.is_ok() && (0..pours / PIECE as u64).all(|_| stream.write_all(&piece).is_ok())
}

/// 3.2: the same with a real dockerd behind, which writes what it gets to a disk.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn memory_stays_flat_in_front_of_a_dockerd() {
    let dockerd = Dockerd::start().unwrap();
    let docker = dockerd.docker();
    Image::Busybox.ensure(docker).unwrap();
    docker.ok(["create", "--name", "copied", Image::Busybox.name(), "true"]).unwrap();
    let serving = Serving::in_front_of(dockerd.socket());
    transfers(serving.socket(), "copied", 512 * MB);
}
