//! Which accelerator can be used, found out by using it (spec 9.1).
//!
//! That `/dev/kvm` is there proves nothing: KVM may be a driver that emulates an ordinary guest instruction by
//! instruction, fails on some, and is slower than QEMU's own emulation. So a child process runs a few guest
//! instructions against a time limit, and only what came out right and in time counts.

mod child;
mod facts;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[path = "guest_arm64.rs"]
mod guest;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "guest_amd64.rs"]
mod guest;
mod kvm;

use dhow_model::config::Wish;
use dhow_model::{Accelerator, Arch};

use crate::{Error, Result};
pub use child::run_probe_child;
pub use kvm::{KvmVerdict, Program, kvm, kvm_with};

/// The hidden subcommand under which the executable must call [`run_probe_child`].
pub const SUBCOMMAND: &str = "probe-kvm";

/// What executes the guest's instructions, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Why, as a clause for people.
    pub reason: String,
}

/// Chooses what executes an `arch` guest's instructions on this host, probing what the wish allows.
///
/// # Errors
/// [`AcceleratorUnusable`](Error::AcceleratorUnusable) when the wish names one that does not work here; software
/// emulation always does.
pub async fn accelerator(arch: Arch, wish: Wish) -> Result<Choice> {
    let foreign = Arch::host() != Some(arch);
    let wished = match wish {
        Wish::Tcg => return Ok(tcg("the configuration asks for software emulation")),
        Wish::Auto if cfg!(target_os = "macos") => Accelerator::Hvf,
        Wish::Auto | Wish::Kvm => Accelerator::Kvm,
        Wish::Hvf => Accelerator::Hvf,
    };
    let usable = if foreign {
        Err(format!("this host's processor does not run {arch} instructions"))
    } else if wished == Accelerator::Hvf {
        facts::hvf().await
    } else {
        kvm().await.into_result()
    };
    match usable {
        Ok(reason) => Ok(Choice { accelerator: wished, reason }),
        Err(reason) if wish == Wish::Auto => Ok(tcg(&reason)),
        Err(reason) => Err(Error::AcceleratorUnusable { wish: wished, arch, reason }),
    }
}

fn tcg(reason: &str) -> Choice {
    Choice { accelerator: Accelerator::Tcg, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 9.1.
    #[tokio::test]
    async fn a_guest_of_the_other_architecture_is_emulated_and_never_given_to_the_processor() {
        let other = if Arch::host() == Some(Arch::Amd64) { Arch::Arm64 } else { Arch::Amd64 };
        let choice = accelerator(other, Wish::Auto).await.unwrap();
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.reason.contains("does not run"), "{}", choice.reason);
        for wish in [Wish::Kvm, Wish::Hvf] {
            let error = accelerator(other, wish).await.unwrap_err();
            assert!(matches!(error, Error::AcceleratorUnusable { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn software_emulation_is_there_for_whoever_asks() {
        for arch in Arch::ALL {
            assert_eq!(accelerator(arch, Wish::Tcg).await.unwrap().accelerator, Accelerator::Tcg);
        }
    }
}
