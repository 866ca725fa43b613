//! How soon memory that a container gave up is the host's again, and what an idle engine keeps.

use std::time::{Duration, Instant};

use dhow_testkit::{Engine, Image, Result, wait};

use super::spread::Spread;

/// What a container touches, megabytes.
const TOUCHED: u32 = 512;
/// How often.
const ROUNDS: usize = 3;
/// How long the guest may finish what its start left to do, and settle after a round.
const SETTLE: Duration = Duration::from_secs(30);
/// After these the cost is looked at, seconds from the container's end.
const AFTER: [u64; 4] = [1, 5, 10, 15];

/// Prints the cost of the machine, as `dhow status` tells it, before, with, and after a container that touches memory, and after one
/// that fills the cache of files.
pub fn measure() -> Result<()> {
    let engine = Engine::start()?;
    Image::Busybox.ensure(engine.docker())?;
    wait::nap(SETTLE);
    println!("memory: what the machine costs the host, MB; medians of {ROUNDS}, and its ratio to idle");
    let mut idle = Spread::default();
    let mut full = Spread::default();
    let mut after = AFTER.map(|_| Spread::default());
    for _ in 0..ROUNDS {
        idle.add(cost(&engine)?);
        touch(&engine, &mut full)?;
        follow(&engine, &mut after)?;
        wait::nap(SETTLE);
    }
    let base = idle.median();
    let print =
        |name: &str, spread: &Spread| println!("  {name:<36} {spread}   {:5.2}", spread.median() / base);
    print("idle", &idle);
    print(&format!("a container holds {TOUCHED} MB"), &full);
    for (seconds, spread) in AFTER.iter().zip(&after) {
        print(&format!("{seconds} s after its end"), spread);
    }
    cache(&engine, base)
}

/// Runs a container that holds memory while its cost is read.
fn touch(engine: &Engine, full: &mut Spread) -> Result<()> {
    let fill = format!("dd if=/dev/zero of=/hold/file bs=1M count={TOUCHED} 2>/dev/null; sleep 600");
    let mount = format!("type=tmpfs,destination=/hold,tmpfs-size={}m", TOUCHED + 16);
    let image = Image::Busybox.name();
    engine
        .docker()
        .ok(["run", "-d", "--rm", "--name", "hold", "--mount", &mount, image, "sh", "-c", &fill])?;
    let limit = Duration::from_secs(120);
    let size = format!("{}", u64::from(TOUCHED) << 20);
    wait::until("the container to hold its memory", limit, || {
        let said = engine.docker().ok(["exec", "hold", "stat", "-c", "%s", "/hold/file"]).ok()?;
        (said.trim() == size).then_some(())
    })?;
    full.add(cost(engine)?);
    engine.docker().ok(["kill", "hold"]).map(drop)
}

fn follow(engine: &Engine, after: &mut [Spread]) -> Result<()> {
    let began = Instant::now();
    for (seconds, spread) in AFTER.iter().zip(after) {
        wait::nap(Duration::from_secs(*seconds).saturating_sub(began.elapsed()));
        spread.add(cost(engine)?);
    }
    Ok(())
}

/// A file that was written is in the cache; a guest with nothing to do lets go of it.
fn cache(engine: &Engine, base: f64) -> Result<()> {
    let write = format!("dd if=/dev/zero of=/v/file bs=1M count={TOUCHED} conv=fsync 2>/dev/null");
    engine.docker().ok(["run", "--rm", "-v", "cached:/v", Image::Busybox.name(), "sh", "-c", &write])?;
    let print = |name: &str, cost: f64| println!("  {name:<36} {cost:8.2}   {:5.2}", cost / base);
    print(&format!("a file of {TOUCHED} MB was written"), cost(engine)?);
    for seconds in [15, 30, 60] {
        wait::nap(Duration::from_secs(if seconds == 60 { 30 } else { 15 }));
        print(&format!("{seconds} s later"), cost(engine)?);
    }
    engine.docker().ok(["volume", "rm", "cached"]).map(drop)
}

#[allow(clippy::cast_precision_loss, reason = "megabytes for a person")]
fn cost(engine: &Engine) -> Result<f64> {
    let status = engine.status()?;
    Ok(status.machine()["memory_cost_bytes"].as_u64().unwrap_or_default() as f64 / f64::from(1 << 20))
}
