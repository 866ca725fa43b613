//! What a machine's own processor runs.

use crate::platform::Cpu;
use crate::{Arch, Platform};

/// What matters of a guest for what runs in it by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    /// Its architecture.
    pub arch: Arch,
    /// Whether an Arm64 processor also runs 32-bit Arm programs (`AArch32` at EL0). Apple's and many servers' do not.
    pub aarch32: bool,
}

impl Guest {
    /// Whether it runs programs of a platform without a translator. A variant (`amd64/v3`, `arm64/v9`) asks for instructions,
    /// and whether they are there is between the program and the processor, as it is with Docker.
    ///
    /// 32-bit x86 programs run in amd64 guests: Debian's kernels for amd64 have `CONFIG_IA32_EMULATION=y`.
    #[must_use]
    pub fn runs(self, platform: &Platform) -> bool {
        match (self.arch, platform.cpu()) {
            (Arch::Amd64, Cpu::Amd64 | Cpu::I386) | (Arch::Arm64, Cpu::Arm64) => true,
            (Arch::Arm64, Cpu::Arm) => self.aarch32,
            _ => false,
        }
    }
}

/// A guest of which only the architecture is known: 32-bit Arm programs are taken to be foreign.
impl From<Arch> for Guest {
    fn from(arch: Arch) -> Self {
        Self { arch, aarch32: false }
    }
}
