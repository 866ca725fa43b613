//! What is tried: every program of gates A and B, as data. Gate C (builds, Compose) stands in `run`, since it is more than one program.

mod busybox;
mod debian;
mod node;
mod ours;

use std::fmt;
use std::time::Duration;

use dhow_model::Arch;
use dhow_model::translator::Translator;
use serde::{Deserialize, Serialize};

use crate::images::Image;
use crate::judge::{Expect, Gap};

/// One of the three, each of which stands on the one before (spec 10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Whether anything runs at all, native and foreign, and is what it says.
    A,
    /// Representative programs.
    B,
    /// Builds, and a project that mixes architectures.
    C,
}

/// One program that is run in a container of its own.
#[derive(Debug, Clone)]
pub struct Check {
    /// Which gate.
    pub gate: Gate,
    /// A word or two; stable, the key of reports and of the matrix.
    pub name: &'static str,
    /// What it proves.
    pub about: &'static str,
    /// What it runs in.
    pub image: Image,
    /// The same with an image that people use, where a registry is at hand.
    pub public: Option<Public>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// As which user: `uid:gid`, or empty for the image's.
    pub user: &'static str,
    /// Sent once the program has said `ready`, as `docker kill` does.
    pub signal: Option<&'static str>,
    /// How long it may take.
    pub limit: Duration,
    /// What a right one does.
    pub expect: Expect,
    /// What is known of this translator.
    pub gap: Option<Gap>,
}

/// An image from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// Its name and tag, without the registry.
    pub image: &'static str,
    /// Another command, where its programs are others.
    pub command: Option<Vec<String>>,
}

/// For programs that are small.
const SHORT: Duration = Duration::from_secs(300);
/// For interpreters and compilers under software emulation twice over.
const LONG: Duration = Duration::from_secs(900);

impl Check {
    fn new(gate: Gate, name: &'static str, about: &'static str, image: Image, command: Vec<String>) -> Self {
        Self {
            gate,
            name,
            about,
            image,
            public: None,
            command,
            user: "",
            signal: None,
            limit: SHORT,
            expect: Expect::says(""),
            gap: None,
        }
    }

    fn expects(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    fn patient(mut self) -> Self {
        self.limit = LONG;
        self
    }

    fn run_as(mut self, user: &'static str) -> Self {
        self.user = user;
        self
    }

    fn public(mut self, image: &'static str) -> Self {
        self.public = Some(Public { image, command: None });
        self
    }

    /// Names a gap if the table of translators has one that begins so.
    fn gap(mut self, translator: Option<&Translator>, begins: &str, looks: Expect) -> Self {
        let named = translator.and_then(|row| row.gaps.iter().find(|gap| gap.starts_with(begins)));
        self.gap = named.map(|name| Gap { name: (*name).to_owned(), looks });
        self
    }
}

/// Gate A: one program of `arch`.
#[must_use]
pub fn machine(name: &'static str, arch: Arch) -> Check {
    ours::machine(name, arch)
}

/// Gate B for programs of `arch`, in the order in which they are run: the smallest first.
#[must_use]
pub fn programs(arch: Arch, translator: Option<&Translator>) -> Vec<Check> {
    let mut checks = ours::checks(arch, translator);
    checks.extend(busybox::checks(arch));
    checks.extend(debian::checks(arch));
    checks.extend(node::checks(arch));
    checks
}

/// What a right program writes in the check of large outputs.
#[must_use]
pub fn large() -> String {
    busybox::large()
}

/// Files of the image [`Image::Debian`]: path and content.
pub(crate) const fn sources() -> [(&'static str, &'static str); 3] {
    debian::SOURCES
}

fn shell(script: &str) -> Vec<String> {
    words(&["sh", "-c", script])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dhow_model::TranslatorName;
    use dhow_model::translator::TABLE;

    use super::*;

    /// The names are keys of reports and of the matrix.
    #[test]
    fn every_check_has_a_name_of_its_own() {
        for arch in Arch::ALL {
            let checks = programs(arch, None);
            let names: BTreeSet<&str> = checks.iter().map(|check| check.name).collect();
            assert_eq!(names.len(), checks.len());
            assert!(checks.iter().all(|check| !check.about.is_empty() && check.gate == Gate::B));
        }
    }

    /// Spec 10.2: a gap is one that the table of translators names for this very translator.
    #[test]
    fn a_gap_is_excused_only_for_the_translator_that_has_it() {
        let gaps = |row: Option<&Translator>, arch| -> Vec<&'static str> {
            programs(arch, row).iter().filter(|check| check.gap.is_some()).map(|check| check.name).collect()
        };
        assert!(gaps(None, Arch::Amd64).is_empty());
        for row in &TABLE {
            let named = gaps(Some(row), row.serves);
            assert!(named.contains(&"ptrace"), "{}", row.name);
            assert_eq!(named.contains(&"setuid"), row.name == TranslatorName::Box64, "{}", row.name);
        }
    }
}
