//! Promise: a data disk takes what is used in it, and grows without a loss [7.7]. `campaign_disk` breaks one.

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use common::data::{engine_with_data, image, json, kept};
use common::{PATIENCE, busybox};
use dhow_testkit::engine::signal;
use dhow_testkit::{Engine, Error, Result, wait};

/// Free blocks become holes when the file system's journal has said so, which it does every five seconds.
const SECONDS: Duration = Duration::from_secs(30);

fn takes(engine: &Engine) -> Result<u64> {
    let path = image(engine);
    Ok(path.metadata().map_err(Error::io("look at", &path))?.blocks() * 512)
}

/// Rule 7.7: what a container's volume took is the host's again, seconds after it is gone, and nobody asked for that; what `compact`
/// adds is asked for.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_volume_that_is_removed_gives_its_space_back_in_seconds() -> Result<()> {
    let engine = engine_with_data()?;
    let before = takes(&engine)?;
    let fill = "dd if=/dev/urandom of=/v/file bs=1M count=300 conv=fsync 2>/dev/null";
    engine.docker().run(["run", "--rm", "-v", "big:/v", busybox(), "sh", "-c", fill]).limit(PATIENCE).ok()?;
    let full = takes(&engine)?;
    assert!(full > before + (290 << 20), "{before} {full}");
    let usage = json(&engine, &["disk", "usage"])?;
    let volumes = &usage["guest"]["docker"][2];
    assert_eq!(volumes["kind"], "volumes", "{usage}");
    assert!(volumes["reclaimable_bytes"].as_u64().unwrap_or(0) >= 300 << 20, "{usage}");
    assert!(usage["takes_bytes"].as_u64().unwrap_or(0) >= full / 2, "{usage}");

    engine.docker().ok(["volume", "rm", "big"])?;
    let began = Instant::now();
    wait::until("the volume's blocks to be holes", SECONDS, || {
        takes(&engine).ok().filter(|now| *now < before + (40 << 20)).map(drop)
    })?;
    eprintln!("300 MB were given back {} ms after the volume was removed", began.elapsed().as_millis());

    let compacted = json(&engine, &["disk", "compact"])?;
    assert!(compacted["after_bytes"].as_u64().unwrap_or(u64::MAX) <= before + (40 << 20), "{compacted}");
    assert_eq!(kept(&engine)?, "kept\ndeep");
    Ok(())
}

/// Issue 5, point 4: growth while containers run, and the configuration follows; shrinking is refused and says why; a check of a
/// disk in use is refused, and one of a machine that is off finds nothing.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_disk_grows_under_a_running_container_and_never_shrinks() -> Result<()> {
    let engine = engine_with_data()?;
    let size = |word: &str| engine.dhow(["disk", "grow", word]).and_then(|run| run.limit(PATIENCE).outcome());
    let inside = || -> Result<u64> {
        Ok(json(&engine, &["disk", "usage"])?["guest"]["total_bytes"].as_u64().unwrap_or_default())
    };
    let count = "i=0; while true; do i=$((i+1)); echo $i > /data/count; sync; sleep 0.1; done";
    engine.docker().ok([
        "run",
        "-d",
        "--name",
        "writer",
        "-v",
        "kept:/data",
        busybox(),
        "sh",
        "-c",
        count,
    ])?;
    let before = inside()?;
    let hypervisor = engine.status()?.hypervisor();

    let grown = json(&engine, &["disk", "grow", "80GiB"])?;
    assert!(grown["file_system_bytes"].as_u64().unwrap_or(0) > before + (12 << 30), "{before} {grown}");
    assert!(inside()? > before + (12 << 30));
    let after = engine.status()?;
    assert_eq!(after.hypervisor(), hypervisor, "without a restart");
    assert_eq!(after.machine()["disk_bytes"].as_u64(), Some(80 << 30));
    let configured = engine.dhow(["config", "get", "machine.disk"])?.ok()?.text();
    assert_eq!(configured, "80GiB");

    let refused = size("32GiB")?;
    assert_eq!(refused.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("cannot be made 32GiB") && why.contains("dhow disk compact"), "{why}");

    let in_use = engine.dhow(["disk", "check"])?.limit(PATIENCE).outcome()?;
    assert!(String::from_utf8_lossy(&in_use.stderr).contains("in use"), "{:?}", in_use.code());

    // Killed in the middle: the next start goes on where it was.
    let supervisor = engine.status()?.supervisor().unwrap_or_default();
    let growing = engine.dhow(["disk", "grow", "96GiB"])?.start()?;
    wait::nap(Duration::from_millis(300));
    signal(supervisor, "KILL")?;
    let mut growing = growing;
    growing.wait().map_err(Error::io("wait for", "dhow disk grow"))?;
    engine.up()?;
    wait::until("docker to answer again", PATIENCE, || engine.docker().answers().then_some(()))?;
    assert!(inside()? > before + (28 << 30));
    assert_eq!(kept(&engine)?, "kept\ndeep");

    engine.down()?;
    let checked = json(&engine, &["disk", "check"])?;
    assert_eq!(checked["verdict"], "sound", "{checked}");
    engine.up()?;
    assert_eq!(kept(&engine)?, "kept\ndeep");
    Ok(())
}
