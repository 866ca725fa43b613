//! The platform of a workload: what `--platform` says and what an image was built for.
//!
//! Specifiers are read as containerd's `platforms` package documents them (`<os>|<arch>|<os>/<arch>[/<variant>]`), with
//! its aliases and its normal forms, since dockerd reads the same text with it. Dhow adds one rule: the operating system is Linux.

use std::fmt;
use std::str::FromStr;

use crate::Arch;

/// What a workload runs on: Linux, a processor, and at times a variant of it. Always in containerd's normal form, so that
/// two spellings of one platform are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    cpu: Cpu,
    variant: Option<String>,
}

/// A processor family, by Go's name for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cpu {
    /// x86, 64 bit: `amd64`.
    Amd64,
    /// Arm, 64 bit: `arm64`.
    Arm64,
    /// x86, 32 bit: `386`.
    I386,
    /// Arm, 32 bit: `arm`.
    Arm,
    /// One that no machine of Dhow's and none of its translators run, in lower case.
    Other(String),
}

/// Why a text names no platform that Dhow can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlatform {
    /// No text at all.
    #[error("the platform is empty: write one such as linux/amd64 or linux/arm64")]
    Empty,
    /// More text than any platform has.
    #[error(
        "the platform is {0} bytes long, and the longest one read is {MAX_LEN}: write one such as linux/amd64 or linux/arm64"
    )]
    TooLong(usize),
    /// A part between slashes that is empty.
    #[error("platform {0:?} has an empty part: write it as linux/arm64 or linux/arm/v7")]
    EmptyPart(String),
    /// More parts than a platform has.
    #[error("platform {0:?} has more than three parts: write it as linux/arm64 or linux/arm/v7")]
    TooManyParts(String),
    /// A character that no part may have.
    #[error(
        "platform {text:?} has the character {character:?}: a part has letters, digits, dots, hyphens and underscores"
    )]
    Character {
        /// The whole text.
        text: String,
        /// The first such character.
        character: char,
    },
    /// An operating system that Dhow does not run.
    #[error(
        "platform {text:?} is for the operating system {os}: Dhow runs Linux containers only, such as linux/amd64 or linux/arm64"
    )]
    NotLinux {
        /// The whole text.
        text: String,
        /// Its operating system, in lower case.
        os: String,
    },
    /// A list that is longer than any build's.
    #[error("the list has more than {MAX_LIST} platforms")]
    TooMany,
    /// One word that names neither an operating system nor a processor.
    #[error(
        "platform {0:?} is neither an operating system nor a processor architecture: write one such as linux/amd64 or linux/arm64"
    )]
    Unknown(String),
    /// The word `linux` alone, where it is not known which processor that means.
    #[error("platform {0:?} names no processor: write one such as linux/amd64 or linux/arm64")]
    NoProcessor(String),
}

/// Bytes of the longest specifier that is read.
const MAX_LEN: usize = 128;

/// Platforms of the longest list that is read.
const MAX_LIST: usize = 32;

/// Operating systems that Go knows: one of these alone is an operating system, any other word alone is a processor.
const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// Processors that Go knows beside the four that [`Cpu`] names.
const PROCESSORS: [&str; 21] = [
    "amd64p32",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "wasm32",
];

impl Platform {
    /// The platform of an architecture's own programs: `linux/amd64`, `linux/arm64`.
    #[must_use]
    pub const fn of(arch: Arch) -> Self {
        let cpu = match arch {
            Arch::Amd64 => Cpu::Amd64,
            Arch::Arm64 => Cpu::Arm64,
        };
        Self { cpu, variant: None }
    }

    /// Reads a specifier; `native` is what `linux` alone means, the architecture of the machine that reads it.
    ///
    /// # Errors
    /// When it is malformed or not Linux; the text is fit for the answer of a Docker API.
    pub fn parse(text: &str, native: Arch) -> Result<Self, BadPlatform> {
        Self::read(text, Some(native))
    }

    /// Reads specifiers that commas divide, as the `platform` of a build: each platform once, in order; none in an empty text.
    ///
    /// # Errors
    /// When one is malformed or not Linux, or there are more than any build has.
    pub fn parse_list(text: &str, native: Arch) -> Result<Vec<Self>, BadPlatform> {
        let mut list = Vec::new();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let platform = Self::parse(word, native)?;
            if !list.contains(&platform) {
                list.push(platform);
            }
            if list.len() > MAX_LIST {
                return Err(BadPlatform::TooMany);
            }
        }
        Ok(list)
    }

    /// The platform of an image, from the three fields of its configuration; `variant` is empty for most.
    ///
    /// # Errors
    /// When it is malformed or not Linux.
    pub fn of_image(os: &str, architecture: &str, variant: &str) -> Result<Self, BadPlatform> {
        let text = match variant {
            "" => format!("{os}/{architecture}"),
            _ => format!("{os}/{architecture}/{variant}"),
        };
        Self::read(&text, None)
    }

    /// Always `linux`.
    #[must_use]
    pub const fn os(&self) -> &'static str {
        "linux"
    }

    /// The processor family.
    #[must_use]
    pub const fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// What kind of it, `v7` or `v6` of `arm` or `v3` of `amd64`; `None` is the usual one.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    fn read(text: &str, native: Option<Arch>) -> Result<Self, BadPlatform> {
        let parts = split(text)?;
        match parts.as_slice() {
            [word] => Self::from_word(text, word, native),
            [os, cpu] => Self::linux(text, os, cpu, ""),
            [os, cpu, variant] => Self::linux(text, os, cpu, variant),
            _ => Err(BadPlatform::TooManyParts(text.to_owned())),
        }
    }

    fn from_word(text: &str, word: &str, native: Option<Arch>) -> Result<Self, BadPlatform> {
        if word == "linux" {
            return native.map(Self::of).ok_or_else(|| BadPlatform::NoProcessor(text.to_owned()));
        }
        if SYSTEMS.contains(&word) || word == "macos" {
            return Err(BadPlatform::NotLinux { text: text.to_owned(), os: word.to_owned() });
        }
        let platform = Self::normal(word, "");
        match &platform.cpu {
            Cpu::Other(name) if !PROCESSORS.contains(&name.as_str()) => {
                Err(BadPlatform::Unknown(text.to_owned()))
            }
            _ => Ok(platform),
        }
    }

    fn linux(text: &str, os: &str, cpu: &str, variant: &str) -> Result<Self, BadPlatform> {
        if os == "linux" {
            Ok(Self::normal(cpu, variant))
        } else {
            Err(BadPlatform::NotLinux { text: text.to_owned(), os: os.to_owned() })
        }
    }

    /// containerd's normal form: aliases resolved, the usual variant left out, that of 32-bit Arm always written.
    fn normal(cpu: &str, variant: &str) -> Self {
        let (cpu, variant) = match (cpu, variant) {
            ("i386" | "386", _) => (Cpu::I386, ""),
            ("amd64" | "x86_64" | "x86-64", "v1") => (Cpu::Amd64, ""),
            ("amd64" | "x86_64" | "x86-64", variant) => (Cpu::Amd64, variant),
            ("arm64" | "aarch64", "8" | "v8") => (Cpu::Arm64, ""),
            ("arm64" | "aarch64", variant) => (Cpu::Arm64, variant),
            ("armhf", _) | ("arm", "" | "7") => (Cpu::Arm, "v7"),
            ("armel", _) | ("arm", "6") => (Cpu::Arm, "v6"),
            ("arm", "5") => (Cpu::Arm, "v5"),
            ("arm", "8") => (Cpu::Arm, "v8"),
            ("arm", variant) => (Cpu::Arm, variant),
            (other, variant) => (Cpu::Other(other.to_owned()), variant),
        };
        Self { cpu, variant: (!variant.is_empty()).then(|| variant.to_owned()) }
    }
}

/// The parts between slashes in lower case, each of allowed characters.
fn split(text: &str) -> Result<Vec<String>, BadPlatform> {
    if text.is_empty() {
        return Err(BadPlatform::Empty);
    }
    if text.len() > MAX_LEN {
        return Err(BadPlatform::TooLong(text.len()));
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-');
    if let Some(character) = text.chars().find(|c| !allowed(c)) {
        return Err(BadPlatform::Character { text: text.to_owned(), character });
    }
    let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
    if parts.iter().any(String::is_empty) {
        return Err(BadPlatform::EmptyPart(text.to_owned()));
    }
    Ok(parts)
}

impl Cpu {
    /// The architecture of machines and translators that it is; `None` for 32-bit processors and unknown ones.
    #[must_use]
    pub const fn arch(&self) -> Option<Arch> {
        match self {
            Self::Amd64 => Some(Arch::Amd64),
            Self::Arm64 => Some(Arch::Arm64),
            Self::I386 | Self::Arm | Self::Other(_) => None,
        }
    }

    /// Go's name for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::I386 => "386",
            Self::Arm => "arm",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `linux/arm64`, `linux/arm/v7`: the form in which Docker prints it.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os(), self.cpu)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// Reads what is complete in itself; `linux` alone means this program's architecture.
impl FromStr for Platform {
    type Err = BadPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text, Arch::host())
    }
}
