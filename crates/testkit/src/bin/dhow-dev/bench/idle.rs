//! What an engine costs while nobody uses it.

use std::fs;
use std::time::Duration;

use dhow_testkit::{Engine, Result, wait};

/// How long the guest may finish what its start left to do.
const SETTLE: Duration = Duration::from_secs(15);
/// Over what the processor time is measured.
const OVER: Duration = Duration::from_secs(30);
/// `USER_HZ`: what `/proc/PID/stat` counts in, 100 on every Linux.
pub(super) const TICKS: f64 = 100.0;

/// Prints memory and processor time of each process, and of Dhow's own together.
pub fn measure() -> Result<()> {
    let engine = Engine::start()?;
    let status = engine.status()?;
    let processes = [
        ("daemon", status.daemon()),
        ("supervisor", status.supervisor()),
        ("hypervisor", status.hypervisor()),
    ];
    wait::nap(SETTLE);
    let ticks = |pid: Option<u32>| pid.map(ticks_of).unwrap_or_default();
    let before = processes.map(|(_, pid)| ticks(pid));
    wait::nap(OVER);
    println!("idle: an engine that nobody uses; processor time over {} s", OVER.as_secs());
    println!("  {:<28} {:>9} {:>9} {:>12}", "process", "RSS MB", "PSS MB", "% of a core");
    let mut own = [0.0; 3];
    for ((name, pid), before) in processes.iter().zip(before) {
        let share = (ticks(*pid) - before) / TICKS / OVER.as_secs_f64() * 100.0;
        let memory = pid.map(memory_of).unwrap_or_default();
        print(name, [memory.0, memory.1, share]);
        if *name != "hypervisor" {
            own = [own[0] + memory.0, own[1] + memory.1, own[2] + share];
        }
    }
    print("dhow together", own);
    Ok(())
}

fn print(name: &str, [rss, pss, share]: [f64; 3]) {
    println!("  {name:<28} {rss:>9.1} {pss:>9.1} {share:>12.2}");
}

/// User and system time, in ticks.
pub(super) fn ticks_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold anything; what follows it is fields 3 and on.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Resident and proportional memory, in megabytes.
pub(super) fn memory_of(pid: u32) -> (f64, f64) {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let of = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name));
        let kilobytes =
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|word| word.parse::<f64>().ok());
        kilobytes.unwrap_or_default() / 1024.0
    };
    (of("Rss:"), of("Pss:"))
}
