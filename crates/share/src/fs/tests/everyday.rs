//! What a guest does all day.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use rustix::io::Errno;

use super::client::{Client, long, words};
use crate::fs::abi::op;

fn share() -> (tempfile::TempDir, Client, u64) {
    let temp = tempfile::tempdir().unwrap();
    let mut client = Client::new(&[(temp.path(), true)]);
    let top = client.top(0);
    (temp, client, top)
}

/// Spec 14.1.
#[test]
fn what_a_guest_writes_is_there_on_the_host_and_the_other_way_around() {
    let (temp, mut client, top) = share();
    let (file, handle) = client.create(top, b"a", 0o644).unwrap();
    assert_eq!(client.write(file.node, handle, 3, b"lo").unwrap(), 2);
    client.release(file.node, handle).unwrap();
    assert_eq!(fs::read(temp.path().join("a")).unwrap(), b"\0\0\0lo");
    fs::write(temp.path().join("b"), "from the host").unwrap();
    let file = client.look_up(top, b"b").unwrap();
    assert_eq!(file.size, 13);
    let handle = client.open(file.node, 0).unwrap();
    assert_eq!(client.read(file.node, handle, 5, 100).unwrap(), b"the host");
}

#[test]
fn a_file_that_was_made_meanwhile_is_opened_unless_it_must_be_new() {
    let (temp, mut client, top) = share();
    fs::write(temp.path().join("a"), "x").unwrap();
    let made = |client: &mut Client, flags: u32| {
        client.ask(op::CREATE, top, &words().u32(flags).u32(0o644).u32(0).u32(0).text(b"a").0)
    };
    assert_eq!(made(&mut client, 0o302).map(drop), Err(Errno::EXIST));
    let bytes = made(&mut client, 0o102).unwrap();
    let (node, handle) = (long(&bytes, 0), long(&bytes, 128));
    assert_eq!(client.read(node, handle, 0, 10).unwrap(), b"x");
}

#[test]
fn names_of_any_bytes_and_255_of_them() {
    let (temp, mut client, top) = share();
    let mut names =
        vec![b"\xff\xfe".to_vec(), "ä".into(), b"a b\n".to_vec(), vec![b'n'; 255], b"...".to_vec()];
    names.sort();
    for name in &names {
        client.create(top, name, 0o600).unwrap();
        client.look_up(top, name).unwrap();
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), names.len());
    for opcode in [op::READDIR, op::READDIRPLUS] {
        assert_eq!(client.list(top, opcode, 4096).unwrap(), names);
    }
}

#[test]
fn a_listing_is_whole_whatever_the_size_of_its_parts() {
    let (temp, mut client, top) = share();
    let mut names: Vec<Vec<u8>> = (0..500).map(|n| format!("file-{n}").into_bytes()).collect();
    for name in &names {
        fs::write(temp.path().join(std::str::from_utf8(name).unwrap()), "").unwrap();
    }
    names.sort();
    for size in [512, 1000, 4096, 32 << 10, 1 << 20] {
        for opcode in [op::READDIR, op::READDIRPLUS] {
            assert_eq!(client.list(top, opcode, size).unwrap(), names, "{opcode} {size}");
        }
    }
}

#[test]
fn the_directory_of_shares_lists_them_and_cannot_be_changed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut client = Client::new(&[(one.path(), true), (two.path(), false)]);
    for opcode in [op::READDIR, op::READDIRPLUS] {
        assert_eq!(client.list(1, opcode, 4096).unwrap(), [b"0", b"1"]);
    }
    assert_eq!(client.make_dir(1, b"x", 0o755), Err(Errno::ROFS));
    assert_eq!(client.remove_dir(1, b"0"), Err(Errno::ROFS));
    assert_eq!(client.look_up(1, b"2"), Err(Errno::NOENT));
    assert_eq!(client.attributes(1).unwrap().mode, 0o040_555);
}

#[test]
fn renames_keep_a_file_and_its_number() {
    let (temp, mut client, top) = share();
    let dir = client.make_dir(top, b"dir", 0o755).unwrap();
    let (file, handle) = client.create(top, b"a", 0o644).unwrap();
    client.release(file.node, handle).unwrap();
    client.rename((top, b"a"), (dir.node, b"b"), 0).unwrap();
    assert_eq!(client.attributes(file.node).unwrap().inode, file.inode);
    assert_eq!(client.look_up(dir.node, b"b").unwrap().node, file.node);
    client.create(top, b"c", 0o644).unwrap();
    assert_eq!(client.rename((top, b"c"), (dir.node, b"b"), 1), Err(Errno::EXIST));
    client.rename((top, b"c"), (dir.node, b"b"), 2).unwrap();
    assert_eq!(client.look_up(top, b"c").unwrap().node, file.node);
    assert_eq!(client.rename((top, b"c"), (dir.node, b"b"), 4), Err(Errno::INVAL));
    client.rename((top, b"dir"), (top, b"moved"), 0).unwrap();
    assert_eq!(client.attributes(dir.node).unwrap().mode & 0o170_000, 0o040_000);
    assert!(temp.path().join("moved/b").exists());
}

#[test]
fn a_file_that_is_removed_lives_on_while_it_is_open() {
    let (_temp, mut client, top) = share();
    let (file, handle) = client.create(top, b"a", 0o644).unwrap();
    client.write(file.node, handle, 0, b"still").unwrap();
    client.unlink(top, b"a").unwrap();
    assert_eq!(client.look_up(top, b"a"), Err(Errno::NOENT));
    assert_eq!(client.attributes(file.node).unwrap().links, 0);
    assert_eq!(client.set(file.node, 8, (2, 0, 0, 0)).unwrap().size, 2);
    assert_eq!(client.read(file.node, handle, 0, 9).unwrap(), b"st");
    client.release(file.node, handle).unwrap();
    assert_eq!(client.attributes(file.node), Err(Errno::STALE));
}

#[test]
fn hard_links_are_one_file() {
    let (_temp, mut client, top) = share();
    let (file, handle) = client.create(top, b"a", 0o644).unwrap();
    client.release(file.node, handle).unwrap();
    let linked = client.link(file.node, top, b"b").unwrap();
    assert_eq!((linked.node, linked.links), (file.node, 2));
    client.unlink(top, b"a").unwrap();
    assert_eq!(client.attributes(file.node).unwrap().links, 1);
    assert_eq!(client.link(file.node, top, b"b"), Err(Errno::EXIST));
}

#[test]
fn a_file_without_a_name_can_be_given_one() {
    let (temp, mut client, top) = share();
    let bytes = client.ask(op::TMPFILE, top, &words().u32(2).u32(0o600).u32(0).u32(0).text(b"/").0).unwrap();
    let (node, handle) = (long(&bytes, 0), long(&bytes, 128));
    client.write(node, handle, 0, b"x").unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    client.link(node, top, b"named").unwrap();
    client.release(node, handle).unwrap();
    assert_eq!(client.attributes(node).unwrap().links, 1);
    assert_eq!(fs::read(temp.path().join("named")).unwrap(), b"x");
}

/// Issue 5: changes made on the host are seen; a file that is another one by now is not taken for the old one.
#[test]
fn a_file_that_the_host_replaced_is_another_one() {
    let (temp, mut client, top) = share();
    let path = temp.path().join("a");
    fs::write(&path, "one").unwrap();
    let old = client.look_up(top, b"a").unwrap();
    fs::write(temp.path().join("new"), "other").unwrap();
    fs::rename(temp.path().join("new"), &path).unwrap();
    assert_eq!(client.attributes(old.node), Err(Errno::STALE));
    assert_eq!(client.open(old.node, 0), Err(Errno::STALE));
    let new = client.look_up(top, b"a").unwrap();
    assert_ne!(new.node, old.node);
    assert_eq!(new.size, 5);
}

#[test]
fn appending_goes_to_the_end_whatever_the_guest_believes() {
    let (temp, mut client, top) = share();
    fs::write(temp.path().join("log"), "one\n").unwrap();
    let file = client.look_up(top, b"log").unwrap();
    let handle = client.open(file.node, 0o2001).unwrap();
    fs::write(temp.path().join("log"), "one\ntwo\n").unwrap();
    client.write(file.node, handle, 4, b"three\n").unwrap();
    assert_eq!(fs::read_to_string(temp.path().join("log")).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn holes_stay_holes() {
    let (temp, mut client, top) = share();
    let (file, handle) = client.create(top, b"a", 0o644).unwrap();
    client.write(file.node, handle, 1 << 30, b"x").unwrap();
    assert!(fs::metadata(temp.path().join("a")).unwrap().blocks() < 64);
    let seek = |client: &mut Client, offset, whence| {
        let body = words().u64(handle).u64(offset).u32(whence).u32(0);
        client.ask(op::LSEEK, file.node, &body.0).map(|bytes| long(&bytes, 0))
    };
    assert_eq!(seek(&mut client, 0, 3), Ok(1 << 30));
    assert_eq!(seek(&mut client, 0, 4), Ok(0));
    assert_eq!(seek(&mut client, 0, 0), Err(Errno::INVAL));
    assert_eq!(seek(&mut client, 1 << 31, 3), Err(Errno::NXIO));
}

#[test]
fn links_are_read_and_never_followed() {
    let (temp, mut client, top) = share();
    let link = client.symlink(top, b"out", b"/etc/passwd").unwrap();
    assert_eq!(link.mode & 0o170_000, 0o120_000);
    assert_eq!(client.ask(op::READLINK, link.node, &[]).unwrap(), b"/etc/passwd");
    assert_eq!(fs::read_link(temp.path().join("out")).unwrap(), Path::new("/etc/passwd"));
    symlink("/", temp.path().join("root")).unwrap();
    let root = client.look_up(top, b"root").unwrap();
    assert_eq!(client.look_up(root.node, b"etc"), Err(Errno::NOTDIR));
    assert_eq!(client.list(root.node, op::READDIR, 4096), Err(Errno::NOTDIR));
    assert!(client.open(root.node, 0).is_err());
    assert!(client.open(link.node, 0).is_err());
}

#[test]
fn attributes_are_kept_and_listed() {
    let (temp, mut client, top) = share();
    let (file, _) = client.create(top, b"a", 0o644).unwrap();
    client.set_xattr(file.node, b"user.color", b"red").unwrap();
    client.set_xattr(file.node, b"security.capability", b"caps").unwrap();
    client.set_xattr(file.node, b"trusted.overlay.opaque", b"y").unwrap();
    assert_eq!(client.get_xattr(file.node, b"user.color").unwrap(), b"red");
    assert_eq!(client.get_xattr(file.node, b"security.capability").unwrap(), b"caps");
    assert_eq!(client.get_xattr(file.node, b"user.none"), Err(Errno::NODATA));
    let names = client.ask(op::LISTXATTR, file.node, &words().u32(1024).u32(0).0).unwrap();
    let mut names: Vec<&[u8]> = names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    assert_eq!(names, [&b"security.capability"[..], b"trusted.overlay.opaque", b"user.color"]);
    let mut value = [0; 8];
    let host = rustix::fs::getxattr(temp.path().join("a"), "user.color", &mut value).unwrap();
    assert_eq!(&value[..host], b"red");
    client.ask(op::REMOVEXATTR, file.node, &words().text(b"user.color").0).unwrap();
    assert_eq!(client.get_xattr(file.node, b"user.color"), Err(Errno::NODATA));
}

/// Issue 5: "millions of files": what the guest knows costs no descriptors.
#[test]
fn more_files_and_directories_than_there_are_descriptors() {
    let temp = tempfile::tempdir().unwrap();
    let mut client = Client::with(&[(temp.path(), true)], 64);
    let top = client.top(0);
    let mut known = Vec::new();
    for n in 0..300 {
        let dir = client.make_dir(top, format!("d{n}").as_bytes(), 0o755).unwrap();
        let (file, handle) = client.create(dir.node, b"f", 0o644).unwrap();
        client.release(file.node, handle).unwrap();
        known.push((dir, file));
    }
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 200, "{open} descriptors");
    for (dir, file) in &known {
        assert_eq!(client.attributes(dir.node).unwrap().inode, dir.inode);
        assert_eq!(client.look_up(dir.node, b"f").unwrap().node, file.node);
        let handle = client.open(file.node, 0).unwrap();
        client.release(file.node, handle).unwrap();
    }
    // What is open is limited, and said so.
    let mut handles = Vec::new();
    let refused = loop {
        match client.open(known[0].1.node, 0) {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
    };
    assert_eq!((refused, handles.len()), (Errno::NFILE, 32));
}

#[test]
fn what_is_forgotten_is_gone_and_what_is_known_twice_is_not() {
    let (_temp, mut client, top) = share();
    let (file, handle) = client.create(top, b"a", 0o644).unwrap();
    client.release(file.node, handle).unwrap();
    client.look_up(top, b"a").unwrap();
    let forget = |client: &mut Client, count: u64| {
        let request = client.request(op::FORGET, file.node, &words().u64(count).0);
        assert_eq!(client.send(&request), None);
    };
    forget(&mut client, 1);
    assert!(client.attributes(file.node).is_ok());
    forget(&mut client, 1);
    assert_eq!(client.attributes(file.node), Err(Errno::STALE));
    assert_ne!(client.look_up(top, b"a").unwrap().node, file.node);
}
