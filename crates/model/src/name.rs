//! Names of machines: short, and safe as a file name, a host name and a word on a command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a machine: 1 to 32 lower-case letters, digits and hyphens, starting with a letter and not ending with a
/// hyphen. Such a name is a valid DNS label (RFC 1123, 2.1) and needs no quoting in a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

/// Why a word cannot name a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a machine: use 1 to 32 lower-case letters, digits and hyphens, starting with a letter"
)]
pub struct BadName(pub String);

impl MachineName {
    /// The engine machine that is always there and runs containers by default.
    #[must_use]
    pub fn native() -> Self {
        Self("native".to_owned())
    }

    /// The engine machine for workloads of another architecture.
    #[must_use]
    pub fn foreign() -> Self {
        Self("foreign".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MachineName {
    type Err = BadName;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let bytes = word.as_bytes();
        let starts = bytes.first().is_some_and(u8::is_ascii_lowercase);
        let ends = bytes.last().is_some_and(|b| *b != b'-');
        let middle = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if starts && ends && middle && bytes.len() <= 32 {
            Ok(Self(word.to_owned()))
        } else {
            Err(BadName(word.to_owned()))
        }
    }
}

impl TryFrom<String> for MachineName {
    type Error = BadName;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        word.parse()
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_dns_labels_are_refused() {
        for word in ["", "-a", "a-", "A", "a_b", "a/b", "..", "1a", &"a".repeat(33)] {
            assert!(word.parse::<MachineName>().is_err(), "{word:?}");
        }
        for word in ["native", "foreign", "a", "agent-7", &"a".repeat(32)] {
            assert!(word.parse::<MachineName>().is_ok(), "{word:?}");
        }
    }
}
