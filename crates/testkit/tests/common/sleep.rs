//! What the tests of sleep share.
#![allow(clippy::expect_used, reason = "a fixture fails its test at the first surprise")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use dhow_testkit::engine::Status;
use dhow_testkit::{Engine, Error, Image, Result};

use super::busybox;

/// Under software emulation on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// An engine that sleeps only when it is told to, with a file that a container has fsynced to a volume. Nothing is shared with it: a
/// file server is one more thing that a killed supervisor takes along, and has tests of its own.
pub fn engine() -> Result<Engine> {
    let engine = Engine::prepare()?;
    for (key, value) in
        [("dns.port", "0"), ("sleep.after", "never"), ("files.shares", "[]"), ("limits.start", "400")]
    {
        engine.dhow(["config", "set", key, value])?.limit(SOON).ok()?;
    }
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    let write = "echo kept | dd of=/data/file conv=fsync 2>/dev/null";
    engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "sh", "-c", write])?;
    Ok(engine)
}

/// Puts it to sleep.
pub fn suspend(engine: &Engine) -> Result<Status> {
    engine.dhow(["suspend"])?.limit(SOON).ok()?;
    let asleep = engine.status()?;
    assert_eq!(asleep.state(), "suspended");
    assert_eq!(asleep.hypervisor(), None);
    Ok(asleep)
}

/// Whether it sleeps. Asking wakes nobody.
pub fn is_asleep(engine: &Engine) -> Result<bool> {
    Ok(engine.status()?.state() == "suspended")
}

/// One of the machine's directories of saved states.
pub fn state(engine: &Engine, name: &str) -> PathBuf {
    engine.machine().join(name)
}

/// Checks that the machine booted anew, because of `why`, and that what was synced is there.
pub fn set_aside(engine: &Engine, why: &str) -> Result<()> {
    let path = state(engine, "sleep.bad").join("why");
    let told = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    assert!(told.contains(why), "{told}");
    assert!(!state(engine, "sleep").exists());
    kept(engine)
}

/// Checks that what was synced is there.
pub fn kept(engine: &Engine) -> Result<()> {
    let read = ["run", "--rm", "-v", "kept:/data", busybox(), "cat", "/data/file"];
    let said = engine.docker().run(read).limit(super::PATIENCE).ok()?.text();
    assert_eq!(said, "kept");
    Ok(())
}
