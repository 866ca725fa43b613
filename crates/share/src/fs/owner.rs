//! Whose the guest believes a file to be. On the host every file is the user's who runs Dhow; what the guest set with
//! `chown`, the set-user-ID, set-group-ID and sticky bits, and the kind of a device node, a FIFO or a socket are kept in an
//! extended attribute and are never real.

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

/// Extended attributes with this beginning are ours, and the guest does not see them.
pub(crate) const OURS: &[u8] = b"user.dhow.";
/// Where the record is kept.
const NAME: &str = "user.dhow.owner";

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
const KIND: u32 = 0o170_000;
/// Bits of a mode that are not permissions, and so are kept here.
pub(crate) const SPECIAL: u32 = 0o7000;

/// What is kept: `UID:GID`, and where there is more, `:BITS:DEVICE` (octal; hexadecimal, as the guest's kernel numbers it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Set-user-ID, set-group-ID, sticky.
    pub(crate) special: u32,
    /// `S_IFBLK` and the like, for what is a regular file on the host; else 0.
    pub(crate) kind: u32,
    pub(crate) device: u32,
}

impl Owner {
    /// Of a file without a record.
    pub(crate) const fn of(uid: u32, gid: u32) -> Owner {
        Owner { uid, gid, special: 0, kind: 0, device: 0 }
    }

    /// Parses a record. One that is none (somebody on the host wrote it) counts as absent.
    pub(crate) fn parse(text: &[u8]) -> Option<Owner> {
        let mut words = std::str::from_utf8(text).ok()?.split(':');
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (mut bits, mut device) = (0, 0);
        if let Some(word) = words.next() {
            bits = u32::from_str_radix(word, 8).ok()?;
            device = u32::from_str_radix(words.next()?, 16).ok()?;
        }
        let kind = bits & KIND;
        let real = [0, 0o010_000, 0o020_000, 0o060_000, 0o140_000].contains(&kind);
        let whole = words.next().is_none() && bits & !(KIND | SPECIAL) == 0;
        (real && whole).then_some(Owner { uid, gid, special: bits & SPECIAL, kind, device })
    }

    pub(crate) fn text(&self) -> String {
        let Owner { uid, gid, special, kind, device } = self;
        if special | kind == 0 {
            format!("{uid}:{gid}")
        } else {
            format!("{uid}:{gid}:{:o}:{device:x}", special | kind)
        }
    }

    /// Without the bits that a change of content or owner takes away (`chown(2)`, `write(2)`).
    #[must_use]
    pub(crate) fn tamed(self, permissions: u32) -> Owner {
        let mut taken = SET_UID;
        if permissions & GROUP_EXECUTE != 0 {
            taken |= SET_GID;
        }
        Owner { special: self.special & !taken, ..self }
    }

    pub(crate) fn hands_group_down(&self) -> bool {
        self.special & SET_GID != 0
    }
}

/// The record at `path`, whose last part is not followed.
pub(crate) fn read(path: &[u8]) -> Result<Option<Owner>, Errno> {
    let mut text = [0; 64];
    match rustix::fs::lgetxattr(path, NAME, &mut text) {
        Ok(length) => Ok(Owner::parse(&text[..length])),
        // Too long to be ours; not there; not to be had on this file system or this kind of file.
        Err(Errno::RANGE | Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same, where the path stands for an open file (`/proc/self/fd/…`).
pub(crate) fn read_open(path: &str) -> Result<Option<Owner>, Errno> {
    let mut text = [0; 64];
    match rustix::fs::getxattr(path, NAME, &mut text) {
        Ok(length) => Ok(Owner::parse(&text[..length])),
        Err(Errno::RANGE | Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps the record with the open file at `path`. False: its file system or its kind cannot.
pub(crate) fn write(path: &str, owner: &Owner) -> Result<bool, Errno> {
    match rustix::fs::setxattr(path, NAME, owner.text().as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which kinds of file can carry a record.
pub(crate) fn fits(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let table = [
            Owner::of(0, 0),
            Owner::of(u32::MAX - 1, 65_534),
            Owner { special: SET_UID, ..Owner::of(1, 2) },
            Owner { kind: 0o060_000, device: 0x1234_5678, ..Owner::of(1, 2) },
            Owner { special: SPECIAL, kind: 0o140_000, ..Owner::of(1, 2) },
        ];
        for owner in table {
            assert_eq!(Owner::parse(owner.text().as_bytes()), Some(owner), "{}", owner.text());
        }
    }

    #[test]
    fn what_is_no_record_counts_as_none() {
        for text in [
            "",
            "1",
            "1:",
            "1:2:",
            "1:2:4755:0",
            "1:2:4000",
            "1:2:4000:0:0",
            "-1:2",
            "1:2:100000:0",
            "1:2:9:0",
        ] {
            assert_eq!(Owner::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Owner::parse(b"\xff:1"), None);
    }

    #[test]
    fn a_write_takes_set_group_id_only_where_the_group_may_execute() {
        let owner = Owner { special: SPECIAL, ..Owner::of(0, 0) };
        assert_eq!(owner.tamed(0o755).special, 0o1000);
        assert_eq!(owner.tamed(0o644).special, 0o3000);
    }
}
