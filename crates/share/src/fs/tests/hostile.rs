//! Spec 14.3: a guest, hostile or not, cannot reach outside the shared directories, nor write to a read-only one.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::{Just, Strategy as _, any, prop_oneof};
use rustix::io::Errno;

use super::client::{Client, words};
use crate::fs::abi::{op, set};

/// Spec 14.3.
#[test]
fn no_name_leads_out() {
    let temp = tempfile::tempdir().unwrap();
    let inside = temp.path().join("in");
    fs::create_dir(&inside).unwrap();
    fs::write(temp.path().join("secret"), "x").unwrap();
    let mut client = Client::new(&[(&inside, true)]);
    let top = client.top(0);
    for name in [&b".."[..], b".", b"../secret", b"/etc/passwd", b"a/../../secret", b"", b"/"] {
        assert_eq!(client.look_up(top, name), Err(Errno::INVAL), "{name:?}");
        assert_eq!(client.make_dir(top, name, 0o755).map(drop), Err(Errno::INVAL));
        assert_eq!(client.create(top, name, 0o644).map(drop), Err(Errno::INVAL));
        assert_eq!(client.make_node(top, name, 0o100_644, 0).map(drop), Err(Errno::INVAL));
        assert_eq!(client.symlink(top, name, b"x").map(drop), Err(Errno::INVAL));
        assert_eq!(client.unlink(top, name), Err(Errno::INVAL));
        assert_eq!(client.remove_dir(top, name), Err(Errno::INVAL));
        assert_eq!(client.rename((top, name), (top, b"x"), 0), Err(Errno::INVAL));
        client.create(top, b"mine", 0o644).unwrap();
        assert_eq!(client.rename((top, b"mine"), (top, name), 0), Err(Errno::INVAL));
        client.unlink(top, b"mine").unwrap();
    }
    assert_eq!(client.look_up(top, &[b'n'; 256]), Err(Errno::NAMETOOLONG));
    // Without an end, and with more than a name.
    assert_eq!(client.ask(op::LOOKUP, top, b"secret"), Err(Errno::INVAL));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
}

/// Spec 14.3: what belongs to the engine itself is not there, whatever it is asked for by, and stays where it is.
#[test]
fn what_is_hidden_is_not_there_and_stays() {
    let temp = tempfile::tempdir().unwrap();
    let hidden = temp.path().join("engine");
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("data.img"), "x").unwrap();
    fs::write(temp.path().join("seen"), "x").unwrap();
    let mut client = Client::new(&[(temp.path(), true)]);
    client.server.hide(&hidden).unwrap();
    let top = client.top(0);
    assert_eq!(client.look_up(top, b"engine").map(drop), Err(Errno::NOENT));
    for opcode in [op::READDIR, op::READDIRPLUS] {
        let names = client.list(top, opcode, 4096).unwrap();
        assert!(!names.iter().any(|name| name == b"engine") && names.iter().any(|name| name == b"seen"));
    }
    assert_eq!(client.rename((top, b"engine"), (top, b"mine"), 0), Err(Errno::BUSY));
    client.make_dir(top, b"other", 0o755).unwrap();
    assert_eq!(client.rename((top, b"other"), (top, b"engine"), 0), Err(Errno::BUSY));
    assert_eq!(client.remove_dir(top, b"engine"), Err(Errno::BUSY));
    assert_eq!(fs::read(hidden.join("data.img")).unwrap(), b"x");
}

/// Spec 14.3.
#[test]
fn nothing_is_written_to_a_read_only_share() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a"), "content").unwrap();
    fs::create_dir(temp.path().join("dir")).unwrap();
    let mut client = Client::new(&[(temp.path(), false)]);
    let top = client.top(0);
    let file = client.look_up(top, b"a").unwrap().node;
    let handle = client.open(file, 0).unwrap();
    assert_eq!(client.read(file, handle, 0, 100).unwrap(), b"content");
    for flags in [1, 2, 0o1000, 0o1001, 3] {
        assert_eq!(client.open(file, flags), Err(Errno::ROFS), "{flags:o}");
    }
    assert_eq!(client.write(file, handle, 0, b"x"), Err(Errno::ROFS));
    assert_eq!(client.create(top, b"b", 0o644).map(drop), Err(Errno::ROFS));
    assert_eq!(client.make_dir(top, b"b", 0o755).map(drop), Err(Errno::ROFS));
    assert_eq!(client.make_node(top, b"b", 0o100_644, 0).map(drop), Err(Errno::ROFS));
    assert_eq!(client.symlink(top, b"b", b"x").map(drop), Err(Errno::ROFS));
    assert_eq!(client.link(file, top, b"b").map(drop), Err(Errno::ROFS));
    assert_eq!(client.unlink(top, b"a"), Err(Errno::ROFS));
    assert_eq!(client.remove_dir(top, b"dir"), Err(Errno::ROFS));
    assert_eq!(client.rename((top, b"a"), (top, b"b"), 0), Err(Errno::ROFS));
    for valid in [set::MODE, set::UID, set::SIZE, set::MTIME_NOW | set::MTIME, 0] {
        assert_eq!(client.set(file, valid, (0, 0o777, 1, 1)).map(drop), Err(Errno::ROFS), "{valid}");
    }
    assert_eq!(client.set_xattr(file, b"user.a", b"x"), Err(Errno::ROFS));
    assert_eq!(client.ask(op::REMOVEXATTR, file, &words().text(b"user.a").0), Err(Errno::ROFS));
    let body = words().u64(handle).u64(0).u64(10).u32(0).u32(0);
    assert_eq!(client.ask(op::FALLOCATE, file, &body.0), Err(Errno::ROFS));
    let body = words().u64(handle).u64(0).u64(file).u64(handle).u64(0).u64(10).u64(0);
    assert_eq!(client.ask(op::COPY_FILE_RANGE, file, &body.0), Err(Errno::ROFS));
    assert_eq!(fs::read(temp.path().join("a")).unwrap(), b"content");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
}

/// Spec 14.3: neither by the way through a share around it, nor by moving it away.
#[test]
fn a_read_only_share_within_another_one_stays_read_only() {
    let temp = tempfile::tempdir().unwrap();
    let inner = temp.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("a"), "content").unwrap();
    let mut client = Client::new(&[(temp.path(), true), (&inner, false)]);
    let (outer, top) = (client.top(0), client.top(1));
    let through = client.look_up(outer, b"inner").unwrap().node;
    assert_eq!(through, top);
    assert_eq!(client.create(through, b"b", 0o644).map(drop), Err(Errno::ROFS));
    let file = client.look_up(through, b"a").unwrap().node;
    assert_eq!(client.open(file, 2), Err(Errno::ROFS));
    assert_eq!(client.rename((outer, b"inner"), (outer, b"other"), 0), Err(Errno::BUSY));
    assert_eq!(client.remove_dir(outer, b"inner"), Err(Errno::BUSY));
    // From one share into another there is no way but copying.
    assert_eq!(client.link(file, outer, b"c").map(drop), Err(Errno::XDEV));
    assert_eq!(client.rename((top, b"a"), (outer, b"c"), 0), Err(Errno::ROFS));
}

#[test]
fn a_handle_is_good_for_its_own_file_only() {
    let temp = tempfile::tempdir().unwrap();
    let mut client = Client::new(&[(temp.path(), true)]);
    let top = client.top(0);
    let (a, handle) = client.create(top, b"a", 0o644).unwrap();
    let (b, _) = client.create(top, b"b", 0o644).unwrap();
    for forged in [0, handle + 100, u64::MAX] {
        assert_eq!(client.read(a.node, forged, 0, 1), Err(Errno::BADF));
    }
    assert_eq!(client.read(b.node, handle, 0, 1), Err(Errno::BADF));
    assert_eq!(client.release(b.node, handle), Err(Errno::BADF));
    let body = words().u64(handle).u64(0).u32(4096).bytes(&[0; 20]);
    assert_eq!(client.ask(op::READDIR, a.node, &body.0), Err(Errno::BADF));
    let read_only = client.open(a.node, 0).unwrap();
    assert_eq!(client.write(a.node, read_only, 0, b"x"), Err(Errno::BADF));
    client.release(a.node, handle).unwrap();
    assert_eq!(client.read(a.node, handle, 0, 1), Err(Errno::BADF));
    for node in [0, 3000, u64::MAX] {
        assert_eq!(client.attributes(node), Err(Errno::STALE));
        assert_eq!(client.open(node, 2), Err(Errno::STALE));
    }
}

/// Spec 14.3: no FIFO makes the server wait, no device is touched.
#[test]
fn what_is_no_file_is_not_opened() {
    let temp = tempfile::tempdir().unwrap();
    let fifo = temp.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("socket")).unwrap();
    let mut client = Client::new(&[(temp.path(), true)]);
    let top = client.top(0);
    for name in [&b"fifo"[..], b"socket"] {
        let node = client.look_up(top, name).unwrap().node;
        for flags in [0, 1, 2] {
            assert_eq!(client.open(node, flags), Err(Errno::NXIO));
        }
        assert!(client.set(node, set::SIZE, (5, 0, 0, 0)).is_err());
    }
    assert_eq!(client.open(top, 0), Err(Errno::ISDIR));
}

/// Spec 14.3: "races of rename against open": a directory and a link out of the share change places all the time.
#[test]
fn a_race_of_a_link_with_a_directory_is_never_won() {
    let temp = tempfile::tempdir().unwrap();
    let (inside, outside) = (temp.path().join("in"), temp.path().join("out"));
    for dir in [&inside, &outside, &inside.join("dir")] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(outside.join("file"), "secret").unwrap();
    fs::write(inside.join("dir/file"), "public").unwrap();
    symlink(&outside, inside.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = fs::File::open(&inside).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&dir, "dir", &dir, "link", exchange).unwrap();
            }
        });
        let mut client = Client::with(&[(&inside, true)], 64);
        let top = client.top(0);
        let mut read = 0;
        for _ in 0..20_000 {
            let found = client.walk(top, "dir/file").and_then(|file| {
                let handle = client.open(file.node, 0)?;
                let content = client.read(file.node, handle, 0, 100);
                client.release(file.node, handle)?;
                content
            });
            if let Ok(content) = found {
                assert_eq!(content, b"public");
                read += 1;
            }
            if let Ok(dir) = client.look_up(top, b"dir")
                && let Ok((made, handle)) = client.create(dir.node, b"made", 0o644)
            {
                client.unlink(dir.node, b"made").ok();
                client.release(made.node, handle).ok();
            }
            client.server.reset();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(read > 0);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// Spec 14.3: every operation, with garbage, with too little and with far too much.
#[test]
fn no_request_is_a_panic_or_a_way_out() {
    let temp = tempfile::tempdir().unwrap();
    let inside = temp.path().join("in");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("a"), "x").unwrap();
    let node = prop_oneof![0_u64..8, any::<u64>()];
    let opcode =
        prop_oneof![(0_u32..60).prop_filter("kept mounted", |code| *code != op::DESTROY), any::<u32>()];
    let tail = prop_oneof![
        Just(b"a\0b\0".to_vec()),
        Just(b"../x\0".to_vec()),
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 0..64)
    ];
    let number = prop_oneof![0_u64..6, Just(u64::MAX), Just(1 << 31), any::<u64>()];
    let body = (proptest::collection::vec(number, 0..10), tail);
    let runner = proptest::test_runner::Config { cases: 4000, ..Default::default() };
    let mut client = Client::new(&[(&inside, true)]);
    let top = client.top(0);
    client.look_up(top, b"a").unwrap();
    let client = std::cell::RefCell::new(client);
    proptest::test_runner::TestRunner::new(runner)
        .run(&(opcode, node, body), |(opcode, node, (numbers, tail))| {
            let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_ne_bytes).collect();
            bytes.extend(tail);
            let mut client = client.borrow_mut();
            let request = client.request(opcode, node, &bytes);
            client.send(&request);
            Ok(())
        })
        .unwrap();
    let left: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["in"]);
}
