//! Programs that are made here, byte by byte, so that what they are of is beyond doubt and no compiler is needed: a static ELF file
//! each, a header, one segment and a few instructions. The listings are what an assembler reads; `tests/programs.rs` runs them.

use dhow_model::Arch;
use dhow_model::translator::elf;

/// A program of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Writes what `uname` says of the machine to standard output and `static` to standard error, and ends with 20 and the number of
    /// its arguments, its own name counted.
    Machine,
    /// Ends with its effective user.
    Ids,
    /// Asks to be traced, and ends with 0 or the kernel's error.
    Ptrace,
    /// Runs what the processor says that it can: 1 for AVX, 2 more for AVX2. On x86-64 only.
    Avx,
}

impl Program {
    /// The whole file; `None` where there is none of this architecture.
    #[must_use]
    pub fn file(self, arch: Arch) -> Option<Vec<u8>> {
        let code = match (self, arch) {
            (Self::Machine, Arch::Amd64) => MACHINE_AMD64,
            (Self::Machine, Arch::Arm64) => MACHINE_ARM64,
            (Self::Ids, Arch::Amd64) => IDS_AMD64,
            (Self::Ids, Arch::Arm64) => IDS_ARM64,
            (Self::Ptrace, Arch::Amd64) => PTRACE_AMD64,
            (Self::Ptrace, Arch::Arm64) => PTRACE_ARM64,
            (Self::Avx, Arch::Amd64) => AVX_AMD64,
            (Self::Avx, Arch::Arm64) => return None,
        };
        Some(elf::file(arch, code))
    }
}

/// The archive of an image that holds them all and nothing else: `/machine`, `/ids`, `/setuid` (owned by root, mode 4755), `/unreadable` (mode 0711),
/// `/ptrace` and, on x86-64, `/avx`.
#[must_use]
pub fn archive(arch: Arch) -> Vec<u8> {
    let files = [
        ("machine", Program::Machine, 0o755),
        ("ids", Program::Ids, 0o755),
        ("setuid", Program::Ids, 0o4755),
        ("unreadable", Program::Ids, 0o711),
        ("ptrace", Program::Ptrace, 0o755),
        ("avx", Program::Avx, 0o755),
    ];
    let mut builder = tar::Builder::new(Vec::new());
    for (name, program, mode) in files {
        let Some(bytes) = program.file(arch) else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        // Writing to memory does not fail.
        builder.append_data(&mut header, name, bytes.as_slice()).ok();
    }
    builder.into_inner().unwrap_or_default()
}

// mov r12, [rsp]; sub rsp, 400; mov eax, 63; mov rdi, rsp; syscall; lea rsi, [rsp+260]; xor edx, edx; 1: cmp byte ptr
// [rsi+rdx], 0; je 2f; inc rdx; jmp 1b; 2: mov byte ptr [rsi+rdx], 10; inc rdx; mov eax, 1; mov edi, 1; syscall; lea rsi,
// [rip+3f]; mov edx, 7; mov eax, 1; mov edi, 2; syscall; lea edi, [r12+20]; mov eax, 60; syscall; 3: .ascii "static\n"
#[rustfmt::skip]
const MACHINE_AMD64: &[u8] = &[
    0x4c, 0x8b, 0x24, 0x24, 0x48, 0x81, 0xec, 0x90, 0x01, 0x00, 0x00, 0xb8, 0x3f, 0x00, 0x00, 0x00,
    0x48, 0x89, 0xe7, 0x0f, 0x05, 0x48, 0x8d, 0xb4, 0x24, 0x04, 0x01, 0x00, 0x00, 0x31, 0xd2, 0x80,
    0x3c, 0x16, 0x00, 0x74, 0x05, 0x48, 0xff, 0xc2, 0xeb, 0xf5, 0xc6, 0x04, 0x16, 0x0a, 0x48, 0xff,
    0xc2, 0xb8, 0x01, 0x00, 0x00, 0x00, 0xbf, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x48, 0x8d, 0x35,
    0x1d, 0x00, 0x00, 0x00, 0xba, 0x07, 0x00, 0x00, 0x00, 0xb8, 0x01, 0x00, 0x00, 0x00, 0xbf, 0x02,
    0x00, 0x00, 0x00, 0x0f, 0x05, 0x41, 0x8d, 0x7c, 0x24, 0x14, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f,
    0x05, 0x73, 0x74, 0x61, 0x74, 0x69, 0x63, 0x0a,
];

// ldr x19, [sp]; sub sp, sp, #400; mov x0, sp; mov x8, #160; svc #0; add x1, sp, #260; mov x2, #0; 1: ldrb w3, [x1, x2];
// cbz w3, 2f; add x2, x2, #1; b 1b; 2: mov w3, #10; strb w3, [x1, x2]; add x2, x2, #1; mov x0, #1; mov x8, #64; svc #0;
// adr x1, 3f; mov x2, #7; mov x0, #2; mov x8, #64; svc #0; add x0, x19, #20; mov x8, #93; svc #0; 3: .ascii "static\n"
#[rustfmt::skip]
const MACHINE_ARM64: &[u8] = &[
    0xf3, 0x03, 0x40, 0xf9, 0xff, 0x43, 0x06, 0xd1, 0xe0, 0x03, 0x00, 0x91, 0x08, 0x14, 0x80, 0xd2,
    0x01, 0x00, 0x00, 0xd4, 0xe1, 0x13, 0x04, 0x91, 0x02, 0x00, 0x80, 0xd2, 0x23, 0x68, 0x62, 0x38,
    0x63, 0x00, 0x00, 0x34, 0x42, 0x04, 0x00, 0x91, 0xfd, 0xff, 0xff, 0x17, 0x43, 0x01, 0x80, 0x52,
    0x23, 0x68, 0x22, 0x38, 0x42, 0x04, 0x00, 0x91, 0x20, 0x00, 0x80, 0xd2, 0x08, 0x08, 0x80, 0xd2,
    0x01, 0x00, 0x00, 0xd4, 0x01, 0x01, 0x00, 0x10, 0xe2, 0x00, 0x80, 0xd2, 0x40, 0x00, 0x80, 0xd2,
    0x08, 0x08, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0x60, 0x52, 0x00, 0x91, 0xa8, 0x0b, 0x80, 0xd2,
    0x01, 0x00, 0x00, 0xd4, 0x73, 0x74, 0x61, 0x74, 0x69, 0x63, 0x0a,
];

// mov eax, 107; syscall; mov edi, eax; mov eax, 60; syscall
#[rustfmt::skip]
const IDS_AMD64: &[u8] = &[
    0xb8, 0x6b, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x89, 0xc7, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05,
];

// mov x8, #175; svc #0; mov x8, #93; svc #0
#[rustfmt::skip]
const IDS_ARM64: &[u8] = &[
    0xe8, 0x15, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
];

// mov eax, 101; xor edi, edi; xor esi, esi; xor edx, edx; xor r10d, r10d; syscall; neg eax; mov edi, eax; mov eax, 60;
// syscall
#[rustfmt::skip]
const PTRACE_AMD64: &[u8] = &[
    0xb8, 0x65, 0x00, 0x00, 0x00, 0x31, 0xff, 0x31, 0xf6, 0x31, 0xd2, 0x45, 0x31, 0xd2, 0x0f, 0x05,
    0xf7, 0xd8, 0x89, 0xc7, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05,
];

// mov x0, #0; mov x1, #0; mov x2, #0; mov x3, #0; mov x8, #117; svc #0; neg x0, x0; mov x8, #93; svc #0
#[rustfmt::skip]
const PTRACE_ARM64: &[u8] = &[
    0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2,
    0xa8, 0x0e, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xe0, 0x03, 0x00, 0xcb, 0xa8, 0x0b, 0x80, 0xd2,
    0x01, 0x00, 0x00, 0xd4,
];

// xor r12d, r12d; mov eax, 1; xor ecx, ecx; cpuid; mov eax, ecx; and eax, 0x18000000; cmp eax, 0x18000000; jne 9f; xor
// ecx, ecx; xgetbv; and eax, 6; cmp eax, 6; jne 9f; or r12d, 1; vxorps ymm0, ymm0, ymm0; vaddps ymm0, ymm0, ymm0; xor eax,
// eax; cpuid; cmp eax, 7; jb 9f; mov eax, 7; xor ecx, ecx; cpuid; bt ebx, 5; jnc 9f; or r12d, 2; vpaddd ymm0, ymm0, ymm0;
// 9: mov edi, r12d; mov eax, 60; syscall
#[rustfmt::skip]
const AVX_AMD64: &[u8] = &[
    0x45, 0x31, 0xe4, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xc8, 0x25, 0x00,
    0x00, 0x00, 0x18, 0x3d, 0x00, 0x00, 0x00, 0x18, 0x75, 0x39, 0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x83,
    0xe0, 0x06, 0x83, 0xf8, 0x06, 0x75, 0x2c, 0x41, 0x83, 0xcc, 0x01, 0xc5, 0xfc, 0x57, 0xc0, 0xc5,
    0xfc, 0x58, 0xc0, 0x31, 0xc0, 0x0f, 0xa2, 0x83, 0xf8, 0x07, 0x72, 0x17, 0xb8, 0x07, 0x00, 0x00,
    0x00, 0x31, 0xc9, 0x0f, 0xa2, 0x0f, 0xba, 0xe3, 0x05, 0x73, 0x08, 0x41, 0x83, 0xcc, 0x02, 0xc5,
    0xfd, 0xfe, 0xc0, 0x44, 0x89, 0xe7, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_of_the_architecture_that_it_is_made_for() {
        for arch in Arch::ALL {
            for program in [Program::Machine, Program::Ids, Program::Ptrace, Program::Avx] {
                let Some(file) = program.file(arch) else { continue };
                assert!(dhow_model::translator::Pattern::of(arch).matches(&file), "{program:?} of {arch}");
            }
        }
        assert!(Program::Avx.file(Arch::Arm64).is_none());
    }

    #[test]
    fn the_archive_holds_them_with_their_modes() {
        for (arch, count) in [(Arch::Amd64, 6), (Arch::Arm64, 5)] {
            let bytes = archive(arch);
            let mut read = tar::Archive::new(bytes.as_slice());
            let modes: Vec<(String, u32)> = read
                .entries()
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
                })
                .collect();
            assert_eq!(modes.len(), count);
            assert!(modes.contains(&("setuid".to_owned(), 0o4755)), "{modes:?}");
            assert!(modes.contains(&("unreadable".to_owned(), 0o711)), "{modes:?}");
        }
    }
}
