//! Why an engine machine exists: the one that is always there, and the optional one for foreign workloads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MachineName;

/// Why an engine machine exists. Its machine bears the role's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Always there; runs containers by default.
    Native,
    /// The optional second machine, for workloads of another architecture.
    Foreign,
}

/// A word that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role of an engine machine: use native or foreign")]
pub struct UnknownRole(pub String);

impl Role {
    /// Both roles, the default one first.
    pub const ALL: [Self; 2] = [Self::Native, Self::Foreign];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Foreign => "foreign",
        }
    }

    /// The name of its machine.
    #[must_use]
    pub fn machine(self) -> MachineName {
        match self {
            Self::Native => MachineName::native(),
            Self::Foreign => MachineName::foreign(),
        }
    }

    /// The role of an engine machine's name; `None` for any other machine.
    #[must_use]
    pub fn of(machine: &MachineName) -> Option<Self> {
        machine.as_str().parse().ok()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "native" => Ok(Self::Native),
            "foreign" => Ok(Self::Foreign),
            _ => Err(UnknownRole(word.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 6.5: every role's machine has its own name.
    #[test]
    fn every_role_parses_back_and_has_a_machine_of_its_own_name() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(role.machine().as_str(), role.as_str());
            assert_eq!(Role::of(&role.machine()), Some(role));
        }
        assert!("nativ".parse::<Role>().is_err());
    }
}
