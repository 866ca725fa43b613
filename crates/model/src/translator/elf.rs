//! ELF files made of nothing but instructions: programs that need no libc, no loader and no compiler.

use crate::Arch;

/// Where they are loaded: the usual address of programs that are not relocated.
const BASE: u64 = 0x0040_0000;
const HEADER: u64 = 64;
const SEGMENT: u64 = 56;

/// A file of one segment that may be read and executed: an ELF header, a program header (System V ABI, chapters 4 and 5), and these
/// instructions, the first of which is the first that runs.
#[must_use]
pub fn file(arch: Arch, code: &[u8]) -> Vec<u8> {
    let length = HEADER + SEGMENT + code.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let mut put = |value: u64, width: usize| bytes.extend_from_slice(&value.to_le_bytes()[..width]);
    // e_type executable, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags.
    put(2, 2);
    put(arch.elf_machine().into(), 2);
    put(1, 4);
    put(BASE + HEADER + SEGMENT, 8);
    put(HEADER, 8);
    put(0, 8);
    put(0, 4);
    // Sizes and counts of the header, segments and sections.
    for field in [HEADER, SEGMENT, 1, 64, 0, 0] {
        put(field, 2);
    }
    // p_type to load, p_flags to read and execute, then offset, addresses, lengths and alignment.
    put(1, 4);
    put(5, 4);
    for field in [0, BASE, BASE, length, length, 0x1_0000] {
        put(field, 8);
    }
    bytes.extend_from_slice(code);
    bytes
}
