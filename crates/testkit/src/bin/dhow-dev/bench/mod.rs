//! What an engine costs, in time and in memory, beside the same dockerd without a machine. Numbers are medians with their
//! spread; on a busy machine only their ratios mean something. A bench never fails by being slow.

mod boot;
mod files;
mod idle;
mod memory;
mod net;
mod run;
mod sleep;
mod spread;
mod translate;

use clap::ValueEnum;
use dhow_testkit::Result;

use spread::Spread;

/// How often each thing is measured.
const ROUNDS: usize = 5;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// From `dhow up` to the first Docker answer, split by step
    Boot,
    /// `docker run` of a warm image, against the same dockerd directly
    Run,
    /// Memory and processor time of an idle engine, by process
    Idle,
    /// What a machine costs before, with and after a container that holds memory
    Memory,
    /// A shared directory against the guest's own disk
    Files,
    /// The gateway, against QEMU's user network, passt and `ssh -L`
    Net,
    /// A wake to the first Docker answer against a cold boot, and what an engine costs that is asleep
    Sleep,
    /// Programs of another architecture against the machine's own, in machines of both
    Translate,
}

/// Measures what was asked for, or everything.
pub fn bench(which: &[Bench]) -> Result<()> {
    let all = [
        Bench::Boot,
        Bench::Run,
        Bench::Idle,
        Bench::Memory,
        Bench::Files,
        Bench::Net,
        Bench::Sleep,
        Bench::Translate,
    ];
    for bench in if which.is_empty() { &all } else { which } {
        match bench {
            Bench::Boot => boot::measure()?,
            Bench::Run => run::measure()?,
            Bench::Idle => idle::measure()?,
            Bench::Memory => memory::measure()?,
            Bench::Files => files::measure()?,
            Bench::Net => net::measure()?,
            Bench::Sleep => sleep::measure()?,
            Bench::Translate => translate::measure()?,
        }
        println!();
    }
    Ok(())
}
