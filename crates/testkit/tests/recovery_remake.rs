//! Promise: engines are independent of each other, and a changed configuration changes the machine around its disk, which
//! keeps what is on it [6.4, 16.3].

mod common;

use common::busybox;
use dhow_testkit::{Engine, Image, Result};

/// Issue 2: several engines run side by side, and ending one leaves the other alone.
#[test]
#[ignore = "boots engines: ./dev test machine"]
fn two_engines_run_side_by_side() -> Result<()> {
    let (one, two) = (Engine::sturdy()?, Engine::start()?);
    for engine in [&one, &two] {
        Image::Busybox.ensure(engine.docker())?;
    }
    one.docker().ok(["rm", "-f", "only-in-one"])?;
    one.docker().ok(["run", "-d", "--name", "only-in-one", busybox(), "sleep", "600"])?;
    assert_eq!(two.docker().ok(["ps", "-q"])?, "");
    two.down()?;
    let names = one.docker().ok(["ps", "--format", "{{.Names}}"])?;
    assert!(names.lines().any(|name| name == "only-in-one"), "{names}");
    one.docker().ok(["rm", "-f", "only-in-one"]).map(drop)
}

/// Rule 6.4: memory and disk that the configuration changes make the machine anew around its disk; `up` names them, and a
/// disk never shrinks.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_changed_configuration_remakes_the_machine_and_keeps_its_disk() -> Result<()> {
    let engine = Engine::prepare()?;
    engine.dhow(["config", "set", "machine.disk", "8GiB"])?.ok()?;
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    engine.docker().ok([
        "run",
        "--rm",
        "-v",
        "kept:/data",
        busybox(),
        "sh",
        "-c",
        "echo kept > /data/file",
    ])?;
    engine.dhow(["config", "set", "machine.disk", "12GiB"])?.ok()?;
    engine.dhow(["config", "set", "machine.memory", "2GiB"])?.ok()?;
    let said = engine.dhow(["up", "--no-progress"])?.ok()?.complaint();
    assert!(said.contains("memory: 4GiB → 2GiB") && said.contains("disk: 8GiB → 12GiB"), "{said}");
    let read = "cat /data/file; df -k /data | tail -n 1 | awk '{print ($2 > 11000000)}'";
    let found = engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "sh", "-c", read])?;
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["kept", "1"]);
    engine.dhow(["config", "set", "machine.disk", "8GiB"])?.ok()?;
    let refused = engine.dhow(["up"])?.outcome()?;
    assert!(!refused.status.success() && refused.complaint().contains("cannot shrink"), "{refused}");
    assert!(engine.status()?.runs());
    engine.down()
}
