//! When machines are put to sleep: `[sleep]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sleep::{After, NoTime};

/// `[sleep]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sleep {
    /// For how long a machine must have had nothing to do (spec 13.1).
    pub after: After,
}

impl Default for Sleep {
    fn default() -> Self {
        Self { after: After::Time(Duration::from_secs(5 * 60)) }
    }
}

impl Serialize for After {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = String::deserialize(from)?;
        words.parse().map_err(|wrong: NoTime| serde::de::Error::custom(wrong))
    }
}
