//! Streams against a real dockerd: the same conversation over its own socket and through the face, with equal outcomes.
//! `hijack` has attach, exec and WebSockets, `keys` terminals and detaching, `cancel` clients that go away, `framing`
//! bodies and pipelines, `limits` sizes. What needs no dockerd stands in `streams.rs` and `tunnels.rs` beside.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a fixture fails its test at the first surprise"
)]

mod cancel;
#[path = "../common/mod.rs"]
mod common;
mod framing;
mod hijack;
mod keys;
mod limits;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::Serving;
use common::stage::Peer;
use dhow_testkit::{Docker, Dockerd, Image, wait};

const IMAGE: &str = "dhow-test/busybox:1";
const LIMIT: Duration = Duration::from_secs(20);

/// A dockerd, and the face before it.
struct Place {
    serving: Serving,
    dockerd: Dockerd,
}

/// One of the two ways to it.
struct Way<'a> {
    name: &'static str,
    socket: &'a Path,
    docker: &'a Docker,
}

impl Place {
    fn new() -> Self {
        let dockerd = Dockerd::start().unwrap();
        Image::Busybox.ensure(dockerd.docker()).unwrap();
        Self { serving: Serving::in_front_of(dockerd.socket()), dockerd }
    }

    /// Has the conversation both ways; what came of it is the same.
    fn alike<T: PartialEq + std::fmt::Debug>(&self, talk: impl Fn(&Way<'_>) -> T) -> T {
        let docker = self.dockerd.docker();
        let direct = talk(&Way { name: "direct", socket: self.dockerd.socket(), docker });
        let through = talk(&Way { name: "behind", socket: self.serving.socket(), docker });
        assert_eq!(direct, through, "directly, and through the face");
        through
    }
}

impl Way<'_> {
    fn connect(&self) -> Peer {
        Peer(UnixStream::connect(self.socket).unwrap())
    }

    fn says(&self, text: impl AsRef<[u8]>) -> Peer {
        let mut peer = self.connect();
        peer.say(text);
        peer
    }

    /// A call whose answer is not looked at, made directly.
    fn ok<const N: usize>(&self, args: [&str; N]) -> String {
        self.docker.ok(args).unwrap()
    }

    /// A container of its own: `create` with these arguments, removed when dropped.
    fn container(&self, name: &str, args: &[&str]) -> Container<'_> {
        let name = format!("{name}-{}", self.name);
        let all = ["create", "--name", &name].into_iter().chain(args.iter().copied());
        self.docker.ok(all).unwrap();
        Container { docker: self.docker, name }
    }
}

struct Container<'a> {
    docker: &'a Docker,
    name: String,
}

impl Container<'_> {
    fn start(&self) {
        self.docker.ok(["start", &self.name]).unwrap();
    }

    fn is_running(&self) -> bool {
        self.docker.ok(["inspect", "-f", "{{.State.Running}}", &self.name]).unwrap() == "true"
    }

    fn ends(&self) {
        wait::until("the container to end", LIMIT, || (!self.is_running()).then_some(())).unwrap();
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _outcome = self.docker.outcome(["rm", "-f", &self.name]);
    }
}

/// A head without what changes from call to call, and without what the face adds.
fn plain(head: &str) -> String {
    let changing = ["Date: ", "X-Trace-Id: ", "X-Dhow-Placement: "];
    head.split_inclusive("\r\n").filter(|line| !changing.iter().any(|name| line.starts_with(name))).collect()
}

/// Everything that comes until the other side ends, each head in it plain.
fn all_of(peer: &mut Peer) -> String {
    plain(&peer.rest())
}

/// Every byte that comes until the other side ends.
fn rest(peer: &mut Peer) -> Vec<u8> {
    peer.take(usize::MAX)
}

/// What has come once it contains `word`.
fn until(peer: &mut Peer, word: &str) -> Vec<u8> {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(word) {
        let byte = peer.take(1);
        assert!(!byte.is_empty(), "the stream ended after {:?}", String::from_utf8_lossy(&got));
        got.extend(byte);
    }
    got
}

/// Standard output and standard error of a multiplexed stream.
fn demultiplexed(mut bytes: &[u8]) -> (String, String) {
    let mut streams = [Vec::new(), Vec::new(), Vec::new()];
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let size = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        streams[usize::from(head[0])].extend_from_slice(&rest[..size]);
        bytes = &rest[size..];
    }
    let [_, out, err] = streams.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (out, err)
}
