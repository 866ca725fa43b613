//! What an ELF file is (System V ABI, chapters 4 and 5): class, machine, whether it asks for an interpreter, sections and notes.

/// A 64-bit little-endian ELF file.
#[derive(Debug, Clone, Copy)]
pub struct Elf<'a> {
    bytes: &'a [u8],
}

const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const DT_NEEDED: u64 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;

impl<'a> Elf<'a> {
    /// The file, if it is one.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..64)?;
        (header.starts_with(b"\x7fELF\x02\x01")).then_some(Self { bytes })
    }

    /// `e_machine`.
    #[must_use]
    pub fn machine(self) -> u16 {
        self.u16(18).unwrap_or(0)
    }

    /// Whether it is a program (and not an object or a core).
    #[must_use]
    pub fn is_program(self) -> bool {
        matches!(self.u16(16), Some(ET_EXEC | ET_DYN))
    }

    /// Whether it needs a dynamic loader.
    #[must_use]
    pub fn has_interpreter(self) -> bool {
        self.segments().any(|(kind, _)| kind == PT_INTERP)
    }

    /// The content of the section of this name.
    #[must_use]
    pub fn section(self, name: &str) -> Option<&'a [u8]> {
        let table = usize::try_from(self.u64(40)?).ok()?;
        let (size, count, names) = (self.u16(58)?, self.u16(60)?, self.u16(62)?);
        let header = |index: u16| table.checked_add(usize::from(index) * usize::from(size));
        let content = |at: usize| self.range(self.u64(at.checked_add(24)?)?, self.u64(at.checked_add(32)?)?);
        let strings = content(header(names)?)?;
        for index in 0..count {
            let at = header(index)?;
            let start = usize::try_from(self.u32(at)?).ok()?;
            let end = strings.get(start..)?.iter().position(|byte| *byte == 0)? + start;
            if strings.get(start..end)? == name.as_bytes() {
                return content(at);
            }
        }
        None
    }

    /// The interpreter that a program asks for, as a path.
    #[must_use]
    pub fn interpreter(self) -> Option<&'a str> {
        let (_, path) = self.segments().find(|(kind, _)| *kind == PT_INTERP)?;
        std::str::from_utf8(path).ok().map(|path| path.trim_end_matches('\0'))
    }

    /// Names of the shared libraries that a program or library asks for (`DT_NEEDED`).
    #[must_use]
    pub fn needed(self) -> Vec<&'a str> {
        let (Some(dynamic), Some(strings)) = (self.section(".dynamic"), self.section(".dynstr")) else {
            return Vec::new();
        };
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let name = |entry: &[u8]| {
            let start = usize::try_from(word(&entry[8..16])).ok()?;
            let rest = strings.get(start..)?;
            std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
        };
        let entries = dynamic.chunks_exact(16).take_while(|entry| word(&entry[..8]) != 0);
        entries.filter(|entry| word(&entry[..8]) == DT_NEEDED).filter_map(name).collect()
    }

    /// Whether a note of this owner and kind is there.
    #[must_use]
    pub fn has_note(self, owner: &str, kind: u32) -> bool {
        self.segments().filter(|(segment, _)| *segment == PT_NOTE).any(|(_, mut notes)| {
            while let [n0, n1, n2, n3, d0, d1, d2, d3, k0, k1, k2, k3, rest @ ..] = notes {
                let name = u32::from_le_bytes([*n0, *n1, *n2, *n3]) as usize;
                let content = u32::from_le_bytes([*d0, *d1, *d2, *d3]) as usize;
                let found = u32::from_le_bytes([*k0, *k1, *k2, *k3]);
                let Some(written) = rest.get(..name) else { return false };
                if found == kind && written.strip_suffix(b"\0").unwrap_or(written) == owner.as_bytes() {
                    return true;
                }
                let skip = name.next_multiple_of(4).saturating_add(content.next_multiple_of(4));
                let Some(next) = rest.get(skip..) else { return false };
                notes = next;
            }
            false
        })
    }

    /// Kind, offset in the file and length in the file of each segment that the table has.
    pub(crate) fn segment_table(self) -> impl Iterator<Item = (u32, u64, u64)> {
        let table = self.u64(32).and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
        let (size, count) = (self.u16(54).unwrap_or(0), self.u16(56).unwrap_or(0));
        (0..count).map_while(move |index| {
            let at = table.checked_add(usize::from(index) * usize::from(size))?;
            Some((self.u32(at)?, self.u64(at.checked_add(8)?)?, self.u64(at.checked_add(32)?)?))
        })
    }

    /// How long a file with this header is at least: the ends of its tables and of every segment.
    pub(crate) fn extent(self) -> u64 {
        let table = |start: usize, size: usize, count: usize| {
            let length = u64::from(self.u16(size).unwrap_or(0)) * u64::from(self.u16(count).unwrap_or(0));
            if length == 0 { 0 } else { self.u64(start).unwrap_or(0).saturating_add(length) }
        };
        let segments = self.segment_table().map(|(_, offset, length)| offset.saturating_add(length)).max();
        table(32, 54, 56).max(table(40, 58, 60)).max(segments.unwrap_or(0)).max(64)
    }

    fn segments(self) -> impl Iterator<Item = (u32, &'a [u8])> {
        self.segment_table()
            .map(move |(kind, offset, length)| (kind, self.range(offset, length).unwrap_or_default()))
    }

    fn range(self, start: u64, length: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(start).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    fn u16(self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
    }

    fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    fn u64(self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_test_program_is_recognised() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        if !cfg!(target_os = "linux") {
            println!("skipped: programs of this host are no ELF files");
            return;
        }
        let elf = Elf::parse(&own).unwrap();
        assert!(elf.is_program());
        assert_eq!(Some(elf.machine()), dhow_model::Arch::host().map(dhow_model::Arch::elf_machine));
        assert!(elf.section(".text").is_some_and(|text| !text.is_empty()));
        assert!(elf.section(".nothing").is_none());
        assert!(!elf.has_note("Xen", 18));
        assert!(elf.needed().iter().any(|name| name.starts_with("libc")), "{:?}", elf.needed());
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(tail in prop::collection::vec(any::<u8>(), 58..400)) {
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.extend(tail);
            if let Some(elf) = Elf::parse(&bytes) {
                prop_assert!(elf.has_interpreter() || !elf.has_interpreter());
                prop_assert!(elf.has_note("Xen", 18) || elf.section(".modinfo").is_none_or(|found| found.len() <= bytes.len()));
                prop_assert!(elf.needed().len() <= bytes.len());
            }
        }
    }
}

/// The smallest files that pass for programs, for tests.
#[cfg(test)]
pub(crate) mod tests_support {
    /// A static program of an architecture, without any segment.
    pub(crate) fn program(arch: dhow_model::Arch) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        bytes[16..18].copy_from_slice(&2_u16.to_le_bytes());
        bytes[18..20].copy_from_slice(&arch.elf_machine().to_le_bytes());
        bytes
    }

    /// The same with segments of these kinds, offsets and lengths, and `tail` behind the table.
    pub(crate) fn with_segments(
        arch: dhow_model::Arch,
        segments: &[(u32, u64, u64)],
        tail: &[u8],
    ) -> Vec<u8> {
        let mut bytes = program(arch);
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for (kind, offset, length) in segments {
            let mut entry = [0; 56];
            entry[..4].copy_from_slice(&kind.to_le_bytes());
            entry[8..16].copy_from_slice(&offset.to_le_bytes());
            entry[32..40].copy_from_slice(&length.to_le_bytes());
            bytes.extend(entry);
        }
        bytes.extend(tail);
        bytes
    }
}
