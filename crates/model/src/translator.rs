//! Translators: what lets a guest run programs of another architecture, as data (spec 1.3 to 1.9), and what can be wrong
//! with the file of one.

pub mod elf;
pub mod probe;
mod said;
mod why;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::said::{Said, UNIDENTIFIED};
pub use self::why::{Served, State, Unprovisioned, Why};
use crate::Arch;

/// The largest file that a guest is handed; it keeps it in memory.
pub const LIMIT: u64 = 64 << 20;

/// A translator's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TranslatorName {
    /// FEX, in a static build that needs no server.
    Fex,
    /// Apple's Rosetta for Linux guests.
    Rosetta,
    /// box64, in a static build.
    Box64,
    /// QEMU's user mode.
    Qemu,
}

/// A word that names no translator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no translator that Dhow knows: use fex, rosetta, box64 or qemu")]
pub struct UnknownTranslator(pub String);

/// One translator for one pair of architectures.
#[derive(Debug, PartialEq, Eq)]
pub struct Translator {
    /// Its name.
    pub name: TranslatorName,
    /// The architecture of the guest in which it runs, and of its file.
    pub guest: Arch,
    /// The architecture of the programs that it runs.
    pub serves: Arch,
    /// Its file's name in the runtime directory.
    pub file: &'static str,
    /// The flags of its `binfmt_misc` entry. The kernel's `Documentation/admin-guide/binfmt-misc.rst` has their meaning:
    /// `F` opens the interpreter at registration, so that it works in every mount namespace; `P` hands it the program's
    /// own `argv[0]`, `O` the opened program, `C` the program's credentials.
    pub flags: &'static str,
    /// What it should have in its environment; Dhow sets it where Dhow runs it, a container's owner elsewhere.
    pub environment: &'static [(&'static str, &'static str)],
    /// A word that its answer to `--version` has in it and no other translator's has; empty: not known.
    pub mark: &'static str,
    /// Where its file comes from.
    pub source: Source,
    /// What is known not to work under it.
    pub gaps: &'static [&'static str],
}

/// Where a translator's file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A file of a package of the distribution that guests are made from, in the guest's architecture.
    Package {
        /// The package.
        name: &'static str,
        /// The file's path in it, without a slash at the beginning.
        path: &'static str,
    },
    /// A file or an address with a digest, which the user names.
    User,
    /// The host's own system; on macOS only.
    MacOs,
}

/// How `binfmt_misc` knows the programs of an architecture: these bytes at the beginning of a file, where the mask is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// The bytes.
    pub magic: [u8; PATTERN],
    /// Which of their bits count.
    pub mask: [u8; PATTERN],
}

/// Length of a pattern: an ELF header up to and with `e_machine`.
pub const PATTERN: usize = 20;

/// Under QEMU since 5.2 and kernels since 5.12 the program's own `argv[0]` comes through (`AT_FLAGS_PRESERVE_ARGV0`).
const QEMU_FLAGS: &str = "POCF";
const QEMU_GAPS: &[&str] =
    &["ptrace of translated programs (debuggers, strace)", "io_uring", "instructions run many times slower"];

/// Every translator that Dhow knows.
pub static TABLE: [Translator; 5] = [
    Translator {
        name: TranslatorName::Fex,
        guest: Arch::Arm64,
        serves: Arch::Amd64,
        file: "FEX",
        flags: "POCF",
        environment: &[],
        mark: "FEX",
        source: Source::User,
        gaps: &[
            "ptrace of translated programs (debuggers, strace)",
            "processors with pages larger than 4 KiB",
        ],
    },
    Translator {
        name: TranslatorName::Rosetta,
        guest: Arch::Arm64,
        serves: Arch::Amd64,
        file: "rosetta",
        // As Apple's documentation asks: credentials, and no preserved argv[0].
        flags: "OCF",
        environment: &[],
        mark: "",
        source: Source::MacOs,
        gaps: &["ptrace of translated programs (debuggers, strace)", "AVX-512"],
    },
    Translator {
        name: TranslatorName::Box64,
        guest: Arch::Arm64,
        serves: Arch::Amd64,
        file: "box64",
        // It takes its program's path from its arguments, so that neither O nor C nor P would reach it.
        flags: "F",
        environment: &[("BOX64_NOBANNER", "1")],
        mark: "Box64",
        source: Source::User,
        gaps: &[
            "set-user-ID programs",
            "programs that can be executed and not read",
            "ptrace of translated programs (debuggers, strace)",
        ],
    },
    Translator {
        name: TranslatorName::Qemu,
        guest: Arch::Arm64,
        serves: Arch::Amd64,
        file: "qemu-x86_64",
        flags: QEMU_FLAGS,
        environment: &[],
        mark: "qemu-",
        source: Source::Package { name: "qemu-user", path: "usr/bin/qemu-x86_64" },
        gaps: QEMU_GAPS,
    },
    Translator {
        name: TranslatorName::Qemu,
        guest: Arch::Amd64,
        serves: Arch::Arm64,
        file: "qemu-aarch64",
        flags: QEMU_FLAGS,
        environment: &[],
        mark: "qemu-",
        source: Source::Package { name: "qemu-user", path: "usr/bin/qemu-aarch64" },
        gaps: QEMU_GAPS,
    },
];

impl TranslatorName {
    /// Every translator, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Fex, Self::Rosetta, Self::Box64, Self::Qemu];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fex => "fex",
            Self::Rosetta => "rosetta",
            Self::Box64 => "box64",
            Self::Qemu => "qemu",
        }
    }

    /// The row of the table for a guest and an architecture that it serves.
    #[must_use]
    pub fn translator(self, guest: Arch, serves: Arch) -> Option<&'static Translator> {
        TABLE.iter().find(|row| row.name == self && row.guest == guest && row.serves == serves)
    }
}

/// The list that serves an architecture where the user names none (spec 1.3).
#[must_use]
pub const fn default_list(serves: Arch) -> &'static [TranslatorName] {
    match serves {
        Arch::Amd64 => &[TranslatorName::Fex],
        Arch::Arm64 => &[TranslatorName::Qemu],
    }
}

impl Translator {
    /// The name of its entry below `/proc/sys/fs/binfmt_misc`, which says who put it there and from which file: another version
    /// is registered before the earlier one is taken away, so that there is always one.
    #[must_use]
    pub fn entry(&self, sha256: &str) -> String {
        format!("dhow-{}-{}-{}", self.name, self.serves, sha256.get(..12).unwrap_or(sha256))
    }

    /// What is written to `/proc/sys/fs/binfmt_misc/register` (the kernel's `Documentation/admin-guide/binfmt-misc.rst`).
    #[must_use]
    pub fn registration(&self, entry: &str, interpreter: &Path) -> String {
        let Pattern { magic, mask } = Pattern::of(self.serves);
        let escaped =
            |bytes: [u8; PATTERN]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let (interpreter, flags) = (interpreter.display(), self.flags);
        format!(":{entry}:M:0:{}:{}:{interpreter}:{flags}", escaped(magic), escaped(mask))
    }
}

impl Pattern {
    /// The pattern of an architecture's programs, from the fields of an ELF header (System V ABI, chapter 4): its four magic
    /// bytes, class, data encoding, version, `e_type` executable (2) or shared object (3), which differ in one bit, and
    /// `e_machine`. Who made it (OS ABI, its version, padding) says nothing of the architecture.
    #[must_use]
    pub const fn of(arch: Arch) -> Self {
        let [low, high] = arch.elf_machine().to_le_bytes();
        let mut magic = [0; PATTERN];
        let mut mask = [0; PATTERN];
        let header = *b"\x7fELF\x02\x01\x01";
        let mut at = 0;
        while at < header.len() {
            magic[at] = header[at];
            mask[at] = 0xff;
            at += 1;
        }
        (magic[16], mask[16]) = (2, 0xfe);
        mask[17] = 0xff;
        (magic[18], mask[18]) = (low, 0xff);
        (magic[19], mask[19]) = (high, 0xff);
        Self { magic, mask }
    }

    /// Whether the beginning of a file is of this pattern, as the kernel compares.
    #[must_use]
    pub fn matches(&self, file: &[u8]) -> bool {
        file.len() >= PATTERN
            && self
                .magic
                .iter()
                .zip(&self.mask)
                .zip(file)
                .all(|((magic, mask), byte)| (magic ^ byte) & mask == 0)
    }
}

impl fmt::Display for TranslatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TranslatorName {
    type Err = UnknownTranslator;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == word)
            .ok_or_else(|| UnknownTranslator(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(arch: Arch, kind: u8, abi: u8) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(PATTERN, 0);
        bytes[7] = abi;
        bytes[16] = kind;
        bytes[18..20].copy_from_slice(&arch.elf_machine().to_le_bytes());
        bytes
    }

    /// Spec 1.7: a pattern takes the programs of its architecture, whoever made them, and no others.
    #[test]
    fn a_pattern_takes_the_programs_of_its_architecture_and_no_others() {
        for arch in Arch::ALL {
            let pattern = Pattern::of(arch);
            for other in Arch::ALL {
                for (kind, program) in [(1, false), (2, true), (3, true), (4, false)] {
                    for abi in [0, 3] {
                        let seen = pattern.matches(&header(other, kind, abi));
                        assert_eq!(
                            seen,
                            program && other == arch,
                            "{arch} of {other}, type {kind}, ABI {abi}"
                        );
                    }
                }
            }
            assert!(!pattern.matches(b"#!/bin/sh\n") && !pattern.matches(b"\x7fELF"));
            let mut short = header(arch, 2, 0);
            short[4] = 1;
            assert!(!pattern.matches(&short), "a 32-bit program");
        }
    }

    /// Spec 1.7: every translator works in containers' mount namespaces.
    #[test]
    fn every_entry_fixes_its_interpreter_and_no_pair_occurs_twice() {
        let mut pairs = Vec::new();
        for row in &TABLE {
            assert!(row.flags.contains('F'), "{}", row.name);
            assert!(row.flags.chars().all(|flag| "POCF".contains(flag)));
            assert_ne!(row.guest, row.serves);
            pairs.push((row.name, row.guest, row.serves));
            assert_eq!(row.name.translator(row.guest, row.serves), Some(row));
        }
        pairs.sort_unstable();
        let all = pairs.len();
        pairs.dedup();
        assert_eq!(pairs.len(), all);
    }

    /// Spec 1.7, and the kernel's description of the format.
    #[test]
    fn the_registration_is_what_the_kernel_reads() {
        let qemu = TranslatorName::Qemu.translator(Arch::Amd64, Arch::Arm64).unwrap();
        let text =
            qemu.registration(&qemu.entry(&"3f".repeat(32)), Path::new("/run/dhow/translators/qemu-aarch64"));
        let fields: Vec<&str> = text.split(':').collect();
        assert_eq!(fields[..4], ["", "dhow-qemu-arm64-3f3f3f3f3f3f", "M", "0"]);
        assert_eq!(
            fields[4],
            r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
        );
        assert_eq!(
            fields[5],
            r"\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff"
        );
        assert_eq!(fields[6..], ["/run/dhow/translators/qemu-aarch64", "POCF"]);
        // MAX_REGISTER_LENGTH of the kernel's fs/binfmt_misc.c.
        assert!(text.len() < 1920);
    }

    /// Spec 1.3.
    #[test]
    fn the_default_lists_name_translators_that_there_are() {
        for (serves, guest) in [(Arch::Amd64, Arch::Arm64), (Arch::Arm64, Arch::Amd64)] {
            for name in default_list(serves) {
                assert!(name.translator(guest, serves).is_some());
            }
        }
    }

    #[test]
    fn every_name_parses_back_and_a_typo_is_named() {
        for name in TranslatorName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert!("quemu".parse::<TranslatorName>().unwrap_err().to_string().contains("`quemu`"));
    }
}
