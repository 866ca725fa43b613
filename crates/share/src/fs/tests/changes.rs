//! What programs of the host change, and how the guest's kernel is made to tell of it. The teller here does what the agent's thread makes a
//! kernel do.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;

use super::client::{Client, Words, long, word, words};
use crate::fs::abi::op;
use crate::news::{Change, Said, What};

const TELLER: u32 = 40;

/// A share in which changes are told.
fn share() -> (tempfile::TempDir, Client, u64) {
    let temp = tempfile::tempdir().unwrap();
    let mut client = Client::new(&[(temp.path(), true)]);
    client.server.watch_changes(100);
    let top = client.top(0);
    client.server.hear(Said::Teller(TELLER));
    (temp, client, top)
}

impl Client {
    fn changes(&mut self) -> Vec<Change> {
        self.server.watch.drain();
        self.server.tidings()
    }

    fn whats(&mut self) -> Vec<(What, Vec<u8>)> {
        let changes = self.changes();
        self.server.hear(Said::Done);
        changes.into_iter().map(|change| (change.what, change.name)).collect()
    }

    /// A request of the teller's.
    fn teller(&mut self, opcode: u32, node: u64, body: Words) -> Result<Vec<u8>, Errno> {
        let mut request = self.request(opcode, node, &body.0);
        request[32..36].copy_from_slice(&TELLER.to_ne_bytes());
        let (error, bytes) = self.send(&request).expect("an answer");
        if error == 0 { Ok(bytes) } else { Err(Errno::from_raw_os_error(-error)) }
    }

    /// The node that the teller finds; 0: none.
    fn teller_finds(&mut self, dir: u64, name: &[u8]) -> u64 {
        long(&self.teller(op::LOOKUP, dir, words().text(name)).unwrap(), 0)
    }
}

fn made(kind: u32) -> What {
    What::Made { kind }
}

/// Issue 5, point 5: create, modify, delete, rename.
#[test]
fn what_the_host_does_in_a_known_directory_is_told_in_order_and_once() {
    let (temp, mut client, top) = share();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("file"), "1").unwrap();
    fs::create_dir(at("dir")).unwrap();
    fs::rename(at("file"), at("other")).unwrap();
    fs::remove_dir(at("dir")).unwrap();
    let name = |name: &str| name.as_bytes().to_vec();
    let told = client.whats();
    // What is gone again by now was made for nobody.
    let moved = What::Moved { to: top, name: name("other") };
    let expected = [
        (What::Written, name("file")),
        (What::Closed, name("file")),
        (moved, name("file")),
        (What::Removed { is_dir: true }, name("dir")),
    ];
    assert_eq!(told, expected);
    for _ in 0..100 {
        fs::write(at("other"), "again").unwrap();
    }
    assert_eq!(client.whats(), [(What::Written, name("other")), (What::Closed, name("other"))]);
    assert_eq!(client.whats(), []);
}

#[test]
fn what_the_guest_does_itself_is_not_told() {
    let (temp, mut client, top) = share();
    let (file, handle) = client.create(top, b"a", 0o644).unwrap();
    client.write(file.node, handle, 0, b"text").unwrap();
    client.release(file.node, handle).unwrap();
    client.make_dir(top, b"d", 0o755).unwrap();
    client.symlink(top, b"l", b"a").unwrap();
    client.link(file.node, top, b"h").unwrap();
    client.set(file.node, 1, (0, 0o600, 0, 0)).unwrap();
    client.set_xattr(file.node, b"user.x", b"y").unwrap();
    client.rename((top, b"a"), (top, b"b"), 0).unwrap();
    client.unlink(top, b"b").unwrap();
    client.remove_dir(top, b"d").unwrap();
    assert_eq!(client.whats(), []);
    fs::write(temp.path().join("b"), "of the host").unwrap();
    assert_eq!(client.whats()[0], (made(0o100_000), b"b".to_vec()));
}

/// Issue 5, point 5: nested.
#[test]
fn a_directory_is_watched_as_soon_as_the_guest_is_told_of_it() {
    let (temp, mut client, top) = share();
    fs::create_dir(temp.path().join("new")).unwrap();
    assert_eq!(client.changes(), [Change::new(made(0o040_000), top, b"new")]);
    assert_eq!(client.changes(), [], "one batch at a time");
    // The kernel looks, finds nothing, makes it.
    assert_eq!(client.teller_finds(top, b"new"), 0);
    let bytes = client.teller(op::MKDIR, top, words().u32(0o700).u32(0).text(b"new")).unwrap();
    let dir = long(&bytes, 0);
    assert_eq!(client.look_up(top, b"new").unwrap().node, dir, "it is the one that is there");
    client.server.hear(Said::Done);
    fs::write(temp.path().join("new/deep"), "").unwrap();
    let told = client.changes();
    assert_eq!((told[0].dir, told[0].what.clone()), (dir, made(0o100_000)));
}

/// A move is told with the file that the guest knows, and to whoever watches what was replaced.
#[test]
fn a_file_that_replaces_another_is_found_where_it_was_and_where_it_is() {
    let (temp, mut client, top) = share();
    fs::write(temp.path().join("old"), "old").unwrap();
    fs::write(temp.path().join("new"), "new").unwrap();
    let (old, new) = (client.look_up(top, b"old").unwrap(), client.look_up(top, b"new").unwrap());
    client.whats();
    fs::rename(temp.path().join("new"), temp.path().join("old")).unwrap();
    let told = client.changes();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].nodes, [new.node, old.node]);
    assert_eq!(client.teller_finds(top, b"new"), new.node);
    assert_eq!(client.teller_finds(top, b"old"), old.node);
    client.teller(op::RENAME2, top, words().u64(top).u64(0).text(b"new").text(b"old")).unwrap();
    client.server.hear(Said::Done);
    assert_eq!(client.look_up(top, b"old").unwrap().node, new.node);
    assert_eq!(client.look_up(top, b"new").map(drop), Err(Errno::NOENT));
}

#[test]
fn what_comes_from_elsewhere_comes_from_a_name_at_the_top() {
    let (temp, mut client, top) = share();
    let outside = tempfile::tempdir_in(temp.path().parent().unwrap()).unwrap();
    fs::write(outside.path().join("x"), "x").unwrap();
    fs::rename(outside.path().join("x"), temp.path().join("in")).unwrap();
    let told = client.changes();
    assert_eq!((told.len(), told[0].dir), (1, 1));
    let from = told[0].name.clone();
    let node = client.teller_finds(1, &from);
    assert_ne!(node, 0);
    assert_eq!(client.teller_finds(top, b"in"), 0);
    client.teller(op::RENAME, 1, words().u64(top).text(&from).text(b"in")).unwrap();
    client.server.hear(Said::Done);
    assert_eq!(client.look_up(top, b"in").unwrap().node, node);
    assert_eq!(client.teller_finds(1, &from), 0, "it is there only while it is told");
}

/// Spec 14.3: whoever speaks with the teller's number changes nothing.
#[test]
fn nothing_that_the_teller_asks_for_is_done() {
    let (temp, mut client, top) = share();
    fs::write(temp.path().join("file"), "kept").unwrap();
    fs::create_dir(temp.path().join("dir")).unwrap();
    let file = client.look_up(top, b"file").unwrap().node;
    let before = fs::metadata(temp.path().join("file")).unwrap();
    let requests = [
        (op::UNLINK, top, words().text(b"file")),
        (op::RMDIR, top, words().text(b"dir")),
        (op::MKDIR, top, words().u32(0o755).u32(0).text(b"made")),
        (op::MKNOD, top, words().u32(0o100_644).u64(0).u32(0).text(b"made")),
        (op::SYMLINK, top, words().text(b"made").text(b"/")),
        (op::CREATE, top, words().u32(2).u32(0o644).u64(0).text(b"made")),
        (op::LINK, top, words().u64(file).text(b"made")),
        (op::RENAME, top, words().u64(top).text(b"file").text(b"made")),
        (op::OPEN, file, words().u32(0o1001).u32(0)),
        (op::WRITE, file, words().u64(u64::MAX).u64(0).u32(1).u32(0).u64(0).u64(0).bytes(b"x")),
        (op::SETATTR, file, words().u32(0xff).u32(0).u64(0).u64(0).bytes(&[0; 64])),
        (op::SETXATTR, file, words().u32(1).u32(0).text(b"user.x").bytes(b"y")),
        (op::REMOVEXATTR, file, words().text(b"user.x")),
        (op::FALLOCATE, file, words().u64(u64::MAX).u64(0).u64(9).u64(0)),
        (op::TMPFILE, top, words().u32(2).u32(0o644).u64(0).text(b"made")),
        (op::READ, file, words().u64(u64::MAX).u64(0).u32(9).bytes(&[0; 20])),
        (op::OPENDIR, top, words().u64(0)),
    ];
    for (opcode, node, body) in requests {
        // Refused, or said to be done.
        drop(client.teller(opcode, node, body));
    }
    assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"kept");
    let mut names: Vec<_> =
        fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dir", "file"]);
    let after = fs::metadata(temp.path().join("file")).unwrap();
    assert_eq!((before.mode(), before.ctime_nsec()), (after.mode(), after.ctime_nsec()));
    assert_eq!(client.server.figures().1, 0, "no handle");
}

/// A handle of the teller's is released by whoever closes it last.
#[test]
fn a_handle_that_is_none_is_released_by_anybody() {
    let (temp, mut client, top) = share();
    fs::write(temp.path().join("file"), "").unwrap();
    let file = client.look_up(top, b"file").unwrap().node;
    let handle = long(&client.teller(op::OPEN, file, words().u32(1).u32(0)).unwrap(), 0);
    client.release(file, handle).unwrap();
    assert_eq!(client.read(file, handle, 0, 1), Err(Errno::BADF));
}

#[test]
fn what_is_gone_is_stood_in_for_as_long_as_it_is_told() {
    let (temp, mut client, top) = share();
    fs::write(temp.path().join("unknown"), "").unwrap();
    client.whats();
    fs::remove_file(temp.path().join("unknown")).unwrap();
    assert_eq!(client.changes().len(), 1);
    let bytes = client.teller(op::LOOKUP, top, words().text(b"unknown")).unwrap();
    assert_ne!(long(&bytes, 0), 0);
    assert_eq!((long(&bytes, 16), word(&bytes, 40 + 60) & 0o170_000), (0, 0o100_000), "believed for no time");
    assert_eq!(client.look_up(top, b"unknown").map(drop), Err(Errno::NOENT), "others see what is");
    client.server.hear(Said::Done);
    assert_eq!(client.teller_finds(top, b"unknown"), 0);
}

#[test]
fn more_directories_than_may_be_watched_cost_the_oldest_its_place() {
    let temp = tempfile::tempdir().unwrap();
    let mut client = Client::new(&[(temp.path(), true)]);
    client.server.watch_changes(3);
    let top = client.top(0);
    client.server.hear(Said::Teller(TELLER));
    let dirs: Vec<u64> =
        ["a", "b", "c"].map(|name| client.make_dir(top, name.as_bytes(), 0o755).unwrap().node).to_vec();
    assert_eq!(client.server.watch.len(), 3);
    fs::write(temp.path().join("c/x"), "").unwrap();
    let told = client.changes();
    assert!(told.iter().all(|change| change.dir == dirs[2]) && !told.is_empty(), "{told:?}");
    // What the guest forgets makes room.
    client.send(&client.request(op::FORGET, dirs[2], &words().u64(1).0));
    assert_eq!(client.server.watch.len(), 2);
}

/// Another kernel mounts it: whoever told is gone with the last one.
#[test]
fn nothing_is_told_before_somebody_tells() {
    let (temp, mut client, _) = share();
    client.ask(op::INIT, 0, &words().u32(7).u32(40).u32(0).u32(u32::MAX).bytes(&[0; 48]).0).unwrap();
    client.top(0);
    fs::write(temp.path().join("x"), "").unwrap();
    assert_eq!(client.changes(), []);
}

/// Spec 13.2: what a program in the guest watched before a sleep it is told of by whichever process serves it afterwards.
#[test]
fn another_process_after_a_sleep_tells_of_what_was_known_before() {
    let (temp, mut client, top) = share();
    let dir = client.make_dir(top, b"dir", 0o755).unwrap().node;
    let deep = client.make_dir(dir, b"deep", 0o755).unwrap().node;
    let saved = client.server.save();
    drop(client);
    let mut next = Client::new(&[(temp.path(), true)]);
    next.server.watch_changes(100);
    next.server.restore(&saved).unwrap();
    next.server.hear(Said::Teller(TELLER));
    for (place, node) in [("new", top), ("dir/new", dir), ("dir/deep/new", deep)] {
        fs::write(temp.path().join(place), "").unwrap();
        let told = next.changes();
        assert_eq!(
            told.first().map(|change| (change.dir, change.what.clone())),
            Some((node, made(0o100_000))),
            "{place}"
        );
        next.server.hear(Said::Done);
    }
}
