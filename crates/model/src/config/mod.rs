//! The configuration file: every key, its meaning and its default, in one list that parsing, help and documentation share.

mod foreign;
#[cfg(test)]
mod foreign_tests;
mod sections;
mod shares;
mod sleep;

use serde::{Deserialize, Serialize};

use crate::{Arch, Size, TranslatorName};

pub use foreign::{BadList, Foreign, TranslatorList, Translators, Workloads};
pub use sections::{
    Activate, Assets, Cpus, Dns, Docker, GuestArch, Level, Limits, Log, Machine, Network, Wish,
};
pub use shares::{Access, Files, Share, Shares, is_the_guests};
pub use sleep::Sleep;

/// What the user asks for. Each key that the file leaves out has its default; a key that is not known is an error
/// (spec 15.3).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The engine machine.
    pub machine: Machine,
    /// Boot assets.
    pub assets: Assets,
    /// What the Docker client is told.
    pub docker: Docker,
    /// Where workloads go.
    pub workloads: Workloads,
    /// What may run programs of another architecture.
    pub translators: Translators,
    /// The second engine machine.
    pub foreign: Foreign,
    /// The machine's network.
    pub network: Network,
    /// Directories of the host in the guest.
    pub files: Files,
    /// Names of containers.
    pub dns: Dns,
    /// When machines are put to sleep.
    pub sleep: Sleep,
    /// How long things may take.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
}

/// A key of the configuration file, as help and documentation show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Section and key, joined by a dot.
    pub name: &'static str,
    /// What it means, with its range.
    pub doc: &'static str,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not TOML, or a key or a value is wrong.
    #[error("{0}")]
    Parse(String),
    /// A value is outside its range.
    #[error("{key} = {value} is out of range: {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// A directory that cannot be shared.
    #[error("files.shares names {path}, which cannot be shared: {why}", path = path.display())]
    Share {
        /// The directory.
        path: std::path::PathBuf,
        /// Why not.
        why: String,
    },
    /// A translator in the list of an architecture that it does not serve.
    #[error("translators.{serves} names {name}, which runs no {serves} programs; use {able}")]
    WrongTranslator {
        /// The list.
        serves: Arch,
        /// What it names.
        name: TranslatorName,
        /// What it could name.
        able: String,
    },
}

impl Config {
    /// Every key. The values, and with [`Config::default`] the defaults, come from [`Config::values`].
    pub const KEYS: &[Key] = &[
        Key {
            name: "machine.arch",
            doc: "the guest's architecture: \"host\" for this computer's, \"amd64\" or \"arm64\"; another than this computer's is emulated, and slow",
        },
        Key { name: "machine.cpus", doc: "virtual processors, 1 to 256, or \"auto\": the host's, at most 4" },
        Key {
            name: "machine.memory",
            doc: "memory that the guest sees, 512MiB or more; the host gives it as it is used",
        },
        Key {
            name: "machine.disk",
            doc: "size of the data disk, 4GiB to 16TiB; the image is sparse; it can grow, not shrink",
        },
        Key {
            name: "machine.accelerator",
            doc: "what executes the guest: \"auto\", \"kvm\", \"hvf\", or \"tcg\" for software emulation",
        },
        Key {
            name: "assets.mirror",
            doc: "address of the Debian mirror that boot assets are built from; empty: as the host's package configuration says",
        },
        Key {
            name: "docker.context",
            doc: "name of the Docker context; empty: \"dhow\", with a tag in a directory that DHOW_HOME names",
        },
        Key {
            name: "docker.activate",
            doc: "whether `dhow up` makes the context the current one: \"always\", \"never\", or \"auto\": only in the default directory",
        },
        Key {
            name: "workloads.placement",
            doc: "which machine runs workloads of another architecture: \"native-machine\", through a translator, or \"foreign-machine\", a second one of that architecture",
        },
        Key {
            name: "translators.amd64",
            doc: "what may run amd64 programs in an Arm64 machine, the first that is provisioned: \"fex\", \"rosetta\", \"box64\", \"qemu\"; empty: nothing may",
        },
        Key {
            name: "translators.arm64",
            doc: "what may run arm64 programs in an x86-64 machine, the first that is provisioned: \"qemu\"; empty: nothing may",
        },
        Key {
            name: "foreign.cpus",
            doc: "virtual processors of the foreign machine, 1 to 256, or \"auto\": the host's, at most 4",
        },
        Key { name: "foreign.memory", doc: "memory of the foreign machine, 512MiB or more" },
        Key {
            name: "foreign.disk",
            doc: "size of the foreign machine's data disk, 4GiB to 16TiB; sparse; it can grow, not shrink",
        },
        Key {
            name: "network.host-loopback",
            doc: "whether `host.docker.internal` reaches services on the host's loopback: true or false",
        },
        Key {
            name: "network.publish-address",
            doc: "where a published port listens when no address is named: \"0.0.0.0\" as Docker does, or \"127.0.0.1\"",
        },
        Key {
            name: "network.egress-default",
            doc: "what happens to a connection of the machine's that no egress rule matches: \"allow\" or \"deny\"",
        },
        Key { name: "network.egress", doc: "egress rules, the first that matches decides; see below" },
        Key {
            name: "files.shares",
            doc: "directories of this computer that containers can mount, at the same paths; see docs/shares.md",
        },
        Key {
            name: "dns.port",
            doc: "the port on 127.0.0.1 that answers the host's questions about containers; 0: none does",
        },
        Key {
            name: "sleep.after",
            doc: "how long a machine has nothing to do before it is put to sleep: 1s to 24h, such as \"90s\", \"5m\" or \"1h\", or \"never\"",
        },
        Key {
            name: "limits.start",
            doc: "seconds from the hypervisor's start to the first Docker answer, 5 to 3600",
        },
        Key {
            name: "limits.stop",
            doc: "seconds that a graceful stop may take before it is forced, 1 to 3600",
        },
        Key {
            name: "log.level",
            doc: "what is logged: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        },
    ];

    /// Reads and checks the text of a configuration file.
    ///
    /// # Errors
    /// When it is not TOML, has an unknown key (the message lists those that there are), or a value out of range.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| ConfigError::Parse(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The architecture of the native machine on this host; `None` on a processor that Dhow does not support, where the
    /// configuration names none.
    #[must_use]
    pub const fn native(&self) -> Option<Arch> {
        self.machine.arch.on(Arch::host())
    }

    /// Every key with its value as TOML writes it, in the order of [`Config::KEYS`].
    #[must_use]
    pub fn values(&self) -> Vec<(&'static str, String)> {
        let table = toml::Value::try_from(self).ok();
        let value = |name: &str| {
            let (section, key) = name.split_once('.')?;
            Some(table.as_ref()?.get(section)?.get(key)?.to_string())
        };
        Self::KEYS.iter().map(|key| (key.name, value(key.name).unwrap_or_default())).collect()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Self { machine, foreign, limits, translators, files, .. } = self;
        let memories = [("machine.memory", machine.memory), ("foreign.memory", foreign.memory)];
        let disks = [("machine.disk", machine.disk), ("foreign.disk", foreign.disk)];
        let sizes = memories.into_iter().flat_map(|(key, memory)| {
            let least = memory >= Size::mib(512);
            [(least, key, memory, "512MiB or more"), (memory.is_whole_mib(), key, memory, "whole MiB")]
        });
        let sizes = sizes.chain(disks.into_iter().flat_map(|(key, disk)| {
            let range = disk >= Size::gib(4) && disk <= Size::gib(16 << 10);
            [(range, key, disk, "4GiB to 16TiB"), (disk.is_whole_mib(), key, disk, "whole MiB")]
        }));
        let seconds = [
            ((5..=3600).contains(&limits.start), "limits.start", limits.start, "5 to 3600 seconds"),
            ((1..=3600).contains(&limits.stop), "limits.stop", limits.stop, "1 to 3600 seconds"),
        ];
        let mut ranges = sizes
            .map(|(good, key, value, range)| (good, key, value.to_string(), range))
            .chain(seconds.map(|(good, key, value, range)| (good, key, value.to_string(), range)));
        if let Some((_, key, value, range)) = ranges.find(|(good, ..)| !good) {
            return Err(ConfigError::Range { key, value, range });
        }
        files.shares.check()?;
        translators.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 15.3.
    #[test]
    fn an_empty_file_means_every_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    /// Spec 15.3.
    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for text in ["[machine]\ncpu = 2", "[engine]\n", "typo = 1"] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    /// Spec 15.3.
    #[test]
    fn values_out_of_range_are_errors_that_name_the_range() {
        for (text, words) in [
            ("[machine]\ncpus = 0", "1 to 256"),
            ("[machine]\narch = \"riscv64\"", "`arm64`"),
            ("[machine]\ncpus = \"many\"", "1 to 256"),
            ("[machine]\nmemory = \"100MiB\"", "512MiB or more"),
            ("[machine]\nmemory = 100", "invalid type"),
            ("[machine]\ndisk = \"1GiB\"", "4GiB to 16TiB"),
            ("[limits]\nstart = 0", "5 to 3600"),
            ("[sleep]\nafter = \"soon\"", "1s to 24h"),
            ("[sleep]\nafter = 300", "expected a string"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    /// Issue 6, point 3: a machine of either architecture on either host, and never another than the host's unless it is named.
    #[test]
    fn the_native_machine_is_of_the_hosts_architecture_unless_another_is_named() {
        for (text, on_amd64, on_arm64, elsewhere) in [
            ("", Some(Arch::Amd64), Some(Arch::Arm64), None),
            ("[machine]\narch = 'host'", Some(Arch::Amd64), Some(Arch::Arm64), None),
            ("[machine]\narch = 'amd64'", Some(Arch::Amd64), Some(Arch::Amd64), Some(Arch::Amd64)),
            ("[machine]\narch = 'arm64'", Some(Arch::Arm64), Some(Arch::Arm64), Some(Arch::Arm64)),
        ] {
            let arch = Config::parse(text).unwrap().machine.arch;
            let seen = [Some(Arch::Amd64), Some(Arch::Arm64), None].map(|host| arch.on(host));
            assert_eq!(seen, [on_amd64, on_arm64, elsewhere], "{text}");
        }
    }

    /// Spec 15.3: each key has a documented default, and the list of keys is complete.
    #[test]
    fn every_key_is_listed_with_a_value_that_parses_back() {
        let values = Config::default().values();
        let mut text = String::new();
        for (name, value) in &values {
            assert!(!value.is_empty(), "{name} is listed and does not exist");
            text.push_str(&format!("{name} = {value}\n"));
        }
        assert_eq!(Config::parse(&text).unwrap(), Config::default());
        let table = toml::Table::try_from(Config::default()).unwrap();
        let fields: usize = table.values().map(|section| section.as_table().unwrap().len()).sum();
        assert_eq!(fields, Config::KEYS.len(), "a key is missing from the list");
    }

    /// Spec 15.3.
    #[test]
    fn the_guide_names_every_key_with_its_default_and_its_meaning() {
        let guide = include_str!("../../../../docs/configuration.md");
        for ((name, value), key) in Config::default().values().into_iter().zip(Config::KEYS) {
            let row = format!("| `{name}` | `");
            let meaning = key.doc.replace(['"', '`'], "");
            let line =
                guide.lines().find(|l| l.starts_with(&row)).unwrap_or_else(|| panic!("{row} is missing"));
            // A table's keys are in any order, which depends on what else is compiled.
            let read = |value: &str| toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
            let told = line[row.len()..].split("` |").next().unwrap_or_default();
            assert!(told == value || (read(told).is_some() && read(told) == read(&value)), "{row}{value}` |");
            assert!(line.replace(['"', '`'], "").contains(&meaning), "{name}: {meaning}");
        }
    }
}
