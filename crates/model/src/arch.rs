//! The two processor architectures that Dhow knows, under every name that the tools around it use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A processor architecture of a host, a guest or an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64: `amd64` to Docker and Debian, `x86_64` to the kernel and QEMU.
    Amd64,
    /// Arm64: `arm64` to Docker and Debian, `aarch64` to the kernel and QEMU.
    Arm64,
}

/// A word that names no architecture that Dhow knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an architecture that Dhow knows: use amd64 or arm64")]
pub struct UnknownArch(pub String);

impl Arch {
    /// Every architecture, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The architecture that this program was built for, which is the host's for host programs; `None` on a processor
    /// that Dhow does not support.
    #[must_use]
    pub const fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::Amd64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Arm64)
        } else {
            None
        }
    }

    /// Docker's and Debian's name: `amd64`, `arm64`.
    #[must_use]
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel's name, as `uname -m` prints it, which is QEMU's too: `x86_64`, `aarch64`.
    #[must_use]
    pub const fn kernel(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// `e_machine` of an ELF header (System V ABI, chapter 4; `EM_X86_64` and `EM_AARCH64` in `elf.h`).
    #[must_use]
    pub const fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "amd64" | "x86_64" | "x86-64" => Ok(Self::Amd64),
            "arm64" | "aarch64" => Ok(Self::Arm64),
            _ => Err(UnknownArch(word.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_printed_parses_back() {
        for arch in Arch::ALL {
            for name in [arch.debian(), arch.kernel()] {
                assert_eq!(name.parse(), Ok(arch));
            }
        }
    }

    #[test]
    fn an_unknown_architecture_is_named_in_the_error() {
        let error = "riscv64".parse::<Arch>().unwrap_err();
        assert!(error.to_string().contains("riscv64"));
    }
}
