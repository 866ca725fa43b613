//! An engine with a volume of which every byte is known.

use std::path::PathBuf;

use dhow_testkit::{Engine, Error, Image, Result};
use serde_json::Value;

use super::{PATIENCE, busybox};

/// A booted engine whose volume `kept` has two files on its disk.
pub fn engine_with_data() -> Result<Engine> {
    let engine = Engine::start()?;
    Image::Busybox.ensure(engine.docker())?;
    let write =
        "echo kept | dd of=/data/file conv=fsync 2>/dev/null; mkdir -p /data/a; echo deep > /data/a/b; sync";
    engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "sh", "-c", write])?;
    Ok(engine)
}

/// The data disk's image.
pub fn image(engine: &Engine) -> PathBuf {
    engine.machine().join("data.img")
}

/// What a command says with `--json`.
pub fn json(engine: &Engine, args: &[&str]) -> Result<Value> {
    let said = engine.dhow(args.iter().copied().chain(["--json"]))?.limit(PATIENCE).outcome()?.text();
    // Long work tells how far it is in lines of its own; the answer is the last.
    serde_json::from_str(said.lines().last().unwrap_or_default())
        .map_err(|_| Error::Unexpected { what: args.join(" "), said })
}

/// What those two files hold.
pub fn kept(engine: &Engine) -> Result<String> {
    engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "cat", "/data/file", "/data/a/b"])
}
