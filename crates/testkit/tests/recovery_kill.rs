//! Promise: whatever is killed, the engine notices, says so, and goes on; what was synced is there [6.3, 6.9, 16.1].
//! Each test breaks an engine and waits until it is well, so that they can share one.

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, busybox};
use dhow_testkit::engine::{Status, alive, signal};
use dhow_testkit::{Engine, Error, Image, Result, place, wait};

/// What this test writes, and none before it has written.
fn words() -> String {
    format!("kept by {}", std::process::id())
}

/// An engine with a file that a container has fsynced to a volume.
fn engine_with_a_synced_file() -> Result<Engine> {
    let engine = Engine::sturdy()?;
    Image::Busybox.ensure(engine.docker())?;
    let write = format!("echo {} | dd of=/data/file conv=fsync 2>/dev/null", words());
    engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "sh", "-c", &write])?;
    Ok(engine)
}

fn assert_file_is_there(engine: &Engine) -> Result<()> {
    let read = engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "cat", "/data/file"])?;
    assert_eq!(read, words());
    Ok(())
}

fn pid(found: Option<u32>, whose: &str) -> Result<u32> {
    found.ok_or_else(|| Error::Missing {
        what: format!("the {whose}'s process ID"),
        hint: "dhow status".into(),
    })
}

/// Kills, waits until it is reported, waits until it has recovered: the statuses of both moments.
fn kill_and_watch(engine: &Engine, victims: &[u32]) -> Result<(Status, Status)> {
    let failures = engine.status()?.retries();
    for victim in victims {
        signal(*victim, "KILL")?;
    }
    let noticed = engine.wait_status("the death to be reported", Duration::from_secs(30), |status| {
        !status.runs() || !status.trouble().is_empty() || status.retries() != failures
    })?;
    let before = victims.to_vec();
    let recovered = engine.wait_status("the machine to run again", PATIENCE, |status| {
        let fresh = |pid: Option<u32>| pid.is_some_and(|pid| !before.contains(&pid));
        status.runs() && fresh(status.hypervisor()) && fresh(status.supervisor())
    })?;
    wait::until("docker to answer again", PATIENCE, || engine.docker().answers().then_some(()))?;
    Ok((noticed, recovered))
}

/// Rule 6.9 and issue 2: the daemon is killed while a container runs and a build streams. The container goes on; a new
/// daemon serves it within 2 s.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_killed_daemon_stops_no_container_and_the_next_one_serves_it_in_two_seconds() -> Result<()> {
    let engine = engine_with_a_synced_file()?;
    let docker = engine.docker();
    docker.ok(["rm", "-f", "counter"])?;
    let count = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done";
    docker.ok(["run", "-d", "--name", "counter", busybox(), "sh", "-c", count])?;
    let dir = tempfile::tempdir().map_err(Error::io("create directory in", "/tmp"))?;
    place::write(&dir.path().join("Dockerfile"), format!("FROM {}\nRUN sleep 120\n", busybox()))?;
    let mut build = docker.run(["build", "--progress", "plain"]).arg(dir.path()).start()?;
    let before = engine.status()?;
    let started = docker.ok(["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "counter"])?;

    let daemon = pid(before.daemon(), "daemon")?;
    signal(daemon, "KILL")?;
    wait::until("the daemon to be gone", PATIENCE, || (!alive(daemon)).then_some(()))?;
    let began = Instant::now();
    engine.up()?;
    let listed = docker.ok(["ps", "--format", "{{.Names}}"])?;
    let took = began.elapsed();

    dhow_testkit::run::kill(&mut build);
    assert!(listed.lines().any(|name| name == "counter"), "{listed}");
    assert_eq!(docker.ok(["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "counter"])?, started);
    let after = engine.status()?;
    assert_eq!((after.supervisor(), after.hypervisor()), (before.supervisor(), before.hypervisor()));
    let last = || docker.ok(["logs", "-n", "1", "counter"]);
    let then = last()?;
    wait::until("the container to go on counting", PATIENCE, || last().ok().filter(|now| *now != then))?;
    assert!(took < Duration::from_secs(2), "a new daemon served after {took:?}");
    docker.ok(["rm", "-f", "counter"]).map(drop)
}

/// Rule 6.3 and 16.1: the hypervisor is killed.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_killed_hypervisor_is_reported_and_started_again_with_what_was_synced() -> Result<()> {
    let engine = engine_with_a_synced_file()?;
    let hypervisor = pid(engine.status()?.hypervisor(), "hypervisor")?;
    kill_and_watch(&engine, &[hypervisor])?;
    assert_file_is_there(&engine)
}

/// Rule 6.3 and 16.1: the supervisor is killed; its hypervisor does not outlive it.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_killed_supervisor_takes_its_hypervisor_along_and_both_come_back() -> Result<()> {
    let engine = engine_with_a_synced_file()?;
    let status = engine.status()?;
    let (supervisor, hypervisor) =
        (pid(status.supervisor(), "supervisor")?, pid(status.hypervisor(), "hypervisor")?);
    signal(supervisor, "KILL")?;
    wait::until("the hypervisor to end with it", Duration::from_secs(10), || {
        (!alive(hypervisor)).then_some(())
    })?;
    engine.wait_status("a new supervisor and hypervisor", PATIENCE, |status| {
        status.runs() && status.supervisor().is_some_and(|pid| pid != supervisor)
    })?;
    wait::until("docker to answer again", PATIENCE, || engine.docker().answers().then_some(()))?;
    assert_file_is_there(&engine)
}

/// Rule 6.3: a dockerd or containerd that dies is noticed in seconds, restarted, and reported.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_killed_dockerd_or_containerd_is_restarted_and_counted() -> Result<()> {
    let engine = engine_with_a_synced_file()?;
    for service in ["dockerd", "containerd"] {
        let before = engine.status()?.restarts(service);
        let kill = format!("kill -9 $(pidof {service})");
        // The client loses its answer with the dockerd that it asked: its status says nothing.
        engine
            .docker()
            .run(["run", "--rm", "--privileged", "--pid=host", busybox(), "sh", "-c", &kill])
            .limit(Duration::from_secs(10))
            .outcome()
            .ok();
        engine.wait_status(&format!("the restart of {service} to be counted"), PATIENCE, |status| {
            status.restarts(service) > before
        })?;
        wait::until("docker to answer again", PATIENCE, || engine.docker().answers().then_some(()))?;
        engine.wait_status("the machine to be well", PATIENCE, |status| {
            status.runs() && status.trouble().is_empty()
        })?;
        assert_file_is_there(&engine)?;
    }
    Ok(())
}

/// Rule 16.1: all of them at once.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn with_everything_killed_the_next_up_has_what_was_synced() -> Result<()> {
    let engine = engine_with_a_synced_file()?;
    let status = engine.status()?;
    for victim in [status.daemon(), status.supervisor(), status.hypervisor()].into_iter().flatten() {
        // One may have ended with another before its turn came.
        signal(victim, "KILL").ok();
    }
    engine.up()?;
    assert_file_is_there(&engine)
}

/// Rule 16.3: a stop leaves no process and no socket.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn down_leaves_no_process_and_no_socket() -> Result<()> {
    let engine = engine_with_a_synced_file()?;
    let status = engine.status()?;
    engine.down()?;
    for pid in [status.daemon(), status.supervisor(), status.hypervisor()].into_iter().flatten() {
        wait::until("every process to end", Duration::from_secs(5), || (!alive(pid)).then_some(()))?;
    }
    let run = engine.home().join("run");
    let entries = std::fs::read_dir(&run).map_err(Error::io("list", &run))?;
    let sockets: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            std::os::unix::net::UnixStream::connect(path).is_ok()
                || path.extension().is_some_and(|end| end == "sock")
        })
        .collect();
    assert!(sockets.is_empty(), "{sockets:?}");
    engine.up()?;
    assert_file_is_there(&engine)
}
