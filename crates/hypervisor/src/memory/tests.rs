//! Dumps of memories: what is written is read back, and nothing else is taken for it.

use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::image::{BLOCK, ENTRY, HEADER, PAGE};
use super::*;
use crate::Damage;

const SIZE: Size = Size::mib(8);

/// A memory with something in it: a whole block, single pages, a page of zeroes that takes room, the last byte.
fn memory() -> Memory {
    let memory = Memory::new(SIZE).unwrap();
    let block: Vec<u8> = (0..BLOCK).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let write = |bytes: &[u8], at: usize| memory.file.write_all_at(bytes, at as u64).unwrap();
    write(&block, 2 * BLOCK);
    write(b"page 3", 3 * PAGE + 17);
    write(b"page 5", 6 * PAGE - 6);
    write(&[0; PAGE], 4 * PAGE);
    write(&[0; PAGE], 5 * BLOCK);
    write(b"!", 8 * BLOCK - 1);
    memory
}

fn content(memory: &Memory) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(memory.size().as_bytes()).unwrap()];
    memory.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

struct Dump {
    _directory: tempfile::TempDir,
    path: PathBuf,
    dumped: Dumped,
}

fn dump(memory: &Memory) -> Dump {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memory");
    let dumped = memory.dump(&path).unwrap();
    Dump { _directory: directory, path, dumped }
}

fn damage(error: Error) -> Damage {
    match error {
        Error::Damaged { damage, .. } => damage,
        other => panic!("{other}"),
    }
}

/// Spec 13.1.
#[test]
fn a_memory_comes_back_as_it_was_and_takes_no_more_room_than_its_content() {
    let memory = memory();
    let dump = dump(&memory);
    let back = Memory::load(&dump.path, SIZE, &dump.dumped).unwrap();
    assert!(content(&back) == content(&memory));
    // The block and three pages; zeroes are in neither.
    let pages = (BLOCK / PAGE + 3) as u64;
    assert_eq!(back.held().unwrap().as_bytes(), pages * PAGE as u64);
    assert_eq!(dump.dumped.bytes, pages * PAGE as u64 + (HEADER + 3 * ENTRY) as u64);
    let metadata = dump.path.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (dump.dumped.bytes, 0o600));
    assert!(metadata.blocks() > 0);
}

#[test]
fn an_empty_memory_and_a_full_one_come_back() {
    let empty = Memory::new(SIZE).unwrap();
    assert_eq!(empty.held().unwrap().as_bytes(), 0);
    let empty_dump = dump(&empty);
    assert_eq!(empty_dump.dumped.bytes, HEADER as u64);
    let back = Memory::load(&empty_dump.path, SIZE, &empty_dump.dumped).unwrap();
    assert_eq!(back.held().unwrap().as_bytes(), 0);

    let full = Memory::new(SIZE).unwrap();
    for at in (0..SIZE.as_bytes()).step_by(PAGE) {
        full.file.write_all_at(&(at + 1).to_le_bytes(), at).unwrap();
    }
    let full_dump = dump(&full);
    assert!(content(&Memory::load(&full_dump.path, SIZE, &full_dump.dumped).unwrap()) == content(&full));
}

/// Issue 5: a damaged file is set aside and never resumed from, wherever the damage is.
#[test]
fn a_byte_that_changed_anywhere_is_found() {
    let dump = dump(&memory());
    let whole = std::fs::read(&dump.path).unwrap();
    let ends = [0, 7, 8, 16, 24, 32, 40, 48, 55, HEADER, HEADER + PAGE, whole.len() - 1];
    let everywhere = (0..whole.len()).step_by(4001);
    let table = (whole.len() - 3 * ENTRY..whole.len()).step_by(5);
    for at in ends.into_iter().chain(everywhere).chain(table) {
        // The rest of the header's page says nothing.
        if (56..HEADER).contains(&at) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        dhow_home::atomic::write(&dump.path, &bytes, 0o600).unwrap();
        let error = Memory::load(&dump.path, SIZE, &dump.dumped).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "byte {at}: {error}");
    }
}

#[test]
fn a_file_that_was_cut_off_or_went_on_is_refused_by_its_length() {
    let dump = dump(&memory());
    let whole = std::fs::read(&dump.path).unwrap();
    for length in [0, 1, HEADER - 1, HEADER, whole.len() / 2, whole.len() - 1] {
        dhow_home::atomic::write(&dump.path, &whole[..length], 0o600).unwrap();
        let error = Memory::load(&dump.path, SIZE, &dump.dumped).unwrap_err();
        let found = length as u64;
        assert_eq!(damage(error), Damage::Length { expected: dump.dumped.bytes, found });
        // Nor does a note of that length help it.
        let noted = Dumped { bytes: found, ..dump.dumped };
        assert!(matches!(Memory::load(&dump.path, SIZE, &noted), Err(Error::Damaged { .. })), "{length}");
    }
    let mut longer = whole;
    longer.push(0);
    dhow_home::atomic::write(&dump.path, &longer, 0o600).unwrap();
    let error = Memory::load(&dump.path, SIZE, &dump.dumped).unwrap_err();
    assert!(matches!(damage(error), Damage::Length { .. }));
}

#[test]
fn a_dump_of_another_memory_is_refused() {
    let dump = dump(&memory());
    let error = Memory::load(&dump.path, Size::mib(16), &dump.dumped).unwrap_err();
    assert_eq!(damage(error), Damage::Size { expected: 16 << 20, found: 8 << 20 });
    let noted = Dumped { checksum: dump.dumped.checksum ^ 1, ..dump.dumped };
    assert_eq!(damage(Memory::load(&dump.path, SIZE, &noted).unwrap_err()), Damage::Description);
    assert!(matches!(
        Memory::load(&dump.path.with_extension("absent"), SIZE, &dump.dumped),
        Err(Error::SavedFile { .. })
    ));
}

/// Spec 16.1: a full disk is an error, and takes nothing with it.
#[test]
#[cfg(target_os = "linux")]
fn a_dump_to_a_full_disk_is_an_error_and_leaves_the_memory() {
    let memory = memory();
    let before = content(&memory);
    let full = std::path::Path::new("/dev/full");
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("memory");
    std::os::unix::fs::symlink(full, &link).unwrap();
    let error = memory.dump(&link).unwrap_err();
    assert!(
        matches!(&error, Error::SavedFile { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{error}"
    );
    assert!(!link.is_symlink() && full.exists());
    assert!(content(&memory) == before);
}

#[test]
fn a_memory_cannot_be_made_smaller_or_larger_and_only_of_whole_mebibytes() {
    let memory = Memory::new(SIZE).unwrap();
    assert!(memory.file.set_len(0).is_err() && memory.file.set_len(16 << 20).is_err());
    for size in [Size::bytes(0), Size::bytes(1), Size::bytes((1 << 20) + 4096)] {
        assert!(matches!(Memory::new(size), Err(Error::Unsupported(_))), "{size}");
    }
}

/// Issue 5: hostile content cannot crash. Descriptions that have the right checksums and make no sense.
#[test]
fn a_description_that_lies_is_refused() {
    use super::image::{Entry, Header, encode_table};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memory");
    let entry = |block, at, pages| Entry { block, at, checksum: 0, pages };
    let one = {
        let mut pages = [0; 32];
        pages[0] = 1;
        pages
    };
    let data = (HEADER + BLOCK) as u64;
    let lies = [
        vec![entry(8, HEADER as u64, one)],
        vec![entry(u64::MAX, HEADER as u64, one)],
        vec![entry(0, u64::MAX - 1, one)],
        vec![entry(0, 0, one)],
        vec![entry(0, data, one)],
        vec![entry(0, HEADER as u64, [0; 32])],
        vec![entry(0, HEADER as u64 + 1, [0xff; 32])],
        vec![entry(1, HEADER as u64, one), entry(1, HEADER as u64, one)],
        vec![entry(1, HEADER as u64, one), entry(0, HEADER as u64, one)],
    ];
    for entries in lies {
        let (table, checksum) = encode_table(&entries);
        let header = Header { memory: SIZE.as_bytes(), table: data, entries: entries.len() as u64, checksum };
        let (mut bytes, checksum) = header.encode();
        bytes.resize(HEADER + BLOCK, 0);
        bytes.extend(table);
        dhow_home::atomic::write(&path, &bytes, 0o600).unwrap();
        let dumped = Dumped { bytes: bytes.len() as u64, checksum };
        let error = Memory::load(&path, SIZE, &dumped).unwrap_err();
        assert!(matches!(damage(error), Damage::Nonsense { .. }), "{entries:?}");
    }
    for (table, entries) in [(0, 0), (u64::MAX, 1), (data, u64::MAX / 64 + 1), (data, 9), (data - 64, 2)] {
        let header = Header { memory: SIZE.as_bytes(), table, entries, checksum: 0 };
        let (mut bytes, checksum) = header.encode();
        bytes.resize(HEADER + BLOCK, 0);
        dhow_home::atomic::write(&path, &bytes, 0o600).unwrap();
        let dumped = Dumped { bytes: bytes.len() as u64, checksum };
        let error = Memory::load(&path, SIZE, &dumped).unwrap_err();
        assert!(matches!(damage(error), Damage::Nonsense { .. } | Damage::Description), "{table} {entries}");
    }
}

/// Measured, not tested: `cargo nextest run -p dhow-hypervisor --release --run-ignored only rates -- --nocapture`.
#[test]
#[ignore = "a measurement"]
fn rates() {
    const USED: usize = 250;
    let directory = std::env::var_os("TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join("dhow-rates");
    let memory = Memory::new(Size::gib(1)).unwrap();
    let mut seed = 1u64;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_le_bytes()
    })
    .take(BLOCK / 8)
    .flatten()
    .collect();
    // Scattered as a guest's is, in runs of 16 pages with holes between.
    for at in 0..USED * BLOCK / (16 * PAGE) {
        memory.file.write_all_at(&block[..16 * PAGE], (at * 61 * PAGE) as u64).unwrap();
    }
    let used = memory.held().unwrap().as_bytes() as f64 / 1e6;
    for _ in 0..4 {
        let start = std::time::Instant::now();
        let dumped = memory.dump(&path).unwrap();
        let wrote = start.elapsed();
        let start = std::time::Instant::now();
        let back = Memory::load(&path, Size::gib(1), &dumped).unwrap();
        let read = start.elapsed();
        let rate = |time: std::time::Duration| used / time.as_secs_f64();
        println!(
            "{used:.0} MB: dumped in {wrote:?} ({:.0} MB/s), loaded in {read:?} ({:.0} MB/s)",
            rate(wrote),
            rate(read)
        );
        drop(back);
    }
    std::fs::remove_file(path).unwrap();
}
