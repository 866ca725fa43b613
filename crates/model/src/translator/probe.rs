//! The smallest program of an architecture that proves a translator: it ends with a status of its own.

use super::elf;
use crate::Arch;

/// The status with which the program ends.
pub const STATUS: i32 = 42;

/// The program: a call of `exit(42)` by the kernel's numbers in `asm/unistd.h`.
#[must_use]
pub fn program(arch: Arch) -> Vec<u8> {
    let code: &[u8] = match arch {
        // mov edi, 42; mov eax, 60; syscall
        Arch::Amd64 => &[0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05],
        // mov x0, #42; mov x8, #93; svc #0
        Arch::Arm64 => &[0x40, 0x05, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4],
    };
    elf::file(arch, code)
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    #[test]
    fn a_probe_is_a_program_of_its_architecture() {
        for arch in Arch::ALL {
            assert!(Pattern::of(arch).matches(&program(arch)));
            assert_eq!(program(arch).len(), 132);
        }
    }

    /// The program is run where this host can.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_probe_of_this_architecture_ends_with_its_status() {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt as _;
        let Some(arch) = Arch::host() else { return };
        let path = std::env::temp_dir().join(format!("dhow-probe-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(&program(arch)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let status = std::process::Command::new(&path).status();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(status.unwrap().code(), Some(STATUS));
    }
}
