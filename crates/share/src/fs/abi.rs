//! FUSE as it goes over the ring (`linux/fuse.h`, version 7.31 and later): numbers, and how requests are taken apart and
//! answers put together. Words are in the host's order, which is the guest's: both are little-endian.

use rustix::io::Errno;

/// What a request asks for.
pub(crate) mod op {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const SYNCFS: u32 = 50;
    pub(crate) const TMPFILE: u32 = 51;
}

/// What both sides can do, said in `INIT`.
pub(crate) mod can {
    pub(crate) const ASYNC_READ: u32 = 1;
    pub(crate) const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub(crate) const BIG_WRITES: u32 = 1 << 5;
    pub(crate) const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub(crate) const DO_READDIRPLUS: u32 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub(crate) const ASYNC_DIO: u32 = 1 << 15;
    pub(crate) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(crate) const MAX_PAGES: u32 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u32 = 1 << 23;
    pub(crate) const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}

/// Which attributes a `SETATTR` sets.
pub(crate) mod set {
    pub(crate) const MODE: u32 = 1;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const HANDLE: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
    pub(crate) const KILL_SUIDGID: u32 = 1 << 11;
}

/// Of a `WRITE`: from the page cache, whose offset counts even where the file is open for appending.
pub(crate) const WRITE_CACHE: u32 = 1;
/// Of a `WRITE`: takes set-user-ID and set-group-ID away.
pub(crate) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// Of an `OPEN` or `CREATE`: a truncation takes set-user-ID and set-group-ID away.
pub(crate) const OPEN_KILL_SUIDGID: u32 = 1;
/// Of an answer to `OPEN`: what the guest has cached stays good while size and time are the same.
pub(crate) const KEEP_CACHE: u32 = 1 << 1;

/// Open flags of Linux that are the same on x86-64 and Arm64; no other is looked at.
pub(crate) mod flag {
    pub(crate) const ACCESS: u32 = 3;
    pub(crate) const WRITE_ONLY: u32 = 1;
    pub(crate) const READ_WRITE: u32 = 2;
    pub(crate) const EXCLUSIVE: u32 = 0o200;
    pub(crate) const TRUNCATE: u32 = 0o1000;
    pub(crate) const APPEND: u32 = 0o2000;
}

/// Bytes of a request's header and of an answer's.
pub(crate) const IN_HEADER: usize = 40;
pub(crate) const OUT_HEADER: usize = 16;
/// The most that one `READ` or `WRITE` carries.
pub(crate) const MAX_DATA: usize = 1 << 20;
/// The largest request: header, its own words, data.
pub(crate) const MAX_REQUEST: usize = MAX_DATA + 4096;

/// A request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The thread that asks, as the guest's first process sees it.
    pub(crate) pid: u32,
}

/// What is left of a request. Taking more than there is, is an invalid argument.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a>(pub(crate) &'a [u8]);

type Taken<T> = Result<T, Errno>;

impl<'a> Body<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Taken<&'a [u8]> {
        let (now, later) = self.0.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.0 = later;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Taken<[u8; N]> {
        let (now, later) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = later;
        Ok(*now)
    }

    pub(crate) fn u32(&mut self) -> Taken<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self) -> Taken<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Taken<()> {
        self.bytes(count).map(drop)
    }

    /// Up to the next NUL, which is not part of it and must be there.
    pub(crate) fn text(&mut self) -> Taken<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let text = self.bytes(end)?;
        self.skip(1)?;
        Ok(text)
    }

    /// The header of a whole request.
    pub(crate) fn header(&mut self) -> Taken<Header> {
        let length = self.0.len();
        let said = self.u32()?;
        let opcode = self.u32()?;
        let (unique, node) = (self.u64()?, self.u64()?);
        let (uid, gid) = (self.u32()?, self.u32()?);
        let pid = self.u32()?;
        self.skip(4)?;
        if usize::try_from(said) != Ok(length) {
            return Err(Errno::INVAL);
        }
        Ok(Header { opcode, unique, node, uid, gid, pid })
    }
}

/// A name in a directory: what cannot mean anything but an entry of it.
pub(crate) fn name(text: &[u8]) -> Result<&[u8], Errno> {
    if text.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    if text.is_empty() || text == b"." || text == b".." || text.contains(&b'/') || text.contains(&0) {
        return Err(Errno::INVAL);
    }
    Ok(text)
}

/// The largest answer.
const MAX_ANSWER: usize = OUT_HEADER + MAX_DATA;

/// An answer in the making; its memory is kept for the next one.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: Box<[u8]>,
    used: usize,
}

impl Answer {
    pub(crate) fn new() -> Answer {
        Answer { bytes: vec![0; MAX_ANSWER].into(), used: OUT_HEADER }
    }

    /// Begins anew, behind the header.
    pub(crate) fn clear(&mut self) {
        self.used = OUT_HEADER;
    }

    pub(crate) fn u32(&mut self, word: u32) -> &mut Self {
        self.bytes(&word.to_ne_bytes())
    }

    pub(crate) fn u64(&mut self, word: u64) -> &mut Self {
        self.bytes(&word.to_ne_bytes())
    }

    /// Adds bytes. What would make it larger than any answer may be is left out.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.used + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.used..end) {
            room.copy_from_slice(bytes);
            self.used = end;
        }
        self
    }

    /// Room for at most `count` bytes, which [`fill`](Self::fill) then counts.
    pub(crate) fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.bytes.len().min(self.used.saturating_add(count));
        &mut self.bytes[self.used..end]
    }

    pub(crate) fn fill(&mut self, count: usize) {
        self.used = self.bytes.len().min(self.used + count);
    }

    /// Bytes behind the header.
    pub(crate) fn len(&self) -> usize {
        self.used - OUT_HEADER
    }

    /// All of it, header and what follows.
    pub(crate) fn whole(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// Makes an error of a finished answer: the guest asked for more than it has room for.
    pub(crate) fn refuse(&mut self) {
        let unique = self.bytes[8..OUT_HEADER].try_into().map_or(0, u64::from_ne_bytes);
        self.close(unique, Err(Errno::IO));
    }

    /// Writes the header. An error leaves nothing behind it.
    pub(crate) fn close(&mut self, unique: u64, result: Result<(), Errno>) {
        let error = match result {
            Ok(()) => 0,
            Err(errno) => {
                self.clear();
                -errno.raw_os_error()
            }
        };
        let length = u32::try_from(self.used).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[4..8].copy_from_slice(&error.to_ne_bytes());
        self.bytes[8..OUT_HEADER].copy_from_slice(&unique.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 14.3.
    #[test]
    fn a_name_is_one_entry_of_a_directory_and_nothing_else() {
        for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"/etc", b"../x", b"a\0b"] {
            assert_eq!(name(bad), Err(Errno::INVAL), "{bad:?}");
        }
        assert_eq!(name(&[b'n'; 256]), Err(Errno::NAMETOOLONG));
        for good in [&b"a"[..], b"...", b"..a", b" ", b"\xff\xfe", &[b'n'; 255]] {
            assert_eq!(name(good), Ok(good));
        }
    }

    #[test]
    fn a_request_that_lies_about_its_length_has_no_header() {
        let mut bytes = vec![0; IN_HEADER];
        bytes[0] = 41;
        assert_eq!(Body(&bytes).header(), Err(Errno::INVAL));
        bytes[0] = 40;
        assert_eq!(Body(&bytes).header().map(|header| header.opcode), Ok(0));
        assert_eq!(Body(&bytes[..39]).header(), Err(Errno::INVAL));
    }

    #[test]
    fn an_error_takes_the_answer_away() {
        let mut answer = Answer::new();
        answer.u64(7);
        answer.close(9, Err(Errno::NOENT));
        assert_eq!(answer.whole().len(), OUT_HEADER);
        assert_eq!(answer.whole()[4..8], (-2_i32).to_ne_bytes());
    }
}
