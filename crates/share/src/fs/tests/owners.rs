//! Spec 14.2: files belong to the user on the host, and to whomever the guest says in the guest.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rustix::io::Errno;

use super::client::Client;
use crate::fs::abi::{op, set};

fn share() -> (tempfile::TempDir, Client, u64) {
    let temp = tempfile::tempdir().unwrap();
    let mut client = Client::new(&[(temp.path(), true)]);
    let top = client.top(0);
    (temp, client, top)
}

fn me() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Spec 14.2.
#[test]
fn whoever_makes_a_file_owns_it_inside_and_the_user_on_the_host() {
    let (temp, mut client, top) = share();
    (client.uid, client.gid) = (1234, 5678);
    let (file, _) = client.create(top, b"file", 0o640).unwrap();
    let dir = client.make_dir(top, b"dir", 0o750).unwrap();
    let fifo = client.make_node(top, b"fifo", 0o010_600, 0).unwrap();
    for (made, name, mode) in [(file, "file", 0o640), (dir, "dir", 0o750), (fifo, "fifo", 0o600)] {
        assert_eq!((made.uid, made.gid, made.mode & 0o777), (1234, 5678, mode), "{name}");
        let found = client.look_up(top, name.as_bytes()).unwrap();
        assert_eq!((found.uid, found.gid, found.mode), (made.uid, made.gid, made.mode), "{name}");
        let host = fs::metadata(temp.path().join(name)).unwrap();
        assert_eq!((host.uid(), host.gid(), host.mode() & 0o7777), (me().0, me().1, mode), "{name}");
    }
}

/// Spec 14.2.
#[test]
fn chown_is_seen_inside_and_not_real_on_the_host() {
    let (temp, mut client, top) = share();
    fs::write(temp.path().join("a"), "").unwrap();
    let file = client.look_up(top, b"a").unwrap();
    assert_eq!((file.uid, file.gid), me());
    let changed = client.set(file.node, set::UID | set::GID, (0, 0, 999, 998)).unwrap();
    assert_eq!((changed.uid, changed.gid), (999, 998));
    let changed = client.set(file.node, set::GID, (0, 0, 5, 7)).unwrap();
    assert_eq!((changed.uid, changed.gid), (999, 7));
    let host = fs::metadata(temp.path().join("a")).unwrap();
    assert_eq!((host.uid(), host.gid()), me());
}

/// Spec 14.2, 14.3: a bit that would let others of the host act as the user is never set there.
#[test]
fn set_user_id_is_seen_inside_and_never_on_the_host() {
    let (temp, mut client, top) = share();
    let (file, _) = client.create(top, b"a", 0o755).unwrap();
    assert_eq!(client.set(file.node, set::MODE, (0, 0o6755, 0, 0)).unwrap().mode, 0o106_755);
    assert_eq!(fs::metadata(temp.path().join("a")).unwrap().mode() & 0o7777, 0o755);
    // As chown(2) says: given away, it is harmless.
    assert_eq!(client.set(file.node, set::UID, (0, 0, 1, 0)).unwrap().mode, 0o100_755);
}

#[test]
fn a_directory_hands_its_group_down() {
    let (_temp, mut client, top) = share();
    let dir = client.make_dir(top, b"dir", 0o755).unwrap();
    client.set(dir.node, set::MODE | set::GID, (0, 0o2775, 0, 42)).unwrap();
    (client.uid, client.gid) = (1, 2);
    assert_eq!(client.create(dir.node, b"file", 0o644).unwrap().0.gid, 42);
    let below = client.make_dir(dir.node, b"below", 0o755).unwrap();
    assert_eq!((below.gid, below.mode), (42, 0o042_755));
}

/// Spec 14.3.
#[test]
fn device_nodes_are_files_on_the_host() {
    let (temp, mut client, top) = share();
    let node = client.make_node(top, b"null", 0o020_666, 0x103).unwrap();
    assert_eq!((node.mode, node.device), (0o020_666, 0x103));
    assert!(fs::symlink_metadata(temp.path().join("null")).unwrap().is_file());
    for kind in [0o060_000, 0o140_000, 0o010_000] {
        let name = format!("{kind:o}");
        assert_eq!(client.make_node(top, name.as_bytes(), kind | 0o600, 1).unwrap().mode, kind | 0o600);
        assert!(fs::symlink_metadata(temp.path().join(name)).unwrap().is_file());
    }
    assert_eq!(client.make_node(top, b"dir", 0o040_755, 0), Err(Errno::INVAL));
    assert_eq!(client.make_node(top, b"link", 0o120_777, 0), Err(Errno::INVAL));
}

/// The permissions are the host's, so that a change there is seen and an executable stays one.
#[test]
fn permissions_are_the_same_on_both_sides() {
    let (temp, mut client, top) = share();
    client.uid = 7;
    let (file, _) = client.create(top, b"a", 0o644).unwrap();
    fs::set_permissions(temp.path().join("a"), fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(client.attributes(file.node).unwrap().mode & 0o777, 0o711);
    client.set(file.node, set::MODE, (0, 0o400, 0, 0)).unwrap();
    assert_eq!(fs::metadata(temp.path().join("a")).unwrap().mode() & 0o777, 0o400);
}

/// A file server that is not root's must do for the guest's root what only permissions forbid its own user.
#[test]
fn a_user_without_privileges_serves_files_without_permissions() {
    let work = || {
        rustix::thread::set_capabilities(
            None,
            rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            },
        )
        .unwrap();
        let (temp, mut client, top) = share();
        client.uid = 12;
        let (file, handle) = client.create(top, b"a", 0o000).unwrap();
        assert_eq!((file.uid, file.mode & 0o777), (12, 0));
        client.write(file.node, handle, 0, b"x").unwrap();
        client.release(file.node, handle).unwrap();
        let handle = client.open(file.node, 2).unwrap();
        assert_eq!(client.read(file.node, handle, 0, 5).unwrap(), b"x");
        client.set(file.node, set::UID, (0, 0, 13, 0)).unwrap();
        let dir = client.make_dir(top, b"dir", 0o000).unwrap();
        client.create(dir.node, b"b", 0o444).unwrap();
        assert_eq!(client.look_up(dir.node, b"b").unwrap().mode & 0o777, 0o444);
        assert_eq!(client.list(dir.node, op::READDIRPLUS, 4096).unwrap(), [b"b"]);
        client.unlink(dir.node, b"b").unwrap();
        client.remove_dir(top, b"dir").unwrap();
        assert_eq!(client.look_up(top, b"a").unwrap().uid, 13);
        assert_eq!(fs::metadata(temp.path().join("a")).unwrap().mode() & 0o777, 0);
    };
    std::thread::spawn(work).join().unwrap();
}
