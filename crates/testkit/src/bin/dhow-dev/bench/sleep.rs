//! What sleep costs, and how long a wake takes, against a cold boot of the same engine.

use std::path::Path;
use std::time::{Duration, Instant};

use dhow_testkit::engine::Status;
use dhow_testkit::{Engine, Image, Result, process, wait};

use super::boot::{ping, up};
use super::idle::{memory_of, ticks_of};
use super::{ROUNDS, Spread};

/// How long the guest may finish what its start left to do.
const SETTLE: Duration = Duration::from_secs(10);
/// Over what the processor time of an engine that is asleep is measured.
const OVER: Duration = Duration::from_secs(5);

/// Cold boots and wakes in turns; an idle engine first, then one with a container that runs.
pub fn measure() -> Result<()> {
    let engine = Engine::prepare()?;
    up(&engine)?;
    Image::Busybox.ensure(engine.docker())?;
    println!("sleep: seconds to the first Docker answer, medians of {ROUNDS} [least to most]");
    let mut cold = Spread::default();
    for _ in 0..ROUNDS {
        engine.down()?;
        cold.add(up(&engine)?);
    }
    println!("  {:<36} {cold}", "cold boot");
    wait::nap(SETTLE);
    asleep(&engine, "idle", &cold)?;
    engine.docker().ok(["run", "-d", "--name", "bench-sleep", Image::Busybox.name(), "sleep", "3600"])?;
    wait::nap(SETTLE);
    asleep(&engine, "with a container", &cold)?;
    Ok(())
}

fn asleep(engine: &Engine, what: &str, cold: &Spread) -> Result<()> {
    let names = ["suspend", "wake", "state MB", "RSS MB", "PSS MB", "processor time, s"];
    let mut found = names.map(|_| Spread::default());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        engine.dhow(["suspend"])?.ok()?;
        let suspended = began.elapsed().as_secs_f64();
        let status = engine.status()?;
        let pids = processes(&status);
        let sum = |figure: &dyn Fn(u32) -> f64| pids.iter().map(|pid| figure(*pid)).sum::<f64>();
        let ticks = sum(&ticks_of);
        wait::nap(OVER);
        let used = (sum(&ticks_of) - ticks) / super::idle::TICKS;
        let (rss, pss) = (sum(&|pid| memory_of(pid).0), sum(&|pid| memory_of(pid).1));
        let state = taken(&engine.machine().join("sleep"));
        let began = Instant::now();
        ping(engine.docker().socket())?;
        let woken = began.elapsed().as_secs_f64();
        for (spread, figure) in found.iter_mut().zip([suspended, woken, state, rss, pss, used]) {
            spread.add(figure);
        }
        // A machine that woke goes back to sleep only when it has come to rest.
        wait::nap(Duration::from_secs(2));
    }
    for (name, spread) in names.iter().zip(&found) {
        println!("  {:<36} {spread}", format!("{what}: {name}"));
    }
    println!(
        "  {:<36} {:8.1} times",
        format!("{what}: a wake is faster by"),
        cold.median() / found[1].median()
    );
    Ok(())
}

/// Everything of an engine's that runs: the daemon, the supervisor, and what that has started.
fn processes(status: &Status) -> Vec<u32> {
    let started = status.supervisor().map(process::children).unwrap_or_default();
    [status.daemon(), status.supervisor()].into_iter().flatten().chain(started).collect()
}

/// What the files of a directory take on the disk, in megabytes.
fn taken(dir: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let blocks: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks()).sum();
    blocks as f64 * 512.0 / 1e6
}
