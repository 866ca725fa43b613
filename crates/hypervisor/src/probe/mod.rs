//! Which accelerator can be used, found out by using it (spec 9.1).

use dhow_model::{Accelerator, Arch};
use std::process::ExitCode;

use crate::{Error, Result};

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// The fastest that works.
    #[default]
    Auto,
    /// The Linux kernel's virtual machines, or an error.
    Kvm,
    /// Apple's Hypervisor.framework, or an error.
    Hvf,
    /// Software emulation.
    Tcg,
}

/// What executes the guest's instructions, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Why, as a clause for people.
    pub reason: String,
}

/// Chooses.
pub async fn accelerator(arch: Arch, wish: Wish) -> Result<Choice> {
    match wish {
        Wish::Auto | Wish::Tcg => {
            Ok(Choice { accelerator: Accelerator::Tcg, reason: "probe to come".to_owned() })
        }
        Wish::Kvm => Err(Error::AcceleratorUnusable { wish: Accelerator::Kvm, arch, reason: String::new() }),
        Wish::Hvf => Err(Error::AcceleratorUnusable { wish: Accelerator::Hvf, arch, reason: String::new() }),
    }
}

/// The hidden subcommand's main function.
#[must_use]
pub fn run_probe_child() -> ExitCode {
    ExitCode::FAILURE
}

/// The hidden subcommand under which the executable must call [`run_probe_child`].
pub const SUBCOMMAND: &str = "probe-kvm";

/// What the probe found out about KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmVerdict {
    /// Guest instructions ran, in time, with the right result.
    Usable {
        /// The kernel's driver: `kvm_intel`, `kvm_amd`, or `built in`.
        driver: String,
    },
    /// There is none, and why.
    Missing(String),
    /// The user may not open it, and what to do.
    NoPermission(String),
    /// It is there and does not run ordinary guests: what happened.
    NotUsable(String),
}

/// Probes KVM in a child process of this executable.
pub async fn kvm() -> KvmVerdict {
    KvmVerdict::Missing("probe to come".to_owned())
}
