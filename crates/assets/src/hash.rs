//! SHA-256 of files and bytes, and the list of block digests that tells where a damaged file differs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::{At as _, Result};

/// Bytes that one entry of a block list stands for.
pub const BLOCK: usize = 4096;
/// Bytes of a block's digest that a list keeps: it locates damage, the whole digest proves it.
const ENTRY: usize = 8;
const BUFFER: usize = 1 << 20;

/// Digest of bytes, 64 hexadecimal digits.
#[must_use]
pub fn bytes(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// Digest and length of a file.
///
/// # Errors
/// The file cannot be read.
pub fn file(path: &Path) -> Result<(String, u64)> {
    file_with(path, &mut |_| {})
}

/// Like [`file`], telling how far it is.
pub(crate) fn file_with(path: &Path, done: &mut dyn FnMut(u64)) -> Result<(String, u64)> {
    let mut source = File::open(path).at("open", path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut length = 0;
    loop {
        let count = source.read(&mut buffer).at("read", path)?;
        if count == 0 {
            return Ok((hex(&hasher.finalize()), length));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
        done(length);
    }
}

/// The block list of a file: the first bytes of each block's digest, one after the other.
pub(crate) fn blocks(path: &Path) -> Result<Vec<u8>> {
    let mut source = File::open(path).at("open", path)?;
    let mut list = Vec::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let count = (&mut source).take(BUFFER as u64).read_to_end(&mut buffer).at("read", path)?;
        if count == 0 {
            return Ok(list);
        }
        for block in buffer.chunks(BLOCK) {
            list.extend_from_slice(&Sha256::digest(block)[..ENTRY]);
        }
    }
}

/// The first block in which two lists differ, as a range of bytes.
pub(crate) fn first_difference(expected: &[u8], found: &[u8]) -> Option<(u64, u64)> {
    let count = expected.len().max(found.len()).div_ceil(ENTRY);
    let entry = |list: &[u8], index: usize| list.chunks(ENTRY).nth(index).map(<[u8]>::to_vec);
    let mut pairs = expected.chunks(ENTRY).zip(found.chunks(ENTRY)).enumerate();
    let index = pairs.find(|(_, (left, right))| left != right).map(|(index, _)| index).or_else(|| {
        let shorter = expected.len().min(found.len()) / ENTRY;
        (shorter < count && entry(expected, shorter) != entry(found, shorter)).then_some(shorter)
    })?;
    let start = (index * BLOCK) as u64;
    Some((start, start + BLOCK as u64))
}

/// Hexadecimal digits of bytes.
pub(crate) fn hex(content: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS[usize::from(value)] as char;
    content.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Whether a word is 64 lower-case hexadecimal digits, so that it is safe as a file's name.
pub(crate) fn is_digest(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A writer that hashes and counts what passes.
pub(crate) struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    length: u64,
}

impl<W: std::io::Write> HashingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), length: 0 }
    }

    /// The writer, the digest and the length of what passed.
    pub(crate) fn finish(self) -> (W, String, u64) {
        (self.inner, hex(&self.hasher.finalize()), self.length)
    }
}

impl<W: std::io::Write> std::io::Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's example.
    #[test]
    fn the_digest_is_sha_256() {
        assert_eq!(bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    /// Spec 7.2: damage is located.
    #[test]
    fn the_first_differing_block_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            dhow_home::atomic::write(&path, content, 0o600).unwrap();
            blocks(&path).unwrap()
        };
        let good = vec![7_u8; 10 * BLOCK + 5];
        let mut bad = good.clone();
        bad[5 * BLOCK + 1] ^= 0x10;
        let (good_list, bad_list) = (write("good", &good), write("bad", &bad));
        assert_eq!(first_difference(&good_list, &bad_list), Some((20480, 24576)));
        assert_eq!(first_difference(&good_list, &good_list), None);
        assert_eq!(first_difference(&good_list, &write("short", &good[..2 * BLOCK])), Some((8192, 12288)));
    }
}
