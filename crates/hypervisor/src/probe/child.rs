//! The probe's child process: a virtual machine runs a few instructions, and the exit status tells.

use std::process::ExitCode;

/// Runs guest instructions on KVM: success when they came out right and in time, otherwise a sentence on standard output
/// and failure. It may hang in the kernel; whoever started it has a time limit and kills it, and it ends itself a little
/// later when nobody does.
#[must_use]
pub fn run_probe_child() -> ExitCode {
    match probe() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn probe() -> Result<(), String> {
    use std::time::{Duration, Instant};

    /// A guest that takes longer than this runs slower than software emulation: there, it takes 0.2 s.
    const SLOW: Duration = Duration::from_secs(1);
    /// Nobody waits that long for us.
    const ALONE: Duration = Duration::from_secs(4);

    std::thread::Builder::new()
        .spawn(|| {
            let end = Instant::now() + ALONE;
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
            std::process::abort();
        })
        .map_err(|e| format!("no thread to end the probe: {e}"))?;

    let kvm = kvm_ioctls::Kvm::new().map_err(|e| format!("/dev/kvm cannot be opened: {e}"))?;
    let begun = Instant::now();
    super::guest::run(&kvm)?;
    let took = begun.elapsed();
    if took > SLOW {
        return Err(format!("guest instructions ran, too slowly: {took:.1?} for what takes milliseconds"));
    }
    Ok(())
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn probe() -> Result<(), String> {
    Err("KVM is part of Linux, on x86-64 and Arm64".to_owned())
}
