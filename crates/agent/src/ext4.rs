//! What the agent reads from an ext4 superblock (`fs/ext4/ext4.h`, `struct ext4_super_block`), and what it asks of
//! `mkfs.ext4`.

/// The label of Dhow's data file systems: an ext4 without it is somebody else's.
pub const LABEL: &str = "dhow-data";
/// Where the superblock stands, bytes from the disk's beginning.
pub const OFFSET: usize = 1024;

const MAGIC: u16 = 0xef53;
const INCOMPAT_64BIT: u32 = 0x80;
/// In `s_state`: the kernel met an error in the file system, and nobody has checked it since.
const ERROR_FS: u16 = 2;

/// The few fields that the agent decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Volume label.
    pub label: String,
    /// The file system's size, bytes.
    pub bytes: u64,
    /// It asks to be checked before it is used again.
    pub errors: bool,
}

impl Superblock {
    /// Reads one that begins at the first of `bytes`; `None` when there is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let magic = u16::from_le_bytes(bytes.get(56..58)?.try_into().ok()?);
        if magic != MAGIC {
            return None;
        }
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let low = u64::from(word(4)?);
        let high = if word(96)? & INCOMPAT_64BIT != 0 { u64::from(word(0x150)?) } else { 0 };
        let block = 1024_u64.checked_shl(word(24)?.min(6))?;
        let state = u16::from_le_bytes(bytes.get(58..60)?.try_into().ok()?);
        let label = bytes.get(120..136)?;
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            label: String::from_utf8_lossy(label).into_owned(),
            bytes: ((high << 32) | low).saturating_mul(block),
            errors: state & ERROR_FS != 0,
        })
    }
}

/// The arguments of `mkfs.ext4` for a new data disk. The feature set is fixed, so that a file system means the same
/// whatever the defaults of the tool; everything that can be done later is left to the kernel; nothing is discarded, since
/// the image has no blocks yet.
pub const MKFS: [&str; 15] = [
    "-F",
    "-q",
    "-L",
    LABEL,
    "-b",
    "4096",
    "-I",
    "256",
    "-m",
    "0",
    "-O",
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
    "--",
];

/// Whether a file system should be grown to its disk: a difference below one block group is not worth a run.
#[must_use]
pub fn should_grow(filesystem_bytes: u64, disk_bytes: u64) -> bool {
    disk_bytes.saturating_sub(filesystem_bytes) >= 128 << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.5.
    #[test]
    fn a_file_system_grows_when_its_disk_is_larger_by_a_block_group() {
        let gib = 1_u64 << 30;
        for (filesystem, disk, grows) in
            [(gib, gib, false), (gib, gib + (1 << 20), false), (gib, 2 * gib, true), (2 * gib, gib, false)]
        {
            assert_eq!(should_grow(filesystem, disk), grows, "{filesystem} {disk}");
        }
    }

    /// Spec 7.6: the file system itself advises a check.
    #[test]
    fn a_file_system_that_noted_an_error_says_so() {
        let mut bytes = vec![0; 1024];
        bytes[56..58].copy_from_slice(&MAGIC.to_le_bytes());
        for (state, errors) in [(1_u16, false), (2, true), (3, true), (0, false)] {
            bytes[58..60].copy_from_slice(&state.to_le_bytes());
            assert_eq!(Superblock::parse(&bytes).unwrap().errors, errors, "{state}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(0_u8.., 0..1100)) {
            if let Some(superblock) = Superblock::parse(&bytes) {
                proptest::prop_assert!(superblock.label.chars().count() <= 16);
            }
        }
    }
}
