//! What a way costs the host's processor.

use std::fs;

/// `USER_HZ`: what `/proc/PID/stat` counts in, 100 on every Linux.
const TICKS: f64 = 100.0;

/// Seconds of processor time until now, by whoever carries bytes: the process of the way itself, and QEMU's first
/// thread, which runs its event loop and its own user network. The threads of the guest's processors are not counted.
pub fn spent(carrier: Option<u32>, hypervisor: u32) -> f64 {
    let carrier = carrier.map(|pid| ticks(&format!("/proc/{pid}/stat"))).unwrap_or_default();
    (carrier + ticks(&format!("/proc/{hypervisor}/task/{hypervisor}/stat"))) / TICKS
}

fn ticks(path: &str) -> f64 {
    let stat = fs::read_to_string(path).unwrap_or_default();
    // The name in brackets may hold anything; what follows it is fields 3 and on.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum()
}
