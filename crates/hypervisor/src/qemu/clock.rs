//! The emulated processor's clock rate, told to the guest.
//!
//! Software emulation gives an x86-64 guest the host's own time stamp counter. A guest's kernel measures its rate at boot
//! against an emulated timer, and on a busy host gets it wrong: by a factor of four at worst, after which it either falls
//! back to a clock that costs an exit of emulation at each reading, or runs that much too fast. The host knows the rate.

use dhow_model::{Accelerator, Arch};

use crate::Hardware;

/// The rate in kilohertz, for a guest that needs to be told and a host that can tell.
pub(super) async fn rate(hardware: &Hardware) -> Option<u32> {
    match (hardware.arch, hardware.accelerator) {
        (Arch::Amd64, Accelerator::Tcg) => measured().await,
        _ => None,
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
async fn measured() -> Option<u32> {
    use crate::sys::tsc::Reading;
    use std::time::Duration;

    /// Exact to some parts in a hundred thousand; the guest's kernel refines it.
    const WATCHED: Duration = Duration::from_millis(20);
    static RATE: tokio::sync::OnceCell<Option<u32>> = tokio::sync::OnceCell::const_new();
    *RATE
        .get_or_init(|| async {
            if !is_constant(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) {
                return None;
            }
            let first = Reading::now();
            tokio::time::sleep(WATCHED).await;
            Reading::now().rate_since(&first)
        })
        .await
}

/// QEMU on another processor gives the guest another counter, at a rate that we do not know.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
async fn measured() -> Option<u32> {
    None
}

/// Whether the host's counter runs at one rate, whatever the processor does (`constant_tsc`, `nonstop_tsc` among Linux's
/// flags). Otherwise the guest's kernel is left to find out that it does not.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn is_constant(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    ["constant_tsc", "nonstop_tsc"].iter().all(|flag| flags.split_whitespace().any(|word| word == *flag))
}

/// What the kernel's command line gets: the rate, and no watchdog, whose own clock is the one that stumbles.
pub(super) fn parameters(khz: Option<u32>) -> String {
    khz.map(|khz| format!(" tsc_early_khz={khz} tsc=nowatchdog")).unwrap_or_default()
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_may_change_its_rate_is_left_to_the_guest() {
        assert!(is_constant("processor : 0\nflags\t\t: fpu constant_tsc rep_good nonstop_tsc\n"));
        assert!(!is_constant("flags\t\t: fpu constant_tsc\n"));
        assert!(!is_constant("flags\t\t: fpu nonstop_tsc xconstant_tsc\n"));
        assert!(!is_constant(""));
    }
}
