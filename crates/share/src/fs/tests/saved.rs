//! A guest that goes on with another process than it slept with (spec 13.2).

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rustix::io::Errno;

use super::client::{Client, words};
use crate::fs::abi::op;

/// Another process for the same shares, that has taken what the last one saved.
fn after(client: &Client, shares: &[(&Path, bool)]) -> Result<Client, Errno> {
    let mut next = Client::new(shares);
    next.server.restore(&client.server.save())?;
    Ok(next)
}

/// Spec 13.2.
#[test]
fn what_was_known_and_open_is_known_and_open_in_another_process() {
    let temp = tempfile::tempdir().unwrap();
    let shares = [(temp.path(), true)];
    let mut client = Client::new(&shares);
    let top = client.top(0);
    let dir = client.make_dir(top, b"dir", 0o755).unwrap().node;
    let (file, handle) = client.create(dir, b"\xff log", 0o640).unwrap();
    client.write(file.node, handle, 0, b"before ").unwrap();
    let (kept, unread) = client.create(dir, b"kept", 0o200).unwrap();
    fs::rename(temp.path().join("dir/kept"), temp.path().join("dir/moved")).unwrap();
    assert_eq!(client.look_up(dir, b"moved").unwrap().node, kept.node);
    let mut next = after(&client, &shares).unwrap();
    drop(client);
    assert_eq!(next.write(file.node, handle, 7, b"after").unwrap(), 5);
    assert_eq!(next.read(file.node, handle, 0, 99).unwrap(), b"before after");
    assert_eq!(next.write(kept.node, unread, 0, b"x").unwrap(), 1);
    assert_eq!(next.attributes(file.node).unwrap().inode, file.inode);
    assert_eq!(next.look_up(dir, b"\xff log").unwrap().node, file.node);
    let (other, new) = next.create(dir, b"new", 0o600).unwrap();
    assert!(other.node > kept.node && new > unread, "no number is given twice");
    for (node, handle) in [(file.node, handle), (kept.node, unread)] {
        next.release(node, handle).unwrap();
    }
    next.send(&next.request(op::FORGET, file.node, &words().u64(2).0));
    assert_eq!(next.attributes(file.node), Err(Errno::STALE));
}

/// Never another file: neither one that took the name, nor one that was removed.
#[test]
fn what_is_gone_or_another_is_stale_and_can_be_closed() {
    let temp = tempfile::tempdir().unwrap();
    let shares = [(temp.path(), true)];
    let mut client = Client::new(&shares);
    let top = client.top(0);
    let (gone, first) = client.create(top, b"gone", 0o600).unwrap();
    let (other, second) = client.create(top, b"other", 0o600).unwrap();
    let saved = client.server.save();
    fs::remove_file(temp.path().join("gone")).unwrap();
    fs::write(temp.path().join("new"), "secret").unwrap();
    fs::rename(temp.path().join("new"), temp.path().join("other")).unwrap();
    let mut next = Client::new(&shares);
    next.server.restore(&saved).unwrap();
    for (node, handle) in [(gone.node, first), (other.node, second)] {
        assert_eq!(next.read(node, handle, 0, 9), Err(Errno::STALE));
        assert_eq!(next.write(node, handle, 0, b"x"), Err(Errno::STALE));
        assert_eq!(next.attributes(node), Err(Errno::STALE));
        next.release(node, handle).unwrap();
    }
    assert_eq!(fs::read(temp.path().join("other")).unwrap(), b"secret");
    assert_ne!(next.look_up(top, b"other").unwrap().node, other.node);
}

/// Spec 14.3: a share that has become read-only, or another directory, is not gone on with.
#[test]
fn other_shares_than_before_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut client = Client::new(&[(one.path(), true)]);
    client.top(0);
    for shares in
        [&[(two.path(), true)][..], &[(one.path(), false)], &[(one.path(), true), (two.path(), true)], &[]]
    {
        assert!(shares.is_empty() || after(&client, shares).is_err(), "{shares:?}");
    }
    assert!(after(&client, &[(one.path(), true)]).is_ok());
}

fn saved(temp: &Path) -> Vec<u8> {
    let mut client = Client::new(&[(temp, true)]);
    let top = client.top(0);
    let dir = client.make_dir(top, b"dir", 0o755).unwrap_or_else(|_| client.look_up(top, b"dir").unwrap());
    for name in [&b"a"[..], b"b"] {
        let found = client.create(dir.node, name, 0o600);
        assert!(found.is_ok());
    }
    client.server.save()
}

#[test]
fn a_state_that_is_cut_short_or_too_long_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let bytes = saved(temp.path());
    let mut next = Client::new(&[(temp.path(), true)]);
    for end in 0..bytes.len() {
        assert!(next.server.restore(&bytes[..end]).is_err(), "{end}");
    }
    assert!(next.server.restore(&[&bytes[..], b"x"].concat()).is_err());
    assert_eq!(next.server.figures(), (1, 0), "nothing of it is known");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Spec 14.3: whatever the bytes are, reading them ends, and what is reached by them is in the share.
    #[test]
    fn no_state_is_a_panic_or_a_way_out(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let temp = tempfile::tempdir().unwrap();
        let mut bytes = saved(temp.path());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut next = Client::new(&[(temp.path(), true)]);
        if next.server.restore(&bytes).is_ok() {
            for node in 1..8 {
                drop(next.attributes(node));
                drop(next.look_up(node, b"a"));
                drop(next.list(node, op::READDIRPLUS, 4096));
            }
        }
    }
}
