//! Promise: engines are independent of each other, and a changed configuration changes the machine around its disk, which
//! keeps what is on it [6.4, 16.3].

mod common;

use std::time::Duration;

use common::busybox;
use dhow_testkit::{Engine, Error, Image, Result, wait};

/// For the guest to follow a limit of its memory.
const LIMIT: Duration = Duration::from_secs(30);

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

/// Issue 5: "the guest's limit follows configuration without a reboot": less memory than the machine booted with, and up to that again,
/// while a container goes on, and through a sleep.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn less_memory_is_taken_from_a_machine_that_runs_and_given_back() -> Result<()> {
    let engine = Engine::prepare()?;
    engine.dhow(["config", "set", "machine.memory", "3GiB"])?.ok()?;
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    let docker = engine.docker();
    docker.ok(["run", "-d", "--name", "stays", busybox(), "sleep", "100000"])?;
    let total = || -> Result<u64> {
        let said =
            docker.ok(["exec", "stays", "awk", "/MemTotal/ { print int($2 / 1024) }", "/proc/meminfo"])?;
        said.parse().map_err(|_| Error::Unexpected { what: "MemTotal in MiB".to_owned(), said })
    };
    let started = || -> Result<String> { docker.ok(["inspect", "-f", "{{.State.StartedAt}}", "stays"]) };
    let supervisor = || -> Result<String> { Ok(engine.status()?.machine()["supervisor_pid"].to_string()) };
    let (whole, since, before) = (total()?, started()?, supervisor()?);
    assert!((2800..3072).contains(&whole), "{whole}");
    let change = |to: &str| -> Result<String> {
        engine.dhow(["config", "set", "machine.memory", to])?.ok()?;
        Ok(engine.dhow(["up", "--no-progress"])?.ok()?.complaint())
    };
    let said = change("1GiB")?;
    assert!(said.contains("memory: 3GiB → 1GiB"), "{said}");
    assert!((700..=1024).contains(&total()?), "{}", total()?);
    assert_eq!(engine.status()?.machine()["memory_bytes"], 1_u64 << 30);
    engine.dhow(["suspend"])?.ok()?;
    assert!(total()? <= 1024, "{}", total()?);
    engine.dhow(["suspend"])?.ok()?;
    let said = change("2GiB")?;
    assert!(said.contains("memory: 1GiB → 2GiB"), "{said}");
    wait::until("it to have 2 GiB", LIMIT, || total().ok().filter(|total| (1700..=2048).contains(total)))?;
    change("3GiB")?;
    wait::until("it to have all", LIMIT, || total().ok().filter(|total| *total == whole))?;
    assert_eq!((started()?, supervisor()?), (since, before.clone()));
    let said = change("4GiB")?;
    assert!(said.contains("memory: 3GiB → 4GiB"), "{said}");
    assert_ne!(supervisor()?, before);
    engine.down()
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
