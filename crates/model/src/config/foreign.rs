//! What the user asks for workloads of another architecture: `[workloads]`, `[translators]`, `[foreign]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Cpus};
use crate::translator::default_list;
use crate::{Arch, Placement, Size, TranslatorName};

/// `[workloads]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workloads {
    /// Which machine runs those of a foreign architecture (spec 1.1, 1.10).
    pub placement: Placement,
}

/// `[translators]`: what may run programs of a foreign architecture in the native machine, in order (spec 1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Translators {
    /// For amd64 programs in Arm64 machines.
    pub amd64: TranslatorList,
    /// For arm64 programs in x86-64 machines.
    pub arm64: TranslatorList,
}

/// Translators in the user's order, none twice. A single one may be written without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "Vec<TranslatorName>")]
pub struct TranslatorList(Vec<TranslatorName>);

/// Why a list of translators cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// Neither a name nor names.
    #[error("{0} is no list of translators: write one such as [\"qemu\"]")]
    NoList(String),
    /// A word that names none.
    #[error("`{0}` is no translator: {meant}", meant = meant(.0))]
    Unknown(String),
    /// A name that stands there twice.
    #[error("`{0}` stands in the list twice; name each translator once, the one to use first in front")]
    Twice(TranslatorName),
}

/// `[foreign]`: the second engine machine, with placement `foreign-machine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Foreign {
    /// Virtual processors.
    pub cpus: Cpus,
    /// Memory that the guest sees.
    pub memory: Size,
    /// The data disk's size.
    pub disk: Size,
}

impl Translators {
    /// The list that serves an architecture.
    #[must_use]
    pub fn list(&self, serves: Arch) -> &[TranslatorName] {
        match serves {
            Arch::Amd64 => &self.amd64.0,
            Arch::Arm64 => &self.arm64.0,
        }
    }

    /// Every name serves the architecture of its list in some guest.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for serves in Arch::ALL {
            let able = serving(serves);
            if let Some(name) = self.list(serves).iter().find(|name| !able.contains(name)) {
                let able = able.into_iter().map(TranslatorName::as_str).collect::<Vec<_>>().join(", ");
                return Err(ConfigError::WrongTranslator { serves, name: *name, able });
            }
        }
        Ok(())
    }
}

/// Those that serve an architecture in some guest.
fn serving(serves: Arch) -> Vec<TranslatorName> {
    let serves_it =
        |name: &TranslatorName| Arch::ALL.into_iter().any(|guest| name.translator(guest, serves).is_some());
    TranslatorName::ALL.into_iter().filter(serves_it).collect()
}

impl TranslatorList {
    /// The names, in order.
    #[must_use]
    pub fn names(&self) -> &[TranslatorName] {
        &self.0
    }
}

impl Default for Translators {
    fn default() -> Self {
        let list = |serves| TranslatorList(default_list(serves).to_vec());
        Self { amd64: list(Arch::Amd64), arm64: list(Arch::Arm64) }
    }
}

impl Default for Foreign {
    fn default() -> Self {
        Self { cpus: Cpus::Auto, memory: Size::gib(2), disk: Size::gib(64) }
    }
}

impl TryFrom<toml::Value> for TranslatorList {
    type Error = BadList;

    fn try_from(value: toml::Value) -> Result<Self, BadList> {
        let words = match &value {
            toml::Value::Array(words) => words.iter().map(toml::Value::as_str).collect(),
            one => one.as_str().map(|word| vec![word]),
        };
        let mut list = Vec::new();
        for word in words.ok_or_else(|| BadList::NoList(value.to_string()))? {
            let name = word.parse().map_err(|_| BadList::Unknown(word.to_owned()))?;
            if list.contains(&name) {
                return Err(BadList::Twice(name));
            }
            list.push(name);
        }
        Ok(Self(list))
    }
}

/// The nearest name if one is near, or all of them.
fn meant(word: &str) -> String {
    let word = word.to_ascii_lowercase();
    let distance = |name: TranslatorName| strsim::damerau_levenshtein(&word, name.as_str());
    let near = TranslatorName::ALL.into_iter().min_by_key(|name| distance(*name));
    match near.filter(|name| distance(*name) <= 2) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("use one of {}", TranslatorName::ALL.map(TranslatorName::as_str).join(", ")),
    }
}

impl From<TranslatorList> for Vec<TranslatorName> {
    fn from(list: TranslatorList) -> Self {
        list.0
    }
}
