//! What a machine is made from: the one description that starting, drift and status share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Arch, MachineName, Size, config};

/// How the guest knows the file system device that holds all shares.
pub const SHARES_TAG: &str = "dhow-shares";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The Linux kernel's virtual machines.
    Kvm,
    /// Apple's Hypervisor.framework.
    Hvf,
    /// QEMU's software emulation.
    Tcg,
}

impl Accelerator {
    /// The name that QEMU and our configuration use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the host opens streams to services in the guest (spec 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// `AF_VSOCK`, through the kernel's vhost driver.
    Vsock,
    /// A multiplexer on a virtio-serial port.
    Serial,
}

/// What the host can prove about a data image before a boot, told to the agent, which formats only a blank disk
/// (spec 7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBlank {
    /// The image was made by Dhow and holds not one written block.
    Proven,
    /// Anything else: the disk must carry a file system that the agent knows, or the boot stops.
    Unproven,
}

/// What one boot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To run containers.
    #[default]
    Serve,
    /// To check the data disk's file system, which is not mounted; nothing else runs.
    Check,
    /// To give out what is on a data disk that cannot be used (spec 7.6): the image is opened for reading only, the guest repairs and
    /// mounts a copy that is thrown away, and no container is started.
    Rescue,
}

impl Purpose {
    /// The word on a supervisor's command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Check => "check",
            Self::Rescue => "rescue",
        }
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of serve, check, rescue")]
pub struct UnknownPurpose(pub String);

impl std::str::FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = [Self::Serve, Self::Check, Self::Rescue].into_iter().find(|p| p.as_str() == word);
        known.ok_or_else(|| UnknownPurpose(word.to_owned()))
    }
}

/// A file that a machine is made from. Two machines made from different content differ, whatever the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Resolved path, absolute.
    pub path: PathBuf,
    /// SHA-256 of its content, 64 hexadecimal digits.
    pub sha256: String,
}

/// What a machine is made from. It is written beside the machine when it is made, and compared with what the
/// configuration asks (spec 6.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Its name, which is also that of its directory.
    pub name: MachineName,
    /// The guest's architecture.
    pub arch: Arch,
    /// What executes its instructions.
    pub accelerator: Accelerator,
    /// Virtual processors, 1 or more.
    pub cpus: u32,
    /// Memory, whole mebibytes.
    pub memory: Size,
    /// The data disk's size; the image is sparse.
    pub disk: Size,
    /// Kernel image.
    pub kernel: Input,
    /// Initial RAM disk.
    pub initrd: Input,
    /// Read-only root image.
    pub root: Input,
    /// Kernel command line, without what only one boot decides.
    pub cmdline: String,
    /// How the host reaches the guest.
    pub channel: ChannelKind,
    /// What its network lets through, and where its ports listen.
    #[serde(default)]
    pub network: config::Network,
    /// Where the host asks for its containers' names.
    #[serde(default)]
    pub dns: config::Dns,
    /// Directories of the host that the guest sees at the same paths; the outer ones first.
    #[serde(default)]
    pub shares: Vec<config::Share>,
}

/// What one boot decides, handed to the agent through the hypervisor (a firmware-config file, since a kernel command line
/// can be read by every user of the host).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// The machine.
    pub machine: MachineName,
    /// The guest's host name.
    pub hostname: String,
    /// What this boot is for.
    #[serde(default)]
    pub purpose: Purpose,
    /// Whether the host can prove that the data disk is blank.
    pub disk: DiskBlank,
    /// How the host will reach the agent.
    pub channel: ChannelKind,
    /// Secret that every vsock stream begins with, 64 hexadecimal digits; absent without vsock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The guest's network.
    pub network: GuestNetwork,
    /// What the file system device of this tag holds, by number: where each is mounted. None: there is no such device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<config::Share>,
}

/// The guest's one network interface, configured statically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestNetwork {
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix, 0 to 32.
    pub prefix: u8,
    /// Where everything else goes.
    pub gateway: Ipv4Addr,
    /// The same for IPv6; absent: the guest has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub six: Option<GuestNetwork6>,
    /// Name servers, in order.
    pub dns: Vec<IpAddr>,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Where a published port listens when nobody names an address (spec 4.2).
    #[serde(default = "any_address")]
    pub publish: IpAddr,
}

/// The IPv6 half of [`GuestNetwork`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestNetwork6 {
    /// Its address.
    pub address: Ipv6Addr,
    /// Length of its network's prefix, 0 to 128.
    pub prefix: u8,
    /// Where everything else goes.
    pub gateway: Ipv6Addr,
}

const fn any_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}
