//! QEMU's version, from its greeting or from what `--version` prints.

use std::fmt;

use serde::Deserialize;

/// A version; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct QemuVersion {
    /// First number, one more each year.
    pub major: u32,
    /// Second number, 0 to 2.
    pub minor: u32,
    /// Third number, of bug fixes.
    pub micro: u32,
}

impl QemuVersion {
    /// Parses the first line of `qemu-system-… --version`: `QEMU emulator version 10.0.2 (Debian …)`.
    #[must_use]
    pub fn parse(printed: &str) -> Option<Self> {
        let (_, rest) = printed.split_once("QEMU emulator version ")?;
        let word = rest.split(|c: char| c.is_whitespace() || c == '(' || c == '-').next()?;
        let mut numbers = word.split('.').map(|n| n.parse::<u32>().ok());
        let major = numbers.next()??;
        let minor = numbers.next()??;
        let micro = numbers.next().flatten().unwrap_or(0);
        Some(Self { major, minor, micro })
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_and_release_candidates_parse() {
        let table = [
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright",
                Some((10, 0, 2)),
            ),
            ("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)", Some((7, 2, 17))),
            ("QEMU emulator version 8.2", Some((8, 2, 0))),
            ("QEMU emulator version 9.1.0-rc2", Some((9, 1, 0))),
            ("QEMU emulator version ten", None),
            ("bash: not found", None),
            ("", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(major, minor, micro)| QemuVersion { major, minor, micro });
            assert_eq!(QemuVersion::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn later_versions_are_greater() {
        let version = |text: &str| QemuVersion::parse(&format!("QEMU emulator version {text}")).unwrap();
        assert!(version("10.0.0") > version("9.2.4"));
        assert!(version("8.2.0") > version("8.1.9"));
    }
}
