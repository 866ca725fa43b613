//! The file of a dumped memory, as a pure format. All numbers are little-endian.
//!
//! ```text
//!  header │ pages of a block │ pages of a block │ … │ table: one entry for each block
//!  4 KiB                                              64 bytes each, by ascending block
//! ```
//!
//! The memory is cut into blocks of 1 MiB and these into pages of 4 KiB. Only pages that are not all zeroes are there; an
//! entry says which, where they are and what their checksum is. The header has the table's checksum, and its own is what
//! stands for the whole file. A file may hold anything: what is read from it is checked before it is used.

use crate::Damage;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Bytes of a block.
pub(super) const BLOCK: usize = 1 << 20;
/// Bytes of the header, most of them zeroes: data begins on a page of the file.
pub(super) const HEADER: usize = PAGE;
/// Bytes of an entry.
pub(super) const ENTRY: usize = 64;

const PAGES: usize = BLOCK / PAGE;
const MAGIC: &[u8; 8] = b"DHOWMEM1";
/// Where the header's own checksum is, which covers what is before it.
const CHECKSUM_AT: usize = 48;

/// XXH3 of 64 bits: tells damage, not malice.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the memory.
    pub(super) memory: u64,
    /// Where the table begins: where the data ends.
    pub(super) table: u64,
    /// Entries of the table.
    pub(super) entries: u64,
    /// The table's checksum.
    pub(super) checksum: u64,
}

impl Header {
    /// The bytes, and the checksum that stands for the file.
    pub(super) fn encode(&self) -> (Vec<u8>, u64) {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC);
        for number in [(PAGE | BLOCK << 16) as u64, self.memory, self.table, self.entries, self.checksum] {
            bytes.extend(number.to_le_bytes());
        }
        let own = checksum(&bytes);
        bytes.extend(own.to_le_bytes());
        bytes.resize(HEADER, 0);
        (bytes, own)
    }

    /// Reads the header of a file of this length, of a memory of this size and with this checksum.
    pub(super) fn parse(bytes: &[u8], length: u64, memory: u64, noted: u64) -> Result<Self, Damage> {
        let number = |at: usize| u64_at(bytes, at).ok_or(Damage::Format);
        if bytes.get(..MAGIC.len()) != Some(MAGIC) || number(8)? != (PAGE | BLOCK << 16) as u64 {
            return Err(Damage::Format);
        }
        let own = checksum(bytes.get(..CHECKSUM_AT).ok_or(Damage::Format)?);
        if own != number(CHECKSUM_AT)? || own != noted {
            return Err(Damage::Description);
        }
        let header =
            Self { memory: number(16)?, table: number(24)?, entries: number(32)?, checksum: number(40)? };
        if header.memory != memory {
            return Err(Damage::Size { expected: memory, found: header.memory });
        }
        let blocks = memory / BLOCK as u64;
        let end = header.entries.checked_mul(ENTRY as u64).and_then(|size| size.checked_add(header.table));
        if header.entries > blocks || header.table < HEADER as u64 || end != Some(length) {
            return Err(Damage::Nonsense { at: 24 });
        }
        Ok(header)
    }
}

/// One block of the memory that has pages in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Which block of the memory.
    pub(super) block: u64,
    /// Where its pages are in the file, one after the other.
    pub(super) at: u64,
    /// Their checksum.
    pub(super) checksum: u64,
    /// Which pages: a bit for each, the lowest of the first byte is page 0.
    pub(super) pages: [u8; PAGES / 8],
}

impl Entry {
    /// Bytes of the block that are in the file.
    pub(super) fn length(&self) -> usize {
        self.pages.iter().map(|byte| byte.count_ones() as usize).sum::<usize>() * PAGE
    }

    /// Runs of pages that are there: first page and one past the last.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let there = |page: usize| page < PAGES && self.pages[page / 8] >> (page % 8) & 1 == 1;
        let mut page = 0;
        std::iter::from_fn(move || {
            let first = (page..PAGES).find(|page| there(*page))?;
            page = (first..=PAGES).find(|page| !there(*page))?;
            Some((first, page))
        })
    }

    fn encode(&self, to: &mut Vec<u8>) {
        for number in [self.block, self.at, self.checksum, 0] {
            to.extend(number.to_le_bytes());
        }
        to.extend(self.pages);
    }
}

/// The table's bytes and its checksum.
pub(super) fn encode_table(entries: &[Entry]) -> (Vec<u8>, u64) {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY);
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    let sum = checksum(&bytes);
    (bytes, sum)
}

/// Reads the table of a file with this header.
pub(super) fn parse_table(bytes: &[u8], header: &Header) -> Result<Vec<Entry>, Damage> {
    if checksum(bytes) != header.checksum {
        return Err(Damage::Description);
    }
    let blocks = header.memory / BLOCK as u64;
    let mut entries: Vec<Entry> = Vec::with_capacity(bytes.len() / ENTRY);
    for (number, bytes) in bytes.chunks_exact(ENTRY).enumerate() {
        let nonsense = Damage::Nonsense { at: header.table + (number * ENTRY) as u64 };
        let field = |at| u64_at(bytes, at).ok_or(nonsense.clone());
        let pages = bytes.get(32..).and_then(|pages| pages.try_into().ok()).ok_or(nonsense.clone())?;
        let entry = Entry { block: field(0)?, at: field(8)?, checksum: field(16)?, pages };
        let end = entry.at.checked_add(entry.length() as u64);
        let ascends = entries.last().is_none_or(|before| before.block < entry.block);
        let inside = entry.at >= HEADER as u64 && end.is_some_and(|end| end <= header.table);
        if !ascends || entry.block >= blocks || !inside || entry.length() == 0 {
            return Err(nonsense);
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
