//! What a guest sends goes through these, one entry for each target of `fuzz/`, so that the corpus is replayed by the ordinary tests too.
//! Each entry checks what must hold of every outcome: nothing outside of the shares is touched, and a read-only one stays as it is.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    reason = "what it makes is gone after it, and a fuzzer looks for panics"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fs::{Answer, Answered, Server};
use crate::news;

/// What a target does with bytes.
pub type Entry = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Entry)] = &[("requests", requests), ("state", state), ("changes", changes)];

/// The thread of the guest that tells of changes; a request's second byte says whether it is that one's.
const TELLER: u32 = 40;

/// A directory with two shares in it, one to be only read, and what lies beside them.
struct Ground(PathBuf);

impl Ground {
    fn new() -> Ground {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let at = std::env::temp_dir().join(format!("dhow-share-fuzz-{}-{number}", std::process::id()));
        for name in ["open/dir", "kept", "beside"] {
            fs::create_dir_all(at.join(name)).expect("a directory");
        }
        for name in ["open/file", "open/dir/deep", "kept/file", "beside/secret"] {
            fs::write(at.join(name), name).expect("a file");
        }
        std::os::unix::fs::symlink(at.join("beside"), at.join("open/link")).expect("a link");
        Ground(at)
    }

    fn server(&self) -> Server {
        let (open, kept) = (self.0.join("open"), self.0.join("kept"));
        Server::new([(open.as_path(), true), (kept.as_path(), false)], 256).expect("a server")
    }

    fn check(&self) {
        for name in ["kept/file", "beside/secret"] {
            let text = fs::read_to_string(self.0.join(name));
            assert_eq!(text.ok().as_deref(), Some(name));
        }
        for (dir, count) in [("", 3), ("kept", 1), ("beside", 1)] {
            let found = fs::read_dir(self.0.join(dir)).expect("a directory").count();
            assert_eq!(found, count, "{dir}");
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        unlock(&self.0.join("open"));
        fs::remove_dir_all(&self.0).expect("to be removed");
    }
}

/// Modes that a guest has set do not keep it from being removed.
fn unlock(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if path.is_dir() && !path.is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("a mode");
        for entry in fs::read_dir(path).expect("a directory").flatten() {
            unlock(&entry.path());
        }
    }
}

fn ask(server: &mut Server, answer: &mut Answer, head: [u32; 3], body: &[u8]) {
    let [opcode, node, thread] = head;
    let mut request = Vec::new();
    let length = u32::try_from(40 + body.len()).unwrap_or(u32::MAX);
    for word in [length, opcode, 7, 0, node, 0, 0, 0, thread, 0] {
        request.extend_from_slice(&word.to_ne_bytes());
    }
    request.extend_from_slice(body);
    if server.handle(&request, answer) == Answered::Yes {
        let said = answer.whole().first_chunk().copied().map(u32::from_ne_bytes);
        assert_eq!(said.map(|said| said as usize), Some(answer.whole().len()));
    }
}

fn mount(server: &mut Server, answer: &mut Answer) {
    let words: Vec<u8> = [7_u32, 40, 4096, u32::MAX].into_iter().flat_map(u32::to_ne_bytes).collect();
    ask(server, answer, [26, 0, 0], &[&words[..], &[0; 48]].concat());
    for name in [&b"0\0"[..], b"1\0"] {
        ask(server, answer, [1, 1, 0], name);
    }
    for name in [&b"file\0"[..], b"dir\0", b"link\0"] {
        ask(server, answer, [1, 2, 0], name);
    }
}

/// Requests one after the other: opcode, whose it is, the file, the length of what follows in two bytes, and that.
pub fn requests(mut bytes: &[u8]) {
    let ground = Ground::new();
    let (mut server, mut answer) = (ground.server(), Answer::new());
    mount(&mut server, &mut answer);
    server.hear(news::Said::Teller(TELLER));
    while let Some(([opcode, whose, node, low, high], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        let thread = if whose % 4 == 3 { TELLER } else { 0 };
        ask(&mut server, &mut answer, [u32::from(*opcode), u32::from(*node), thread], body);
        bytes = rest;
    }
    drop(server);
    ground.check();
}

/// A saved state, and what is done with what it tells of.
pub fn state(bytes: &[u8]) {
    let ground = Ground::new();
    let (mut server, mut answer) = (ground.server(), Answer::new());
    mount(&mut server, &mut answer);
    if server.restore(bytes).is_ok() {
        let again = server.save();
        assert!(server.restore(&again).is_ok(), "what was saved can be gone on with");
    }
    for node in 0..12 {
        for (opcode, body) in [(1, &b"file\0"[..]), (3, &[0; 16]), (10, b"file\0"), (14, &[0; 8])] {
            ask(&mut server, &mut answer, [opcode, node, 0], body);
        }
    }
    drop(server);
    ground.check();
}

/// What the file server tells its supervisor.
pub fn changes(bytes: &[u8]) {
    if let Some(changes) = news::decode(bytes) {
        let again = news::encode(&changes);
        assert_eq!(news::decode(&again[4..]), Some(changes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 14.3; what fuzzing has found is replayed.
    #[test]
    fn the_corpus_does_no_harm() {
        dhow_testkit::corpus::replay(env!("CARGO_MANIFEST_DIR"), TARGETS).unwrap();
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }
    }
}
