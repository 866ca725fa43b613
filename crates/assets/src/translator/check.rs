//! Whether a file is fit to be a guest's translator: regular, executable, a statically linked ELF program of the guest's
//! architecture, whole (spec 1.5). Only the file's beginning is read, so that every create can ask.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use dhow_model::translator::{LIMIT, Source, State, Translator, Unprovisioned, Why};
use dhow_model::{Arch, TranslatorName};
use rustix::fs::{Mode, OFlags};

use crate::image::elf::Elf;

/// An ELF header and its table of segments lie here in whatever a linker makes.
const HEAD: u64 = 16 << 10;
/// A `.dynamic` segment is some hundred bytes.
const DYNAMIC: u64 = 64 << 10;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NEEDED: u64 = 1;

/// A file that is fit, opened.
#[derive(Debug)]
pub struct Opened {
    /// The file itself: what was checked is what is read from it.
    pub file: File,
    /// Bytes.
    pub length: u64,
}

/// Whether a translator can serve an architecture in a guest, as far as this host's directory tells.
///
/// # Errors
/// Why not.
pub fn state(directory: &Path, name: TranslatorName, guest: Arch, serves: Arch) -> State {
    let unprovisioned = |file, why| Unprovisioned { translator: name, serves, file, why };
    let Some(translator) = name.translator(guest, serves) else {
        return Err(unprovisioned(None, Why::NoSuchPair { serves, guest }));
    };
    available(translator).map_err(|why| unprovisioned(None, why))?;
    let path = directory.join(translator.file);
    open(&path, guest).map(drop).map_err(|why| unprovisioned(Some(path), why))
}

/// Whether this host can have a translator at all.
pub(super) fn available(translator: &Translator) -> Result<(), Why> {
    let elsewhere = matches!(translator.source, Source::MacOs) && !cfg!(target_os = "macos");
    if elsewhere { Err(Why::OtherHost) } else { Ok(()) }
}

/// Opens a translator's file, if it is fit for a guest of this architecture. A symbolic link is not followed.
///
/// # Errors
/// What is wrong with it.
pub fn open(path: &Path, guest: Arch) -> Result<Opened, Why> {
    let unreadable = |error: std::io::Error| Why::Unreadable(error.to_string());
    let seen = match path.symlink_metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Why::Missing);
        }
        seen => seen.map_err(unreadable)?,
    };
    let kind = seen.file_type();
    if kind.is_symlink() {
        return Err(Why::Link { dangling: path.metadata().is_err() });
    }
    if kind.is_dir() {
        return Err(Why::Directory);
    }
    if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
        return Err(Why::NotRegular);
    }
    // Another file may have come to stand there since: links are still not followed, and a pipe does not hold us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    let file = File::from(opened);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Why::NotRegular);
    }
    if metadata.mode() & 0o100 == 0 {
        return Err(Why::NotExecutable);
    }
    let length = metadata.len();
    fit(&file, length, guest)?;
    Ok(Opened { file, length })
}

fn fit(file: &File, length: u64, guest: Arch) -> Result<(), Why> {
    let head = read(file, 0, HEAD.min(length))?;
    if !head.starts_with(b"\x7fELF") {
        return Err(Why::NotElf);
    }
    if length < 64 {
        return Err(Why::Truncated { needs: 64, has: length });
    }
    let elf = Elf::parse(&head).filter(|elf| elf.is_program()).ok_or(Why::NotElf)?;
    if elf.machine() != guest.elf_machine() {
        let machine = elf.machine();
        let found = Arch::ALL.into_iter().find(|arch| arch.elf_machine() == machine);
        let found = found.map_or_else(|| format!("ELF machine {machine}"), |arch| arch.to_string());
        return Err(Why::WrongArch { found, guest });
    }
    if elf.extent() > length {
        return Err(Why::Truncated { needs: elf.extent(), has: length });
    }
    if elf.has_interpreter() {
        return Err(Why::Dynamic);
    }
    if !elf.segment_table().any(|(kind, ..)| kind == PT_LOAD) {
        return Err(Why::NotElf);
    }
    // A shared library asks for no loader, and a program that is linked statically may have a dynamic segment all the same.
    for (_, offset, size) in elf.segment_table().filter(|(kind, ..)| *kind == PT_DYNAMIC) {
        let dynamic = read(file, offset, size.min(DYNAMIC))?;
        let tags = dynamic.chunks_exact(16).map(|entry| entry[..8].try_into().map_or(0, u64::from_le_bytes));
        if tags.take_while(|tag| *tag != 0).any(|tag| tag == DT_NEEDED) {
            return Err(Why::Dynamic);
        }
    }
    if length > LIMIT {
        return Err(Why::TooLarge { has: length, limit: LIMIT });
    }
    Ok(())
}

fn read(file: &File, offset: u64, length: u64) -> Result<Vec<u8>, Why> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(bytes),
        // It is being written while we look.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(Why::Truncated { needs: offset.saturating_add(length), has: offset })
        }
        Err(error) => Err(Why::Unreadable(error.to_string())),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
