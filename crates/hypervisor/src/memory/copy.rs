//! Between a memory and its file: several threads, each a block at a time, so that a block is in the processor's cache while
//! it is looked through, summed and copied.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dhow_model::Size;
use rustix::fs::SeekFrom;

use super::Dumped;
use super::image::{self, BLOCK, Entry, HEADER, Header, PAGE};
use crate::{Damage, Error, Result};

/// More of them would wait for each other in the host's kernel.
const MOST_THREADS: usize = 4;

static ZEROES: [u8; PAGE] = [0; PAGE];

pub(super) fn dump(memory: &File, size: Size, path: &Path) -> Result<Dumped> {
    let failed = |source| Error::SavedFile { path: path.to_owned(), source };
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    let next = AtomicU64::new(0);
    let end = AtomicU64::new(HEADER as u64);
    let mut entries: Vec<Entry> = each(|| dump_blocks(memory, size, &file, path, &next, &end))?.concat();
    entries.sort_unstable_by_key(|entry| entry.block);

    let table = end.into_inner();
    let (bytes, checksum) = image::encode_table(&entries);
    file.write_all_at(&bytes, table).map_err(failed)?;
    let header = Header { memory: size.as_bytes(), table, entries: entries.len() as u64, checksum };
    let (head, checksum) = header.encode();
    file.write_all_at(&head, 0).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(Dumped { bytes: table + bytes.len() as u64, checksum })
}

/// Dumps one block after the other until there is none left. `next` is where to look for the next block, `end` where the file
/// goes on.
fn dump_blocks(
    memory: &File,
    size: Size,
    file: &File,
    path: &Path,
    next: &AtomicU64,
    end: &AtomicU64,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut buffer = vec![0; BLOCK];
    while let Some(block) = take_block(memory, size, next)? {
        memory
            .read_exact_at(&mut buffer, block * BLOCK as u64)
            .map_err(|source| Error::Memory { doing: "read", source })?;
        let (pages, length) = gather(&mut buffer);
        let data = &buffer[..length];
        if data.is_empty() {
            continue;
        }
        let at = end.fetch_add(length as u64, Ordering::Relaxed);
        let written = file.write_all_at(data, at);
        written.map_err(|source| Error::SavedFile { path: path.to_owned(), source })?;
        entries.push(Entry { block, at, checksum: image::checksum(data), pages });
    }
    Ok(entries)
}

/// The next block that nobody has taken and that is not a hole.
fn take_block(memory: &File, size: Size, next: &AtomicU64) -> Result<Option<u64>> {
    loop {
        let looked = next.load(Ordering::Relaxed);
        if looked * BLOCK as u64 >= size.as_bytes() {
            return Ok(None);
        }
        let block = match rustix::fs::seek(memory, SeekFrom::Data(looked * BLOCK as u64)) {
            Ok(data) => data / BLOCK as u64,
            // No data from here to the end.
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(Error::Memory { doing: "look through", source: errno.into() }),
        };
        if next.compare_exchange(looked, block + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Ok(Some(block));
        }
    }
}

/// Moves the pages of a block that are not all zeroes to its beginning, and says which they are and how many bytes.
fn gather(block: &mut [u8]) -> ([u8; BLOCK / PAGE / 8], usize) {
    let mut pages = [0; BLOCK / PAGE / 8];
    let mut length = 0;
    for page in 0..BLOCK / PAGE {
        let from = page * PAGE..(page + 1) * PAGE;
        if block[from.clone()] == ZEROES {
            continue;
        }
        pages[page / 8] |= 1 << (page % 8);
        if length != from.start {
            block.copy_within(from, length);
        }
        length += PAGE;
    }
    (pages, length)
}

pub(super) fn fill(memory: &File, size: Size, path: &Path, dumped: &Dumped) -> Result<()> {
    let failed = |source| Error::SavedFile { path: path.to_owned(), source };
    let damaged = |damage| Error::Damaged { path: path.to_owned(), damage };
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    if found != dumped.bytes {
        return Err(damaged(Damage::Length { expected: dumped.bytes, found }));
    }
    let mut head = vec![0; HEADER];
    read(&file, path, &mut head, 0)?;
    let header = Header::parse(&head, found, size.as_bytes(), dumped.checksum).map_err(damaged)?;
    let mut table = vec![0; usize::try_from(found - header.table).unwrap_or(0)];
    read(&file, path, &mut table, header.table)?;
    let entries = image::parse_table(&table, &header).map_err(damaged)?;
    let next = AtomicU64::new(0);
    each(|| fill_blocks(memory, &entries, &file, path, &next)).map(drop)
}

fn fill_blocks(memory: &File, entries: &[Entry], file: &File, path: &Path, next: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    loop {
        let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
        let Some(entry) = entries.get(number) else { return Ok(()) };
        let data = &mut buffer[..entry.length()];
        read(file, path, data, entry.at)?;
        if image::checksum(data) != entry.checksum {
            return Err(Error::Damaged { path: path.to_owned(), damage: Damage::Content { at: entry.at } });
        }
        let mut rest = &*data;
        for (first, last) in entry.runs() {
            let (run, others) = rest.split_at((last - first) * PAGE);
            let at = entry.block * BLOCK as u64 + (first * PAGE) as u64;
            memory.write_all_at(run, at).map_err(|source| Error::Memory { doing: "fill", source })?;
            rest = others;
        }
    }
}

/// Reads a part of the file whole; one that has become shorter since its length was looked at is damaged.
fn read(file: &File, path: &Path, to: &mut [u8], at: u64) -> Result<()> {
    file.read_exact_at(to, at).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::Damaged { path: path.to_owned(), damage: Damage::Content { at } }
        }
        _ => Error::SavedFile { path: path.to_owned(), source },
    })
}

/// Runs the same on a few threads, one of them this one, and returns what each returned, or the first error.
fn each<T: Send>(work: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    let others = thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)) - 1;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..others).map(|_| scope.spawn(&work)).collect();
        let own = work();
        let lost =
            || Err(Error::Memory { doing: "copy", source: io::Error::other("a thread of it has failed") });
        let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost()));
        std::iter::once(own).chain(joined).collect()
    })
}
