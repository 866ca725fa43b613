//! The rule by which a data disk may be formatted (spec 7.5): only when it is provably blank. The host proves that its
//! image holds no written block; the guest reads, beside that, every place where a known format leaves its mark.

use std::io::{self, Read, Seek, SeekFrom};

use dhow_model::DiskBlank;

use crate::ext4::{self, Superblock};

/// Bytes read as zeros at the disk's beginning and end; every file system, partition table, volume manager and
/// RAID format that we know has its mark there.
const EDGE: u64 = 4 << 20;
/// Bytes looked at in places between the edges where copies of superblocks stand (btrfs 64 MiB and 256 GiB, ext4's
/// backups at 32,768 blocks and its multiples).
const SPOT: u64 = 64 << 10;
const SPOTS: [u64; 6] = [64 << 20, 128 << 20, 384 << 20, 640 << 20, 1 << 30, 256 << 30];

/// Written to the first sector before formatting and erased after: a format that a power cut interrupted is begun
/// again, and is not mistaken for somebody's data. ext4 leaves the first 1,024 bytes to boot loaders.
pub const MARKER: &[u8; 32] = b"dhow: formatting was interrupted";

/// What is to be done with the data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Dhow's file system: mount it.
    Ours(Superblock),
    /// Nothing was ever written: format it.
    Format,
    /// Something else, in words: leave it alone.
    Foreign(String),
    /// Looks empty, but the host did not prove it: leave it alone.
    Unproven,
}

/// A place that could not be read. Never a reason to format.
#[derive(Debug)]
pub struct Unreadable {
    /// Where, bytes from the beginning.
    pub offset: u64,
    /// Why.
    pub source: io::Error,
}

/// Looks at a disk of `size` bytes and decides.
pub fn judge<D: Read + Seek>(disk: &mut D, size: u64, host: DiskBlank) -> Result<Verdict, Unreadable> {
    let mut head = vec![0; usize::try_from(size.min(4096)).unwrap_or(4096)];
    read_at(disk, 0, &mut head)?;
    if head.starts_with(MARKER) {
        return Ok(Verdict::Format);
    }
    if let Some(superblock) = head.get(ext4::OFFSET..).and_then(Superblock::parse) {
        return Ok(if superblock.label == ext4::LABEL {
            Verdict::Ours(superblock)
        } else {
            Verdict::Foreign(format!("an ext4 file system with the label {:?}", superblock.label))
        });
    }
    if let Some(offset) = first_written(disk, size)? {
        let what =
            known(disk, size)?.unwrap_or_else(|| format!("unknown content (the first at byte {offset})"));
        return Ok(Verdict::Foreign(what));
    }
    Ok(match host {
        DiskBlank::Proven => Verdict::Format,
        DiskBlank::Unproven => Verdict::Unproven,
    })
}

/// Where the first byte stands that is not zero, among the places that are looked at.
fn first_written<D: Read + Seek>(disk: &mut D, size: u64) -> Result<Option<u64>, Unreadable> {
    let edge = EDGE.min(size);
    let places = [(0, edge), (size - edge, edge)]
        .into_iter()
        .chain(SPOTS.into_iter().filter(|spot| *spot < size).map(|spot| (spot, SPOT.min(size - spot))));
    let mut buffer = vec![0; 1 << 18];
    for (start, length) in places {
        let mut at = 0;
        while at < length {
            let take = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = &mut buffer[..take];
            read_at(disk, start + at, chunk)?;
            if let Some(byte) = chunk.iter().position(|byte| *byte != 0) {
                return Ok(Some(start + at + byte as u64));
            }
            at += take as u64;
        }
    }
    Ok(None)
}

/// Formats that a person may have put there, so that the message names them.
fn known<D: Read + Seek>(disk: &mut D, size: u64) -> Result<Option<String>, Unreadable> {
    let marks: [(u64, &[u8], &str); 10] = [
        (0, b"XFSB", "an XFS file system"),
        (65600, b"_BHRfS_M", "a btrfs file system"),
        (1024, b"\xe2\xe1\xf5\xe0", "an EROFS image"),
        (0, b"hsqs", "a squashfs image"),
        (0, b"LUKS\xba\xbe", "a LUKS container"),
        (512, b"EFI PART", "a GPT partition table"),
        (536, b"LVM2 001", "an LVM volume"),
        (510, b"\x55\xaa", "a boot sector or partition table"),
        (4086, b"SWAPSPACE2", "swap space"),
        (0, b"QFI\xfb", "a qcow2 image that was attached as raw"),
    ];
    for (offset, mark, what) in marks {
        let mut found = vec![0; mark.len()];
        if offset + (mark.len() as u64) > size {
            continue;
        }
        read_at(disk, offset, &mut found)?;
        if found == mark {
            return Ok(Some(what.to_owned()));
        }
    }
    Ok(None)
}

fn read_at<D: Read + Seek>(disk: &mut D, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
    disk.seek(SeekFrom::Start(offset))
        .and_then(|_| disk.read_exact(buffer))
        .map_err(|source| Unreadable { offset, source })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const SIZE: u64 = 96 << 20;

    /// Where, and what stands there.
    type Writes<'a> = &'a [(u64, &'a [u8])];

    fn disk(writes: Writes) -> Cursor<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        for (offset, content) in writes {
            let offset = usize::try_from(*offset).unwrap();
            bytes[offset..offset + content.len()].copy_from_slice(content);
        }
        Cursor::new(bytes)
    }

    fn superblock(label: &str) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[56..58].copy_from_slice(&0xef53_u16.to_le_bytes());
        bytes[4..8].copy_from_slice(&1000_u32.to_le_bytes());
        bytes[24..28].copy_from_slice(&2_u32.to_le_bytes());
        bytes[120..120 + label.len()].copy_from_slice(label.as_bytes());
        bytes
    }

    /// Spec 7.5.
    #[test]
    fn only_a_disk_that_is_blank_and_proven_so_is_formatted() {
        use DiskBlank::{Proven, Unproven};
        let (ours, theirs) = (superblock("dhow-data"), superblock("backup"));
        let table: [(&str, Writes, DiskBlank, &str); 15] = [
            ("blank, proven", &[], Proven, "format"),
            ("blank, unproven", &[], Unproven, "unproven"),
            ("our ext4", &[(1024, &ours)], Unproven, "ours"),
            ("our ext4, though said to be blank", &[(1024, &ours)], Proven, "ours"),
            ("another's ext4", &[(1024, &theirs)], Proven, "an ext4 file system with the label \"backup\""),
            ("XFS", &[(0, b"XFSB")], Proven, "an XFS file system"),
            ("btrfs", &[(65600, b"_BHRfS_M")], Proven, "a btrfs file system"),
            ("GPT", &[(510, b"\x55\xaa"), (512, b"EFI PART")], Proven, "a GPT partition table"),
            ("an MBR", &[(510, b"\x55\xaa")], Proven, "a boot sector or partition table"),
            ("one bit at the first byte", &[(0, &[1])], Proven, "unknown content (the first at byte 0)"),
            (
                "one bit in the last byte",
                &[(SIZE - 1, &[1])],
                Proven,
                "unknown content (the first at byte 100663295)",
            ),
            (
                "RAID metadata near the end",
                &[(SIZE - 65536, b"\xfc\x4e\x2b\xa9")],
                Proven,
                "unknown content (the first at byte 100597760)",
            ),
            (
                "a mark between the edges",
                &[(64 << 20, &[7])],
                Proven,
                "unknown content (the first at byte 67108864)",
            ),
            ("our interrupted format", &[(0, MARKER), (4096, &[9; 64])], Unproven, "format"),
            ("a damaged marker", &[(0, &MARKER[..31])], Proven, "unknown content (the first at byte 0)"),
        ];
        for (name, writes, host, expected) in table {
            let seen = match judge(&mut disk(writes), SIZE, host).unwrap() {
                Verdict::Ours(_) => "ours".to_owned(),
                Verdict::Format => "format".to_owned(),
                Verdict::Unproven => "unproven".to_owned(),
                Verdict::Foreign(what) => what,
            };
            assert_eq!(seen, expected, "{name}");
        }
    }

    /// Reads fail from `bad` on.
    struct Failing(Cursor<Vec<u8>>, u64);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.position() + buffer.len() as u64 > self.1 {
                return Err(io::Error::other("injected"));
            }
            self.0.read(buffer)
        }
    }

    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    /// Spec 7.5: a read error is an error, never a reason to format.
    #[test]
    fn a_place_that_cannot_be_read_is_an_error_wherever_it_is() {
        for bad in [100, 8192, 1 << 20, SIZE - 1] {
            let mut disk = Failing(disk(&[]), bad);
            assert!(judge(&mut disk, SIZE, DiskBlank::Proven).is_err(), "unreadable from {bad}");
        }
    }

    #[test]
    fn a_disk_that_is_shorter_than_its_size_is_an_error() {
        let mut short = Cursor::new(vec![0; 1 << 20]);
        assert!(judge(&mut short, SIZE, DiskBlank::Proven).is_err());
    }
}
