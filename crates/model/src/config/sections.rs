//! The sections that every engine has, with their defaults.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::egress::{Action, Policy, Rules};
use crate::{Arch, Size};

/// `[machine]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// The guest's architecture.
    pub arch: GuestArch,
    /// Virtual processors.
    pub cpus: Cpus,
    /// Memory that the guest sees.
    pub memory: Size,
    /// The data disk's size.
    pub disk: Size,
    /// What executes the guest's instructions.
    pub accelerator: Wish,
}

/// `[assets]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Assets {
    /// Where Debian packages come from; empty: as the host's package configuration says.
    pub mirror: String,
}

/// `[docker]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// The context's name; empty: `dhow`, and `dhow-` with a tag in a directory that `DHOW_HOME` names.
    pub context: String,
    /// Whether `dhow up` makes the context the current one.
    pub activate: Activate,
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    /// Whether `host.docker.internal` reaches services on the host's loopback.
    pub host_loopback: bool,
    /// Where a published port listens when nobody names an address (spec 4.2).
    pub publish_address: IpAddr,
    /// What happens to a connection of the machine's that no rule matches (spec 12.4).
    pub egress_default: Action,
    /// What may leave the machine; the first rule that matches decides.
    pub egress: Rules,
}

impl Network {
    /// What may leave the machine.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { default: self.egress_default, rules: self.egress.clone() }
    }
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// The port on 127.0.0.1 that answers the host's questions about containers; 0: none does.
    pub port: u16,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Seconds from the hypervisor's start to the first Docker answer.
    pub start: u32,
    /// Seconds for a graceful stop, before it is forced.
    pub stop: u32,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How much the daemon and the supervisors log.
    pub level: Level,
}

/// A number of processors, or as many as the host can spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "toml::Value")]
pub enum Cpus {
    /// As many as the host has, at most 4.
    #[default]
    Auto,
    /// This many, 1 to 256.
    Count(u32),
}

/// The architecture of a guest: the host's, or one that is named. Another than the host's is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestArch {
    /// The host's own.
    #[default]
    Host,
    /// x86-64.
    Amd64,
    /// Arm64.
    Arm64,
}

impl GuestArch {
    /// The architecture that it is on a host; `None` where that is one without machines and none was named.
    #[must_use]
    pub const fn on(self, host: Option<Arch>) -> Option<Arch> {
        match self {
            Self::Host => host,
            Self::Amd64 => Some(Arch::Amd64),
            Self::Arm64 => Some(Arch::Arm64),
        }
    }
}

/// Which accelerator the user wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// The fastest one that a probe finds usable.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// Hypervisor.framework, or an error.
    Hvf,
    /// Software emulation.
    Tcg,
}

/// Whether to make a context the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activate {
    /// Only for the engine in the user's default directory.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Only what went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what a user would want to read.
    #[default]
    Info,
    /// And what a maintainer would.
    Debug,
    /// And everything else.
    Trace,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            arch: GuestArch::Host,
            cpus: Cpus::Auto,
            memory: Size::gib(4),
            disk: Size::gib(64),
            accelerator: Wish::Auto,
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            host_loopback: true,
            publish_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            egress_default: Action::Allow,
            egress: Rules::default(),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self { port: 5354 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { start: 120, stop: 45 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::Info }
    }
}

impl Cpus {
    /// The number for a host that has `host` processors.
    #[must_use]
    pub fn resolve(self, host: u32) -> u32 {
        match self {
            Self::Auto => host.clamp(1, 4),
            Self::Count(count) => count,
        }
    }
}

impl TryFrom<toml::Value> for Cpus {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        match &value {
            toml::Value::String(word) if word == "auto" => Ok(Self::Auto),
            toml::Value::Integer(count @ 1..=256) => {
                u32::try_from(*count).map(Self::Count).map_err(|e| e.to_string())
            }
            _ => Err(format!("{value} is no number of processors: use 1 to 256, or \"auto\"")),
        }
    }
}

impl From<Cpus> for toml::Value {
    fn from(cpus: Cpus) -> Self {
        match cpus {
            Cpus::Auto => Self::String("auto".to_owned()),
            Cpus::Count(count) => Self::Integer(i64::from(count)),
        }
    }
}
