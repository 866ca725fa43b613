//! Why a translator cannot serve, in words that name what to do (spec 1.4).

use std::fmt;
use std::path::{Path, PathBuf};

use super::TranslatorName;
use crate::Arch;

/// Whether a translator can serve, or why it cannot (spec 1.4, 1.5).
pub type State = Result<(), Unprovisioned>;

/// The translators of one served architecture in the user's order, each with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The architecture of the programs.
    pub arch: Arch,
    /// The user's list; the first that is provisioned serves.
    pub translators: Vec<(TranslatorName, State)>,
}

/// Why a translator cannot serve an architecture: it names the architecture, the translator, the file and what to run
/// (spec 1.4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{translator} is not provisioned for {serves}: {}{why}{}", Subject(file.as_deref()), Advice(*translator, why))]
pub struct Unprovisioned {
    /// The translator.
    pub translator: TranslatorName,
    /// The architecture that it would serve.
    pub serves: Arch,
    /// Its file in the runtime directory; absent where there is no such translator for this guest.
    pub file: Option<PathBuf>,
    /// The reason.
    pub why: Why,
}

/// What is wrong with a translator or its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There is nothing of that name.
    #[error("does not exist")]
    Missing,
    /// A symbolic link, whether or not it leads anywhere. The guest gets the file itself.
    #[error("is a symbolic link{}, not a regular file", if *dangling { " that leads nowhere" } else { "" })]
    Link {
        /// It leads nowhere.
        dangling: bool,
    },
    /// A directory.
    #[error("is a directory, not a regular file")]
    Directory,
    /// A socket, a pipe or a device.
    #[error("is not a regular file")]
    NotRegular,
    /// No execute permission for its owner.
    #[error("is not executable")]
    NotExecutable,
    /// Nothing that the kernel could run.
    #[error("is not a 64-bit ELF program")]
    NotElf,
    /// Its header promises more than there is.
    #[error("is truncated: its header asks for {needs} bytes and it has {has}")]
    Truncated {
        /// Bytes that the header speaks of.
        needs: u64,
        /// Bytes that there are.
        has: u64,
    },
    /// It runs on another architecture than the guest's.
    #[error("is a program for {found}, and the guest is {guest}")]
    WrongArch {
        /// The program's.
        found: String,
        /// The guest's.
        guest: Arch,
    },
    /// It needs a loader and libraries, which containers of another architecture do not have.
    #[error("is linked dynamically; only a static build works inside containers")]
    Dynamic,
    /// More than Dhow hands to a guest.
    #[error("has {has} bytes, more than the {limit} that a guest is handed")]
    TooLarge {
        /// Its size.
        has: u64,
        /// The most.
        limit: u64,
    },
    /// The host refuses to show it.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// No such pair in the table.
    #[error("it does not serve {serves} in {guest} guests")]
    NoSuchPair {
        /// The architecture asked for.
        serves: Arch,
        /// The guest's.
        guest: Arch,
    },
    /// Only another host system has it.
    #[error("it is part of macOS and cannot be had on this host")]
    OtherHost,
    /// The file is good, and the running guest does not have it registered.
    #[error("is there, but the running machine does not use it: {0}")]
    NotRegistered(String),
}

struct Subject<'a>(Option<&'a Path>);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |file| write!(f, "{} ", file.display()))
    }
}

/// What to run; nothing where no command would help.
struct Advice<'a>(TranslatorName, &'a Why);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Why::OtherHost | Why::NoSuchPair { .. } => Ok(()),
            Why::NotRegistered(_) => f.write_str("; run `dhow doctor`"),
            _ if self.0 == TranslatorName::Qemu => f.write_str("; run `dhow translator provision qemu`"),
            _ => write!(f, "; run `dhow translator provision {} --from FILE`", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 1.4: the error names the architecture, the translator, the file and the command.
    #[test]
    fn the_reason_names_architecture_translator_file_and_command() {
        let told = |why, file: Option<&str>| {
            let file = file.map(PathBuf::from);
            Unprovisioned { translator: TranslatorName::Qemu, serves: Arch::Arm64, file, why }.to_string()
        };
        assert_eq!(
            told(Why::Missing, Some("/d/runtime/bin/qemu-aarch64")),
            "qemu is not provisioned for arm64: /d/runtime/bin/qemu-aarch64 does not exist; \
             run `dhow translator provision qemu`"
        );
        assert_eq!(
            told(Why::Link { dangling: true }, Some("/d/q")),
            "qemu is not provisioned for arm64: /d/q is a symbolic link that leads nowhere, not a regular file; \
             run `dhow translator provision qemu`"
        );
        assert_eq!(
            told(Why::OtherHost, None),
            "qemu is not provisioned for arm64: it is part of macOS and cannot be had on this host"
        );
    }
}
