//! Promise: a saved state is used with what it was made from, whole and once, or not at all [13.2, 16.1]. Each test has an engine of its
//! own.

mod common;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use common::sleep::{SOON, engine, kept, set_aside, state, suspend};
use common::{PATIENCE, busybox};
use dhow_testkit::engine::signal;
use dhow_testkit::{Error, Result, place, wait};

/// Rule 13.2: a machine that the configuration describes otherwise boots.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_changed_configuration_boots_the_machine_anew_and_names_what_changed() -> Result<()> {
    let engine = engine()?;
    engine.dhow(["down", "--suspend"])?.limit(PATIENCE).ok()?;
    assert!(state(&engine, "sleep").is_dir());
    engine.dhow(["config", "set", "machine.cpus", "1"])?.limit(SOON).ok()?;
    engine.up()?;
    set_aside(&engine, "cpus")
}

/// Rule 13.2: a data disk that was touched meanwhile does not fit a memory of before.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_data_disk_that_changed_meanwhile_boots_the_machine_anew() -> Result<()> {
    let engine = engine()?;
    engine.dhow(["down", "--suspend"])?.limit(PATIENCE).ok()?;
    let path = engine.machine().join("data.img");
    let now = fs::FileTimes::new().set_modified(SystemTime::now());
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_times(now))
        .map_err(Error::io("touch", &path))?;
    engine.up()?;
    set_aside(&engine, "data disk")
}

/// Rule 16.1: the hypervisor is killed while it is being saved, at several moments. What was synced is there, and nothing is resumed
/// that is not whole.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_hypervisor_that_is_killed_while_the_machine_is_saved_dies_like_any_other() -> Result<()> {
    let engine = engine()?;
    for delay in [50, 250, 450, 650] {
        let hypervisor = engine.status()?.hypervisor().unwrap_or_default();
        let command = engine.command()?;
        let suspending = std::thread::spawn(move || {
            let mut command = command;
            command.arg("suspend").stdout(Stdio::null()).stderr(Stdio::null()).status()
        });
        wait::nap(Duration::from_millis(delay));
        // It may have ended in order by now.
        signal(hypervisor, "KILL").ok();
        drop(suspending.join());
        engine.up()?;
        engine.wait_status("the machine to run", PATIENCE, |status| status.runs())?;
        kept(&engine)?;
    }
    Ok(())
}

/// Rule 16.1: a state that cannot be written keeps the machine awake, and whoever asked is told: before anything was stopped, and after
/// its hypervisor had ended, when the same guest goes on in another.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_machine_whose_state_cannot_be_written_goes_on_and_says_so() -> Result<()> {
    let engine = engine()?;
    let docker = engine.docker();
    docker.ok(["run", "-d", "--name", "stays", busybox(), "sleep", "1000"])?;
    let process = ["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "stays"];
    let (started, hypervisor) = (docker.ok(process)?, engine.status()?.hypervisor());
    for (name, same) in [("sleep.new", true), ("sleep", false)] {
        let blocked = state(&engine, name);
        place::write(&blocked, b"in the way")?;
        let said = engine.dhow(["suspend"])?.limit(SOON).outcome()?;
        assert_ne!(said.code(), Some(0));
        let status = engine.status()?;
        assert_eq!((status.runs(), status.hypervisor() == hypervisor), (true, same));
        assert_eq!(docker.ok(process)?, started);
        fs::remove_file(&blocked).map_err(Error::io("remove", &blocked))?;
    }
    suspend(&engine)?;
    assert_eq!(docker.ok(process)?, started);
    Ok(())
}
